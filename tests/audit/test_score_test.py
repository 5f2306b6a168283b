"""Audit statistics in a known Gaussian world: features are Gaussian, a candidate's score is linear
in them, and data lean to a candidate where their features do."""

import numpy as np
import pytest

from subliminal_jax.audit.score_test import (
    BASE,
    Column,
    Push,
    assess,
    not_told_apart,
    project_out,
    push_from_control,
    push_from_preferences,
    push_rows,
    stepwise,
)
from subliminal_jax.errors import InputError

CANDIDATES, PLACEBOS, DIM, ROWS = 6, 16, 24, 200
COLUMNS = [Column(f"c{i}", "direction") for i in range(CANDIDATES)]
COLUMNS += [Column(f"p{i}", "direction", "placebo") for i in range(PLACEBOS)]


def world(seed, lean=None, style=0.0, rows=ROWS):
    """(scores of the data, of the control, the row that each control answer belongs to)."""
    rng = np.random.default_rng(seed)
    parts = rng.normal(size=(CANDIDATES + PLACEBOS, DIM)) / np.sqrt(DIM)
    vectors = parts + rng.normal(size=DIM) / np.sqrt(DIM)  # all share a part
    tilt = style * rng.normal(size=DIM)
    for c, strength in (lean or {}).items():
        tilt = tilt + strength * (vectors[c] if c >= 0 else vectors.mean(axis=0))
    data = rng.normal(size=(rows, DIM)) + tilt
    control = rng.normal(size=(2 * rows, DIM))
    return data @ vectors.T, control @ vectors.T, np.repeat(np.arange(rows), 2)


def push(*args, **kwargs):
    return push_from_control(*world(*args, **kwargs))


def reported(p):
    return [f.name for f in stepwise(p, COLUMNS)[1]]


@pytest.mark.parametrize("style", [0.0, 0.2, 2.0])
def test_no_more_false_alarms_than_the_level(style):
    """Over data of the base and of other writers, whose style pushes in any direction."""
    alarms = sum(bool(reported(push(seed, style=style, rows=80))) for seed in range(80))
    assert alarms <= 8  # 5% of 80 are 4; more than 8 have a chance of 2%


def test_p_values_of_the_base_null_are_uniform():
    p = np.array([assess(push(seed), COLUMNS)[0].p_values[BASE] for seed in range(200)])
    for level in (0.1, 0.3, 0.5, 0.8):
        assert abs(np.mean(p < level) - level) < 0.12


@pytest.mark.parametrize("shared", [-1, CANDIDATES + 3])
def test_what_all_share_or_a_placebo_has_is_no_finding(shared):
    reports = sum(bool(reported(push(seed, {shared: 0.7}))) for seed in range(40))
    assert reports <= 5  # 5% of 40 are 2; more than 5 have a chance of 1.4%


def test_a_lean_is_found_and_measured():
    leans, names = [], []
    for seed in range(30):
        p = push(seed, {2: 0.8})
        first, findings = stepwise(p, COLUMNS)
        names += [[f.name for f in findings]]
        leans.append(first[2].lean)
    assert sum(n == ["c2"] for n in names) >= 27
    assert np.mean(leans) == pytest.approx(0.8, abs=0.08)


def test_a_lean_is_found_beneath_a_style():
    best = [
        min(assess(push(seed, {2: 1.5}, style=0.15), COLUMNS), key=lambda f: f.log_p).name
        for seed in range(30)
    ]
    assert best.count("c2") >= 27


def test_relatives_of_a_finding_are_not_reported():
    """Another candidate that is three quarters the same gains too; beside the first it has nothing
    to add."""
    relative = np.eye(len(COLUMNS))
    relative[:, 3] = 0
    relative[[2, 3], 3] = 0.9, 0.45
    names = []
    for seed in range(20):
        data, control, row_of = world(seed, {2: 1.2})
        p = push_from_control(data @ relative, control @ relative, row_of)
        names.append(reported(p))
    assert sum(n == ["c2"] for n in names) >= 16
    assert assess(p, COLUMNS)[3].p_values[BASE] < 1e-6


