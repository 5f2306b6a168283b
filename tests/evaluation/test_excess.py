"""What arms transmit of several vectors beyond controls that all vectors share."""

import numpy as np
import pytest

from subliminal_jax.evaluation.excess import METRICS, Excess, VectorRun, compare
from subliminal_jax.evaluation.metric_ranges import UNBOUNDED
from subliminal_jax.evaluation.over_vectors import control_difference, vector_interval
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.student_rows import StudentRow
from tests.planted import fill

TRAITS = tuple(f"t{i}" for i in range(6))
DRAWS = ("control-0", "control-1", "control-2")
RNG = np.random.default_rng(0)


def draw(mean, traits=TRAITS, draws=DRAWS):
    return Excess(
        {t: float(mean + RNG.normal()) for t in traits},
        {d: {t: float(RNG.normal()) for t in traits} for d in draws},
        UNBOUNDED,
    )


def test_the_difference_is_that_of_students_and_controls_vector_by_vector():
    excess = draw(2.0)
    students, controls = excess.stack(TRAITS, DRAWS)
    assert excess.difference() == control_difference(students, controls)
    by_trait = excess.by_trait()
    assert by_trait["t3"] == pytest.approx(students[3] - controls[:, 3].mean())
    assert np.mean([*by_trait.values()]) == pytest.approx(excess.difference().mean)
    assert excess.difference(0.99).high > excess.difference().high


def test_two_arms_are_compared_on_the_vectors_and_draws_that_both_have():
    first = draw(2.0, traits=TRAITS[:5], draws=DRAWS)
    second = draw(0.5, traits=TRAITS[1:], draws=DRAWS[1:])
    both = first.minus(second)
    assert tuple(both.students) == TRAITS[1:5] and tuple(both.controls) == DRAWS[1:]
    assert both.students["t2"] == first.students["t2"] - second.students["t2"]
    expected = first.stack(TRAITS[1:5], DRAWS[1:])[1] - second.stack(TRAITS[1:5], DRAWS[1:])[1]
    np.testing.assert_array_equal(both.stack(TRAITS[1:5], DRAWS[1:])[1], expected)
    comparison = compare(second, first)
    assert comparison.reference_lead == first.minus(second).difference()
    assert comparison.student == vector_interval([*second.students.values()])


def test_without_a_vector_or_a_control_there_is_no_difference():
    alone = draw(1.0, draws=())
    assert alone.difference() is None and alone.by_trait() == {}
    assert compare(alone, None).difference is None and compare(alone, None).student is not None
    nothing = Excess({}, {"control-0": {}}, UNBOUNDED)
    assert nothing.difference() is None and compare(nothing, alone).student is None


def make_row(data, loss, value=0.5):
    names = {"eas": [[value, 9.0]] * 6, "shift_component": [[value, 9.0]] * 6}
    measured = {**names, "word_log_prob": [value] * 6}
    return StudentRow("sgd", 0.1, 0, data, False, heldout_loss=loss, measured=measured)


def test_a_best_arm_leaves_students_and_controls_out_that_blew_up():
    run = fill(
        VectorRun, layer=0, traits=TRAITS, controls=DRAWS, words=TRAITS, references=TRAITS,
        base_losses=dict.fromkeys((*TRAITS, *DRAWS), 2.0),
    )  # fmt: skip
    rows = [make_row(t, 1.5) for t in TRAITS[:-1]] + [make_row(TRAITS[-1], 7.0, value=99.0)]
    rows += [make_row(d, 2.01, value=0.1) for d in DRAWS[:-1]] + [make_row(DRAWS[-1], 3.0, 99.0)]
    choice = RateChoice("sgd", 8, (0.05, 0.1), (1.6, 1.5), 0.1, False)
    arm = run.compare_best(choice, rows)
    assert arm.unstable == (TRAITS[-1], DRAWS[-1])
    assert (arm.gain.mean, arm.gain.n) == (pytest.approx(0.5), 5)
    for metric in METRICS:
        assert arm.metrics[metric].difference.mean == pytest.approx(0.4)
        assert arm.metrics[metric].control == pytest.approx(0.1)
