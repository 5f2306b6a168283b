"""Verdicts follow from intervals, by the rules of docs/method.md."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subliminal_jax.evaluation.claims import (
    CONTRADICTED,
    INCONCLUSIVE,
    OWN_QUESTION,
    REFUTED,
    REPRODUCED,
    Claim,
    Evidence,
    Margin,
    Presupposition,
)
from subliminal_jax.evaluation.multiplicity import correct_families
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.p_values import correct_holm, p_value
from subliminal_jax.evaluation.statistics import (
    Interval,
    auc_interval,
    mean_interval,
    rate_interval,
    spearman_interval,
)
from subliminal_jax.serialization import from_json, to_json

TENTH = Margin(0.1, "a tenth")


def verdict(*args, **further) -> str:
    return Evidence(*args, **further).judge()


def interval(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 3, 0.95, "t")


UP, DOWN, OPEN, NONE = interval(0.3, 0.4), interval(-0.4, -0.3), interval(-0.2, 0.3), None


@pytest.mark.parametrize(
    ("low", "high", "claimed", "expected"),
    [
        (0.1, 0.2, "above", REPRODUCED),
        (-0.2, -0.1, "above", CONTRADICTED),
        (-0.2, -0.1, "below", REPRODUCED),
        (0.1, 0.2, "below", CONTRADICTED),
        (-0.2, -0.1, "different", REPRODUCED),
        (-0.1, 0.1, "different", INCONCLUSIVE),
        (-0.1, 0.1, "above", INCONCLUSIVE),
        (-0.01, 0.1, "above", INCONCLUSIVE),
        (math.nan, math.nan, "above", INCONCLUSIVE),
    ],
)
def test_a_verdict_needs_an_interval_clear_of_zero(low, high, claimed, expected):
    assert verdict(interval(low, high), claimed) == expected


def test_no_interval_reproduces_nothing():
    assert verdict(None, margin=TENTH) == INCONCLUSIVE


def test_refuted_is_what_lies_within_the_margin_and_only_that():
    assert verdict(interval(-0.05, 0.09), margin=TENTH) == REFUTED
    assert verdict(interval(-0.05, 0.11), margin=TENTH) == INCONCLUSIVE
    assert verdict(interval(0.45, 0.55), null=0.5, margin=TENTH) == REFUTED
    assert (
        verdict(interval(-0.05, -0.01), margin=TENTH) == CONTRADICTED
    )  # clear of zero, however small


@pytest.mark.parametrize("broken", [OPEN, DOWN, NONE])
def test_reproduced_needs_what_the_sentence_presupposes(broken):
    def judge(effect, presupposed):
        return verdict(effect, presupposes=(Presupposition("it transmits", presupposed),))

    assert judge(UP, UP) == REPRODUCED
    assert judge(UP, broken) == INCONCLUSIVE
    assert judge(DOWN, broken) == CONTRADICTED  # against the claim, whether it transmits or not
    assert (
        verdict(UP, presupposes=(Presupposition("inside its grid", holds=False),)) == INCONCLUSIVE
    )


@pytest.mark.parametrize(("presupposed", "refuted"), [(UP, True), (OPEN, False), (DOWN, False)])
def test_two_things_that_are_not_there_refute_nothing(presupposed, refuted):
    within = interval(-0.05, 0.09)

    def judge(**further):
        presupposes = (Presupposition("it transmits", presupposed, **further),)
        return verdict(within, margin=TENTH, presupposes=presupposes)

    assert judge() == (REFUTED if refuted else INCONCLUSIVE)
    assert judge(to_refute=UP.mean - 0.01) == judge()
    assert judge(to_refute=UP.mean + 0.01) == INCONCLUSIVE  # there, and too small to compare
    assert judge(to_refute=None) == REFUTED  # a part of what is claimed


def test_the_same_is_shown_by_the_margin_and_contradicted_beyond_it():
    def judge(low, high):
        return verdict(interval(low, high), "same", margin=TENTH)

    assert judge(-0.05, 0.08) == REPRODUCED
    assert judge(-0.05, 0.12) == INCONCLUSIVE
    assert judge(0.05, 0.3) == INCONCLUSIVE  # clear of zero, and perhaps no more than the margin
    assert judge(0.11, 0.3) == CONTRADICTED
    with pytest.raises(ValueError, match="needs a margin"):
        Evidence(UP, "same")


@pytest.mark.parametrize("count", [0, 1])
def test_no_alarm_among_few_sets_shows_no_low_rate(count):
    assert verdict(rate_interval(count, 10), "below", null=0.1) == INCONCLUSIVE
    assert verdict(rate_interval(0, 40), "below", null=0.1) == REPRODUCED
    assert verdict(rate_interval(10, 20), "below", null=0.1) == CONTRADICTED


def draw_intervals(seed: int) -> list[Interval]:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=12), rng.normal(size=12)
    return [
        mean_interval(x[:3]),
        vector_interval(rng.lognormal(size=8)),
        -vector_interval(rng.lognormal(size=5)),
        rate_interval(int(rng.integers(1, 20)), 20),
        auc_interval(x + rng.normal(), y),
        spearman_interval(x, y + rng.normal() * x),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_a_p_value_is_at_most_five_percent_where_the_interval_excludes_the_null(seed):
    for each in draw_intervals(seed):
        for null in np.random.default_rng(seed).uniform(0.02, 0.98, 5):
            is_out = not each.low <= null <= each.high
            assert (p_value(each, float(null)) <= 0.05) == is_out, (each, null)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("make", [mean_interval, vector_interval])
def test_the_interval_at_one_minus_p_ends_at_the_null(make, seed):
    values = np.random.default_rng(seed).lognormal(size=8)
    null = values.mean() * np.random.default_rng(seed).uniform(0.3, 1.5)
    p = p_value(make(values), null)
    ends = make(values, 1 - p)
    assert min(abs(ends.low - null), abs(ends.high - null)) == pytest.approx(0, abs=1e-6)


def test_holm_is_the_table_of_the_textbook():
    assert correct_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert correct_holm([0.9, 0.8]) == [1.0, 1.0]
    assert correct_holm([]) == []


def make_claim(name: str, effect: Interval | None, **changes) -> Claim:
    values = {"section": "A et al. 2026, section 3", "model": "shipped", **changes}
    return Claim(
        id=f"e/{name}",
        claim=name,
        setting="",
        number="",
        seeds=3,
        evidence=Evidence(effect, margin=Margin(1.0, "one")),
        **values,
    )


def test_a_family_is_a_section_of_a_paper_on_a_model():
    effect = mean_interval([0.31, 0.4, 0.55])  # p = 0.028
    rows = [make_claim(str(i), effect) for i in range(2)]
    others = [
        make_claim("panel", effect, section="A et al. 2026, section 3, figure 2"),
        make_claim("model", effect, model="shipped-small"),
        make_claim("section", effect, section="A et al. 2026, section 4"),
        make_claim("own", effect, section=OWN_QUESTION),
        make_claim("nothing", None),
    ]
    corrected = {row.claim.claim: row for row in correct_families([*rows, *others])}
    assert {name: row.rows for name, row in corrected.items()} == {
        **dict.fromkeys(("0", "1", "panel"), 3),
        **dict.fromkeys(("model", "section", "own"), 1),
        "nothing": 0,
    }
    assert corrected["0"].verdict == REFUTED  # not clear as one of three, and within the margin
    assert corrected["own"].verdict == corrected["own"].claim.verdict == REPRODUCED
    assert corrected["0"].p == pytest.approx(3 * corrected["own"].p)


def test_a_claim_is_judged_by_its_evidence_wherever_it_was_stored():
    claim = make_claim("a", UP)
    stored = {**to_json(claim), "verdict": CONTRADICTED}
    assert from_json(Claim, stored) == claim
    with pytest.raises(ValueError, match="no verdict"):
        replace(claim, evidence=None, verdict="")


FINITE = st.floats(-1e3, 1e3)


@given(FINITE, FINITE, st.floats(-10, 10))
def test_an_interval_scales_with_its_quantity(a, b, factor):
    scaled = factor * interval(min(a, b), max(a, b))
    assert scaled.low <= scaled.mean + 1e-9 and scaled.mean <= scaled.high + 1e-9
    assert scaled.high - scaled.low == pytest.approx(abs(factor) * abs(a - b), abs=1e-6)


def test_an_interval_is_written_by_its_format():
    assert f"{interval(0.4, 0.6):+.2f}" == "+0.50 [0.40, 0.60]"
    assert f"{-100 * interval(0.4, 0.6):.0f}" == "-50 [-60, -40]"
    assert f"{interval(-0.001, 0.0006):+.2f}" == "+0.00 [0.00, 0.00]"
    assert f"{interval(math.nan, math.nan):.1f}" == "undefined"