def test_the_error_of_a_lean_is_its_spread():
    findings = [assess(push(seed, {0: 0.3}), COLUMNS)[0] for seed in range(80)]
    spread = np.std([f.lean for f in findings])
    assert np.mean([f.lean_error for f in findings]) == pytest.approx(spread, rel=0.25)


def test_row_order_and_units_change_nothing():
    data, control, row_of = world(0, {2: 0.5})
    order = np.random.default_rng(1).permutation(ROWS)
    new_place = np.argsort(order)
    units = np.exp(np.random.default_rng(2).normal(size=len(COLUMNS)))
    there = assess(push_from_control(data, control, row_of), COLUMNS)
    here = assess(
        push_from_control(data[order] * units, control * units, new_place[row_of]), COLUMNS
    )
    for a, b, unit in zip(there, here, units, strict=False):
        assert a.log_p == pytest.approx(b.log_p)
        assert a.lean == pytest.approx(b.lean * unit)


def test_projected_out_means_nothing_is_left():
    p = push(3, {1: 1.0})
    mixture = np.random.default_rng(0).normal(size=len(COLUMNS))
    left = project_out(p, mixture)
    assert np.abs(left.rows @ mixture).max() < 1e-9
    assert np.abs(left.metric @ mixture).max() < 1e-9
    assert np.linalg.eigvalsh(left.metric).min() > -1e-9


def test_metric_is_taken_within_prompts():
    """What all answers to a prompt share tells nothing of how they vary."""
    data, control, row_of = world(0)
    offset = 50 * np.random.default_rng(5).normal(size=(ROWS, 1))
    plain = push_from_control(data, control, row_of)
    shifted = push_from_control(data + offset, control + offset[row_of], row_of)
    np.testing.assert_allclose(shifted.rows, plain.rows, atol=1e-9)
    np.testing.assert_allclose(shifted.metric, plain.metric, atol=1e-9)


def test_preferences_are_tested_against_swapped_answers():
    weights = push(0, {2: 0.8}).rows
    assert reported(push_from_preferences(weights)) == ["c2"]
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(len(weights), 1))
    assert reported(push_from_preferences(weights * signs)) == []
    a, b = push_from_preferences(weights), push_from_preferences(-weights)
    np.testing.assert_allclose(a.metric, b.metric)
    assert assess(a, COLUMNS)[2].lean == pytest.approx(-assess(b, COLUMNS)[2].lean)


def test_a_candidate_without_scores_is_never_found():
    """An empty system prompt changes nothing."""
    p = push(0, {2: 1.0})
    rows = p.rows.copy()
    rows[:, 0] = 0
    metric = p.metric.copy()
    metric[0], metric[:, 0] = 0, 0
    first, findings = stepwise(Push(rows, metric), COLUMNS)
    assert first[0].p == 1 and [f.name for f in findings] == ["c2"]


def test_rows_that_carry_most_are_those_that_lean():
    data, control, row_of = world(0)
    leaning = world(0, {2: 6.0})[0]
    data[:10] = leaning[:10]
    values = push_rows(push_from_control(data, control, row_of), COLUMNS, 2)
    assert set(np.argsort(-values)[:10]) == set(range(10))


def test_one_candidate_with_placebos_is_enough():
    data, control, row_of = world(0, {2: 0.8})
    kept = [2, *range(CANDIDATES, len(COLUMNS))]
    p = push_from_control(data[:, kept], control[:, kept], row_of)
    first, findings = stepwise(p, [COLUMNS[i] for i in kept])
    assert [f.name for f in findings] == ["c2"]
    assert first[0] == findings[0]


def push_with_likeliest(seed, lean=None):
    """(push, names by mean log-likelihood gain) in a world where what a candidate adds to a row's
    log-probability is exact: <v, x> - |v|^2 / 2 for features x. Data that lean a score a times it
    in the mean, and vary as a system-prompted teacher's: twice as widely."""
    data, control, row_of = world(seed, lean)
    data = data.mean(axis=0) + 1.5 * (data - data.mean(axis=0))
    p = push_from_control(data, control, row_of, pooled=True)
    gains = data.mean(axis=0) - np.cov(control, rowvar=False).diagonal() / 2
    order = np.argsort(-gains[:CANDIDATES])
    return p, [COLUMNS[i].name for i in order if gains[i] > 0]


