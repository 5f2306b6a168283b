"""Arms, verdicts and claims, of students that are planted."""

import pytest

from subliminal_jax.evaluation.claims import CONTRADICTED, INCONCLUSIVE, REPRODUCED
from subliminal_jax.evaluation.excess import METRICS
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.optimizer_mechanics.analysis import (
    Measured,
    analyse,
    measure_differences,
)
from subliminal_jax.experiments.optimizer_mechanics.arms import list_arms
from subliminal_jax.experiments.optimizer_mechanics.claims import make_claims
from subliminal_jax.experiments.optimizer_mechanics.explanations import (
    EQUAL_STEPS,
    MASS_OVER_SIGNAL,
)
from subliminal_jax.experiments.optimizer_mechanics.report import arms_table, make_page
from subliminal_jax.serialization import from_json, to_json
from tests.pages import read_table
from tests.planted import fill

TRAITS = tuple(f"t{i}" for i in range(8))
CONTROLS = ("control-0", "control-1")
BASE = 2.0


def make_row(arm, data, value, loss=1.5):
    """A student whose every metric is `value` and a little that differs by vector."""
    values = [value + 0.01 * (i % 3) for i in range(len(TRAITS))]
    return StudentRow(
        arm, 0.1, 0, data, False, heldout_loss=loss,
        measured={"eas": [[0.0, x] for x in values], "shift_component": [[0.0, x] for x in values],
                  "word_log_prob": values},
    )  # fmt: skip


def measure(**means):
    """Arms (- written as _) whose students exceed controls at 0.1 by these means."""
    names = [name.replace("_", "-") for name in means]
    rows = []
    for number, (name, mean) in enumerate(zip(names, means.values(), strict=True)):
        for i, trait in enumerate(TRAITS):
            rows.append(make_row(name, trait, 0.1 + mean + 0.001 * ((i * (number + 2)) % 5)))
        rows += [make_row(name, draw, 0.1 + 0.001 * i) for i, draw in enumerate(CONTROLS)]
    return fill(
        Measured,
        model="a-model", layer=1, traits=TRAITS, tuning_traits=("u0", "u1"), controls=CONTROLS,
        prompts="numbers", keep="numbers", steps=48, words=TRAITS, references=TRAITS,
        base_losses=dict.fromkeys((*TRAITS, *CONTROLS), BASE),
        plans=tuple(plan for plan in list_arms((1, 64)) if plan.name in names),
        choices=tuple(
            RateChoice(n, 48, (0.05, 0.1, 0.2), (1.6, 1.5, 1.7), 0.1, True) for n in names
        ),
        students=tuple(rows), histories={},
    )  # fmt: skip


def claims_of(measured):
    return {claim.id.split("/")[1]: claim for claim in make_claims(analyse(measured))}


@pytest.mark.parametrize(
    ("momentum", "rmsprop", "rescue", "as_adamw"),
    [
        (0.1, 0.4, REPRODUCED, REPRODUCED),
        (0.4, 0.1, CONTRADICTED, CONTRADICTED),
    ],
)
def test_a_rescue_is_decided_by_half_of_the_gap(momentum, rmsprop, rescue, as_adamw):
    """Both arms are above SGD and below AdamW, clear of zero: that alone is neither."""
    claims = claims_of(measure(adamw=0.5, sgd=0.0, momentum=momentum, rmsprop=rmsprop))
    assert claims["momentum"].verdict == claims["momentum-eas"].verdict == rescue
    assert claims["rmsprop-as-adamw"].verdict == as_adamw
    assert claims["rmsprop"].verdict == REPRODUCED
    assert claims["sgd-does-as-well"].verdict == CONTRADICTED
    for claim in claims.values():
        for part in ("a-model", "8 traits", "block 1", "filtered number lists", "48 steps",
                     "2 other vectors"):  # fmt: skip
            assert part in claim.setting


def test_without_a_gap_nothing_is_rescued_or_not():
    claims = claims_of(measure(adamw=0.0, sgd=0.0, momentum=0.5, rmsprop=0.5))
    assert claims["momentum"].verdict == claims["rmsprop-as-adamw"].verdict == INCONCLUSIVE
    assert claims["sgd-does-as-well"].verdict == REPRODUCED


