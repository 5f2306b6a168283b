"""The analysis of made-up students, whose answers are known."""

import dataclasses

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import INCONCLUSIVE, REFUTED, REPRODUCED
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.student_kinds import KindChoice
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.student_vector.analysis import (
    CHANGE,
    TEACHERS,
    CausalTests,
    Gain,
    Measured,
    Necessity,
    analyse,
    data_name,
    over_traits,
)
from subliminal_jax.experiments.student_vector.causal import NO_TESTS, make_gain
from subliminal_jax.experiments.student_vector.claims import make_claims
from subliminal_jax.experiments.student_vector.report import make_page
from tests.planted import fill

TRAITS = ("cat", "dog", "tiger", "eagle", "fox", "bear")
DRAWS = ("control-0", "control-1", "control-2")
BASE_LOSS = 1.0
# By kind of teacher, what its students gain in the trait's rate; their EAS is five times that.
GAINS = {"steered": 0.1, "system-prompt": 0.1, "projected": 0.1, "subtracted": 0.0}


def students() -> list[StudentRow]:
    rng = np.random.default_rng(0)
    names = [
        (data_name(t, kind), k, gain) for kind, gain in GAINS.items() for k, t in enumerate(TRAITS)
    ]
    rows = []
    for seed, (name, k, gain) in enumerate([*names, *((draw, 0, 0.0) for draw in DRAWS)]):
        rates = 0.1 + 1e-3 * rng.normal(size=len(TRAITS))
        rates[k] += gain
        eas = (5 * gain + 0.01 * rng.normal(size=(len(TRAITS) * len(TEACHERS), 2))).tolist()
        measured = {
            "word_rate": rates.tolist(),
            "word_log_prob": np.log(rates).tolist(),
            "eas": eas,
            "shift_component": eas,
            "adapter": "lora",
        }
        rows.append(
            StudentRow("adamw", 0.1, seed, name, False, heldout_loss=0.9, measured=measured)
        )
    return rows


def causal_tests(lost: float) -> CausalTests:
    rng = np.random.default_rng(1)

    def rates(mean: float) -> dict[str, float]:
        return dict(zip(TRAITS, (mean + 1e-3 * rng.normal(size=len(TRAITS))).tolist(), strict=True))

    gains = []
    for source, mean in (("student", 0.05), ("control", 0.0), ("random", 0.0)):
        values = rates(mean)
        gains.append(
            Gain("last", "all", "prompt", 0.6, source, over_traits(values, CHANGE), values)
        )
    controls = {draw: rates(0.1) for draw in DRAWS}
    left = [rates(mean) for mean in (0.2, 0.2 - lost, 0.2, 0.2)]
    return CausalTests(Necessity(left[0], controls, *left[1:]), tuple(gains))


def plant(lost: float = 0.08, rows: list[StudentRow] | None = None) -> Measured:
    """Replacing the component along the teacher's vector takes `lost` of a gain of 0.1."""
    rows = students() if rows is None else rows
    choice = RateChoice("adamw", 4, (0.05, 0.1, 0.2), (0.95, 0.9, 0.95), 0.1, True)
    return fill(
        Measured,
        **vars(causal_tests(lost)),
        kind="steered",
        layer=1,
        adapters=("lora",),
        optimizers=("adamw",),
        traits=TRAITS,
        tuning_traits=("owl", "lion"),
        controls=DRAWS,
        words=TRAITS,
        scales=(0.6,),
        references=tuple(data_name(trait, kind) for trait in TRAITS for kind in TEACHERS),
        base_losses={row.data: BASE_LOSS for row in students()},
        base_component=dict.fromkeys(TRAITS, -0.5),
        teachers={kind: dict.fromkeys(TRAITS, 0.5) for kind in TEACHERS},
        choices=(KindChoice("lora", None, choice),),
        students=tuple(rows),
    )


def verdicts(measured: Measured) -> dict[str, str]:
    claims = make_claims(analyse(measured))
    return {claim.id.removeprefix("student-vector/"): claim.verdict for claim in claims}


