"""Hard against soft labels: soundness by each objective's own loss, claims from intervals."""

from dataclasses import replace

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import CONTRADICTED, INCONCLUSIVE, REPRODUCED
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.student_kinds import KindChoice
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.objective.analysis import OBJECTIVES, Measured, analyse
from subliminal_jax.experiments.objective.claims import make_claims
from subliminal_jax.experiments.objective.gradients import GradientCosine, compare_directions
from tests.experiments.objective.test_gradients import V, planted_gradients
from tests.planted import fill

TRAITS = ("cat", "dog", "fox", "owl", "lion")
CONTROLS = ("control-0", "control-1")
SIZES = (8, 64)
KINDS = ("vector", "lora")


def student(objective, adapter, data, size, eas, rates):
    measured = {
        "objective": objective,
        "adapter": adapter,
        "eas": [[eas]] * len(TRAITS),
        "shift_component": [[eas / 2]] * len(TRAITS),
        "word_rate": rates.tolist(),
        "word_log_prob": np.log(rates).tolist(),
    }
    losses = {"heldout_loss": 2.0, "heldout_kl": 0.1}
    return StudentRow("adamw", 0.1, 0, data, False, rows=size, measured=measured, **losses)


@pytest.fixture(scope="module")
def measured():
    """With a vector, KL finds the teacher's from any number of rows, hard labels never do; LoRA
    finds nothing."""
    students = []
    for adapter in KINDS:
        for objective in OBJECTIVES:
            for size in SIZES:
                found = 0.6 if (adapter, objective) == ("vector", "kl") else 0.01
                for i, trait in enumerate(TRAITS):
                    rates = np.full(len(TRAITS), 0.1)
                    rates[i] += 0.2 * (adapter == "vector") + 0.001 * i * (-1) ** i
                    row = objective, adapter, f"steered-{trait}", size, found + 0.01 * i, rates
                    students.append(student(*row))
                for k, name in enumerate(CONTROLS):
                    rates = np.full(len(TRAITS), 0.1 + 0.001 * (-1) ** k)
                    students.append(student(objective, adapter, name, size, 0.0, rates))
    gradients = [compare_directions(planted_gradients(0.1, seed=i), V) for i in range(len(TRAITS))]
    names = [*(f"steered-{trait}" for trait in TRAITS), *CONTROLS]
    choice = RateChoice("adamw", 32, (0.05, 0.1, 0.2), (1.1, 1.0, 1.2), 0.1, True)
    return fill(
        Measured,
        level=0.5,
        adapters=KINDS,
        optimizers=("adamw",),
        teacher_kinds=("steered",),
        sizes=SIZES,
        traits=TRAITS,
        controls=CONTROLS,
        references=tuple(f"steered-{trait}" for trait in TRAITS),
        words=TRAITS,
        base_losses=dict.fromkeys(names, 2.1),
        base_kl=dict.fromkeys(names, 0.2),
        choices=tuple(
            KindChoice(adapter, size, choice, objective)
            for adapter in KINDS
            for size in SIZES
            for objective in OBJECTIVES
        ),
        students=tuple(students),
        gradients=tuple(
            GradientCosine("steered", pair, n, values, vector_interval(values))
            for pair, n in gradients[0]
            for values in [tuple(each[pair, n] for each in gradients)]
        ),
    )


def find_arm(results, adapter, objective, size):
    (arm,) = (
        arm
        for arm in results.arms
        if (arm.adapter, arm.objective, arm.rows) == (adapter, objective, size)
    )
    return arm


def test_every_kind_objective_and_size_is_held_against_controls_of_its_own(measured):
    results = analyse(measured)
    assert len(results.arms) == 2 * 2 * 2
    for objective, gain in (("cross_entropy", 0.1), ("kl", 0.1)):
        arm = find_arm(results, "vector", objective, 8)
        assert arm.metrics["word_rate"].difference.mean == pytest.approx(0.2, abs=2e-3)
        assert arm.metrics["eas"].control == 0.0 and arm.metrics["eas"].student.n == len(TRAITS)
        assert arm.gain.mean == pytest.approx(gain)  # in its own loss


@pytest.mark.parametrize(("objective", "lost"), [("kl", "heldout_kl"), ("cross_entropy", "x")])
def test_a_student_is_sound_by_the_loss_that_it_minimised(measured, objective, lost):
    """A KL far above the base's makes a student of the KL unstable, and no other."""
    students = [
        row.replace_values(heldout_kl=3.0) if row.data == "steered-cat" else row
        for row in measured.students
    ]
    arm = find_arm(analyse(replace(measured, students=tuple(students))), "vector", objective, 8)
    assert arm.unstable == (("steered-cat",) if lost == "heldout_kl" else ())
    assert arm.metrics["eas"].student.n == len(TRAITS) - (lost == "heldout_kl")


def test_rows_that_are_needed_and_claims_follow(measured):
    results = analyse(measured)
    bounds = {(row.adapter, row.objective): row.bound for row in results.needed}
    assert bounds.pop(("vector", "kl")) == "at most"
    assert set(bounds.values()) == {"more than"}
    claims = {claim.id.removeprefix("objective/"): claim for claim in make_claims(results)}
    names = ("few-samples", "names-trait-cross-entropy", "names-trait-kl")
    assert set(claims) == {
        *(f"{name}-vector-{adapter}" for name in names for adapter in KINDS),
        "collinear-gradients-vector",
        "fisher-direction-vector",
    }
    for name, claim in claims.items():
        assert (claim.verdict == REPRODUCED) == (not name.endswith("lora")), name
    assert "from 8 rows minus cross-entropy from 64" in claims["few-samples-vector-vector"].number
    swapped = {"cross_entropy": "kl", "kl": "cross_entropy"}
    arms = tuple(replace(arm, objective=swapped[arm.objective]) for arm in results.arms)
    assert make_claims(replace(results, arms=arms))[0].verdict == CONTRADICTED


def test_a_lead_of_students_that_do_not_move_along_the_vector_is_no_recovery(measured):
    """KL's students are ahead of hard labels', but behind their own controls."""
    students = [
        row.replace_values(eas=[[0.9]] * len(TRAITS)) if row.data in CONTROLS else row
        for row in measured.students
    ]
    results = analyse(replace(measured, students=tuple(students)))
    claim = make_claims(results)[0]
    assert claim.id == "objective/few-samples-vector-vector" and claim.evidence.effect.low > 0
    assert claim.verdict == INCONCLUSIVE


def test_a_trait_with_an_unstable_student_is_left_out_of_the_curve(measured):
    students = [
        row.replace_values(heldout_kl=None, diverged=True)
        if (row.data, row["objective"], row.rows) == ("steered-cat", "kl", 8)
        else row
        for row in measured.students
    ]
    results = analyse(replace(measured, students=tuple(students)))
    traits = {(row.adapter, row.objective): row.traits for row in results.needed}
    assert traits == {(a, o): len(TRAITS) - (o == "kl") for a in KINDS for o in OBJECTIVES}