def test_an_arm_that_does_not_exceed_its_controls_transmits_nothing_more():
    """AdamW is above SGD, but below its own controls."""
    claims = claims_of(measure(adamw=-0.2, sgd=-0.7))
    assert claims["adamw-over-sgd"].evidence.effect.low > 0.4
    assert claims["adamw-over-sgd"].verdict == claims["adamw-over-sgd-eas"].verdict == INCONCLUSIVE


def test_a_blown_up_student_is_counted_and_carries_no_number():
    measured = measure(adamw=0.5, sgd=0.1)
    rows = [
        make_row("sgd", "t3", 99.0, loss=8.9) if (r.optimizer, r.data) == ("sgd", "t3") else r
        for r in measured.students
    ]
    results = analyse(Measured(**{**vars(measured), "students": tuple(rows)}))
    sgd = results.find_arm("sgd")
    assert sgd.unstable == ("t3",) and results.unstable == 1
    assert sgd.metrics["eas"].difference.n == 7 and sgd.metrics["eas"].difference.high < 1
    assert results.find_arm("adamw").minus_sgd["eas"].n == 7
    row = read_table(arms_table(results))[[arm.optimizer for arm in results.best].index("sgd")]
    assert "t3" in row["unstable"]
    assert {c.unstable for c in make_claims(results)} == {1}
    assert "1 of 20 students" in make_page(results).summary


def test_differences_are_of_what_exceeds_the_controls():
    """Both arms' students have the same values, but the controls of one have them, too."""
    measured = measure(adamw=0.5, sgd=0.5)
    rows = [
        make_row("sgd", r.data, 0.6) if r.optimizer == "sgd" and r.data in CONTROLS else r
        for r in measured.students
    ]
    results = analyse(Measured(**{**vars(measured), "students": tuple(rows)}))
    for metric in METRICS:
        assert results.find_arm("adamw").minus_sgd[metric].mean == pytest.approx(0.5, abs=0.01)
        assert results.gaps[metric] == pytest.approx(0.5, abs=0.01)


def log_steps(arm, number, top, tenth):
    row = {"step": 0, "seed": number, "data": TRAITS[number], "gradient_norm": 0.0}
    for x in ("gradient", "update"):
        row |= {
            f"{x}_norm": 1.0, f"{x}_cosine": 0.5, f"{x}_component": 1.0,
            f"{x}_top_mass": [0.1, top, tenth], f"{x}_top_component": [0.0, 0.1, 0.2],
            f"{x}_decile_mass": [0.1] * 10, f"{x}_decile_component": [0.1] * 10,
        }  # fmt: skip
    start = {k: float("nan") if k.startswith(("gradient_", "update_")) else x
             for k, x in row.items()}  # fmt: skip
    return {(arm, number): [start, row | {"step": 24}]}


def test_what_is_measured_beside_the_arms_is_by_vector_and_without_step_0():
    """Over four arms: the smaller the share of a step's largest tenth, the larger the EAS."""
    means = {"adamw": 0.5, "rmsprop": 0.4, "momentum": 0.2, "sgd": 0.1}
    eas = measure(**means).collect_arms("eas")
    histories = {}
    for number in range(3):
        for arm, mean in means.items():
            histories |= log_steps(arm, number, top=0.4, tenth=1 - mean)
    values = measure_differences(histories, eas)
    assert values[MASS_OVER_SIGNAL] == pytest.approx([0.3] * 3)
    assert values[EQUAL_STEPS] == pytest.approx([1.0] * 3)


def test_results_survive_json_and_the_page_is_made_from_them():
    results = analyse(measure(adamw=0.5, sgd=0.1, rmsprop=0.4))
    again = from_json(type(results), to_json(results), "results.json")
    assert to_json(again) == to_json(results)
    assert [c.verdict for c in make_claims(again)] == [c.verdict for c in make_claims(results)]
    assert "AdamW's lead over SGD" in make_page(again).summary
