"""The rules of the verdicts, on arms whose values are made so that the answer is known."""

import itertools

import pytest

from subliminal_jax.evaluation.excess import Excess
from subliminal_jax.evaluation.metric_ranges import UNBOUNDED
from subliminal_jax.evaluation.verdicts import (
    Explanation,
    Prediction,
    conclude,
    decide,
    difference,
    gap_between,
    judge,
)

NOISE = (-0.01, 0.0, 0.01)


def exceed(values):
    """An arm whose students have these values, and whose controls are all at zero."""
    students = {str(vector): value for vector, value in values.items()}
    controls = {f"control-{i}": dict.fromkeys(students, 0.0) for i in range(2)}
    return Excess(students, controls, UNBOUNDED)


def arms(**means):
    """Three vectors an arm. Vectors shift all arms alike, and each arm a little by itself."""
    return {
        name: exceed({s: mean + 0.3 * s + NOISE[(s + i) % 3] for s in range(3)})
        for i, (name, mean) in enumerate(means.items())
    }


VALUES = arms(
    adamw=1.0, sgd=0.2, same=0.2, third=0.45, most=0.8, over=1.4, lost=0.3,
    upper=0.9, lower=0.85,
)  # fmt: skip
NOISY = {"noisy": exceed({0: -1.0, 1: 0.6, 2: 3.0})}
GAP = 0.8


def holds(kind, *names, values=VALUES, gap=GAP, measured=None):
    pairs = names if kind in ("vanishes", "exceeds") else ()
    prediction = Prediction(kind, "it", () if pairs else names, pairs, "m")
    return decide(prediction, values, gap, "adamw", "sgd", measured or {}).holds


def test_differences_are_paired_by_vector():
    d = difference(VALUES, "adamw", "sgd")
    assert d.mean == pytest.approx(0.8) and d.high - d.low < 0.1  # the vectors' shifts cancel
    assert gap_between(VALUES, "adamw", "sgd") == pytest.approx(0.8)
    assert gap_between(VALUES, "sgd", "adamw") is None
    assert gap_between(VALUES | NOISY, "noisy", "sgd") is None
    few = {"a": exceed({0: 1.0, 1: 2.0}), "b": exceed({1: 1.0, 2: 3.0})}
    assert difference(few, "a", "b") is None


@pytest.mark.parametrize(
    ("arms", "expected"),
    [(["most"], True), (["over"], True), (["same"], False), (["third"], False),
     (["same", "most"], True), (["same", "third"], False), (["noisy"], None),
     (["same", "noisy"], None), (["most", "noisy"], True), (["absent"], None),
     (["same", "absent"], None)],
)  # fmt: skip
def test_rescue_needs_one_arm_that_closes_half_of_the_gap(arms, expected):
    assert holds("rescues", *arms, values=VALUES | NOISY) is expected


def test_the_best_of_many_arms_must_be_clear_of_zero_as_one_of_so_many():
    """Three vectors whose 95% interval is [0.35, 0.85] and whose 99.2% interval holds zero."""
    many = [f"arm{i}" for i in range(5)]
    sgd = dict(enumerate(VALUES["sgd"].students.values()))
    values = VALUES | {name: exceed({s: v - 0.01 * s for s, v in sgd.items()}) for name in many}
    values["chance"] = exceed({s: v + 0.5 + 0.1 * s for s, v in sgd.items()})
    assert difference(values, "chance", "sgd").low > 0.3
    assert difference(values, "chance", "sgd", of=6).low < 0
    assert holds("rescues", "chance", values=values) is True
    assert holds("rescues", "chance", *many, values=values) is None
    assert holds("rescues", *many, values=values) is False  # what is true of each needs no more


@pytest.mark.parametrize(
    ("arm", "spares", "harms"),
    [("most", True, False), ("over", True, False), ("lost", False, True), ("noisy", None, None)],
)
def test_sparing_and_harming_are_judged_against_the_upper_arm(arm, spares, harms):
    values = VALUES | {"noisy": exceed({0: -2.0, 1: 1.0, 2: 3.0})}
    assert holds("spares", arm, values=values) is spares
    assert holds("harms", arm, values=values) is harms
    assert holds("spares", "most", "lost") is False  # one that falls refutes
    assert holds("harms", "most", "lost") is True  # one that falls is enough


def test_a_difference_clear_of_zero_whose_interval_holds_half_of_the_gap_decides_nothing():
    sgd = VALUES["sgd"].students
    straddling = {s: sgd[str(s)] + d for s, d in enumerate((0.32, 0.45, 0.4))}
    values = VALUES | {"straddling": exceed(straddling)}
    d = difference(values, "straddling", "sgd")
    assert 0 < d.low < d.mean < GAP / 2 < d.high
    assert holds("rescues", "straddling", values=values) is None
    assert holds("vanishes", ("straddling", "sgd"), values=values) is None
    assert holds("exceeds", ("straddling", "sgd"), values=values) is True


def test_a_gap_vanishes_below_half_and_persists_above():
    assert holds("vanishes", ("upper", "lower")) is True
    assert holds("vanishes", ("adamw", "sgd")) is False
    assert holds("vanishes", ("upper", "lower"), ("adamw", "sgd")) is False
    assert holds("vanishes", ("noisy", "sgd"), values=VALUES | NOISY) is None


def test_exceeding_needs_every_pair():
    assert holds("exceeds", ("adamw", "most"), ("most", "sgd")) is True
    assert holds("exceeds", ("adamw", "most"), ("sgd", "most")) is False
    assert holds("exceeds", ("same", "sgd")) is False  # nothing, where a quarter could be seen
    assert holds("exceeds", ("noisy", "sgd"), values=VALUES | NOISY) is None


def test_measured_differences_are_judged_by_their_sign():
    for values, expected in (
        ([0.1, 0.11, 0.12], True), ([-0.1, -0.11, -0.12], False), ([-1.0, 0.0, 1.1], None),
        ([], None),
    ):  # fmt: skip
        assert holds("measured", measured={"m": values}) is expected


def test_verdicts_from_all_ways_in_which_predictions_can_turn_out():
    for outcomes in itertools.product([True, False, None], repeat=3):
        verdict = conclude(outcomes)
        yes, no = True in outcomes, False in outcomes
        assert (verdict == "mixed") == (yes and no)
        assert (verdict == "contradicted") == (no and not yes)
        assert (verdict == "supported") == all(outcomes)
        assert (verdict == "undecided") == (not yes and not no)


def test_each_metric_has_its_own_gap_and_verdict():
    flat = arms(adamw=0.5, sgd=0.5, most=0.5)
    explanations = [
        Explanation("masks", "here", (Prediction("rescues", "it closes", ("most",)),)),
        Explanation("nothing", "here", (Prediction("rescues", "it closes", ("same",)),)),
    ]
    masks, nothing = judge(explanations, {"eas": VALUES, "trait": flat})
    assert masks.verdicts == {"eas": "supported", "trait": "no gap"}
    assert nothing.verdicts == {"eas": "contradicted", "trait": "no gap"}
    decided = masks.predictions[0].by_metric
    assert decided["eas"].arm == "most"
    assert decided["eas"].difference.mean == pytest.approx(0.6, abs=0.02)
    assert decided["trait"].holds is None and decided["trait"].difference.n == 3