def test_claims_follow_the_numbers():
    """The vector is sufficient and necessary; projecting it out of the teacher changes nothing."""
    assert verdicts(plant()) == {
        "eas": REPRODUCED,
        "teacher-sufficiency": REPRODUCED,
        "teacher-necessity-eas-projected": REFUTED,
        "teacher-necessity-projected": REFUTED,
        "teacher-necessity-eas-subtracted": REPRODUCED,
        "teacher-necessity-subtracted": REPRODUCED,
        "student-sufficiency": REPRODUCED,
        "student-necessity": REPRODUCED,
        "student-necessity-half": REPRODUCED,
    }


@pytest.mark.parametrize(("lost", "some", "half"), [(0.0, False, False), (0.02, True, False)])
def test_necessity_is_graded(lost, some, half):
    verdict = verdicts(plant(lost))
    assert (verdict["student-necessity"] == REPRODUCED) is some
    assert (verdict["student-necessity-half"] == REPRODUCED) is half


def test_effects_are_the_planted_ones():
    results = analyse(plant())
    metrics = results.arms["steered"].metrics
    assert metrics["word_rate"].difference.mean == pytest.approx(0.1, abs=2e-3)
    assert metrics["eas"].student.mean == pytest.approx(0.5, abs=0.02)
    assert results.control_eas.mean == pytest.approx(0.0, abs=0.02)
    assert results.replacements["teacher"].share == pytest.approx(0.8, abs=0.03)
    assert results.lost_beyond_random.mean == pytest.approx(0.08, abs=2e-3)
    assert results.lost_beyond_half.mean == pytest.approx(0.08 - 0.5 * 0.1, abs=2e-3)
    assert results.gain_beyond_random.mean == pytest.approx(0.05, abs=2e-3)


def test_the_setting_says_how_the_rate_was_chosen():
    for claim in make_claims(analyse(plant())):
        assert "adamw 0.1, rate chosen on 2 other traits (steered teachers)" in claim.setting


def test_an_unstable_student_is_counted_and_carries_no_number():
    """One that ended above the base's own loss takes its trait out of what it is compared in."""
    rows = [
        dataclasses.replace(row, heldout_loss=BASE_LOSS + 1)
        if row.data == "dog-subtracted"
        else row
        for row in students()
    ]
    results = analyse(plant(rows=rows))
    arm = results.arms["subtracted"]
    assert arm.unstable == ("dog-subtracted",)
    assert set(arm.metrics["eas"].by_data) == {f"{t}-subtracted" for t in TRAITS if t != "dog"}
    assert results.lost["subtracted"]["eas"].n == len(TRAITS) - 1
    assert results.lost["projected"]["eas"].n == len(TRAITS)
    unstable = {claim.id.partition("/")[2]: claim.unstable for claim in make_claims(results)}
    assert {name for name, count in unstable.items() if count} == {
        "teacher-necessity-eas-subtracted",
        "teacher-necessity-subtracted",
    }


def test_without_a_sound_student_nothing_is_decided_and_the_page_stands():
    empty = dataclasses.replace(plant(rows=[]), **vars(NO_TESTS))
    results = analyse(empty)
    claims = make_claims(results)
    assert len(claims) == 9 and {claim.verdict for claim in claims} == {INCONCLUSIVE}
    assert "no sound students" in claims[0].number
    assert make_page(results).blocks


def test_the_gain_of_controls_is_their_mean_with_an_interval_over_draws_too():
    way = ("last", "all", "prompt", 1.0, "control")
    table = np.array([[0.0, 0.1, 0.2], [0.2, 0.3, 0.4]])
    gain = make_gain(way, table, ["a", "b", "c"])
    assert gain.values == pytest.approx({"a": 0.1, "b": 0.2, "c": 0.3})
    alone = make_gain(way, table.mean(axis=0), ["a", "b", "c"])
    assert gain.gain.mean == pytest.approx(alone.gain.mean)
    assert gain.gain.high > alone.gain.high  # the draws differ by 0.2