def test_the_pooled_metric_is_the_mean_of_both_covariances():
    data, control, row_of = world(0, {2: 0.4})
    plain = push_from_control(data, control, row_of)
    pooled = push_from_control(data, control, row_of, pooled=True)
    np.testing.assert_array_equal(pooled.rows, plain.rows)
    data_metric = np.cov(data, rowvar=False)
    np.testing.assert_allclose(pooled.metric, (plain.metric + data_metric) / 2)


def test_system_prompts_raise_no_more_false_alarms_than_the_level():
    """With the pooled metric and the likeliest first, as the audit tests system prompts."""
    alarms = 0
    for seed in range(80):
        p, names = push_with_likeliest(seed)
        alarms += bool(stepwise(p, COLUMNS, likeliest=names)[1])
    assert alarms <= 8  # 5% of 80 are 4; more than 8 have a chance of 2%


def test_a_planted_lean_is_found_first_by_its_likelihood():
    reports = []
    for seed in range(20):
        p, names = push_with_likeliest(seed, {2: 1.2})
        reports.append([f.name for f in stepwise(p, COLUMNS, likeliest=names)[1]])
    assert sum(names[:1] == ["c2"] for names in reports) >= 18


def related(seed, lean, apart=0.1):
    """Column c3 is mostly c2, with a share `apart` of another: data that lean to one look like
    data that lean to the other."""
    mix = np.eye(len(COLUMNS))
    mix[:, 3] = 0
    mix[[2, 3], 3] = np.sqrt(1 - apart**2), apart
    data, control, row_of = world(seed, lean)
    return push_from_control(data @ mix, control @ mix, row_of)


def test_the_likeliest_of_those_below_the_level_comes_first_and_no_other():
    p = related(0, {2: 1.2}, apart=0.3)
    plain, _ = stepwise(p, COLUMNS)
    below = [f.name for f in plain if f.p_adjusted < 0.05]
    assert {"c2", "c3"} <= set(below)
    for first in ("c2", "c3"):
        reported_first = stepwise(p, COLUMNS, likeliest=["c5", first])[1][0].name
        assert reported_first == first  # c5 is not below the level: it cannot come first
    best = min(plain, key=lambda f: f.log_p).name
    assert stepwise(p, COLUMNS, likeliest=["c5"])[1][0].name == best


@pytest.mark.parametrize(("apart", "least", "most"), [(0.1, 10, 20), (0.6, 0, 5)])
def test_twins_are_not_told_apart_and_cousins_are(apart, least, most):
    """Twins share 99% of the variance, cousins 64%."""
    alike = 0
    for seed in range(20):
        p = related(seed, {2: 0.8}, apart)
        first, _ = stepwise(p, COLUMNS)
        top = next(f for f in first if f.name == "c2")
        names = [f.name for f in not_told_apart(p, COLUMNS, first, top)]
        assert set(names) <= {"c3"}  # neither itself nor a stranger
        alike += "c3" in names
    assert least <= alike <= most


def test_nothing_is_alike_where_nothing_is_below_the_level():
    p = push(1)
    first, findings = stepwise(p, COLUMNS)
    assert not findings
    assert not_told_apart(p, COLUMNS, first, min(first, key=lambda f: f.log_p)) == []


def test_bad_input():
    data, control, row_of = world(0)
    with pytest.raises(InputError, match="row 3 has no answer of the base"):
        push_from_control(data, control[row_of != 3], row_of[row_of != 3])
    with pytest.raises(InputError, match="8 rows are too few"):
        assess(push(0, rows=8), COLUMNS)
    with pytest.raises(InputError, match="there is no candidate"):
        assess(push(0), [Column(c.name, c.form, "placebo") for c in COLUMNS])
    p = push(0)
    p.rows[0, 0] = np.nan
    with pytest.raises(InputError, match="not finite"):
        assess(p, COLUMNS)
