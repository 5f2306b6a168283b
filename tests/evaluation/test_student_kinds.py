"""Students of several kinds against their controls: planted effects, pairs, unstable students."""

from dataclasses import replace

import numpy as np
import pytest

from subliminal_jax.evaluation.over_vectors import student_difference
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.student_kinds import KindChoice, MeasuredKinds, Target
from subliminal_jax.evaluation.student_rows import StudentRow
from tests.planted import fill

TRAITS = ("cat", "dog", "fox", "bear", "owl")
CONTROLS = ("control-0", "control-1")
TARGETS = [Target(trait, trait, trait) for trait in TRAITS]
EFFECTS = {"vector": 0.5, "lora": 0.1}


def student(adapter, data, rates, *, eas=0.0, loss=1.0):
    """A student with P(trait) `rates` and its EAS with every reference."""
    measured = {"word_rate": list(rates), "eas": [[0.0, eas]] * len(TRAITS), "adapter": adapter}
    return StudentRow("adamw", 0.1, 0, data, loss is None, heldout_loss=loss, measured=measured)


def plant(effects=EFFECTS):
    """For every kind one student a trait, above its controls by the kind's effect."""
    rng = np.random.default_rng(0)
    rows = []
    for adapter, effect in effects.items():
        base = rng.uniform(0.1, 0.2, len(TRAITS))
        for i, trait in enumerate(TRAITS):
            rates = base + effect * (np.arange(len(TRAITS)) == i) * (1 + 0.1 * i)
            rows.append(student(adapter, trait, rates, eas=0.3))
        rows += [
            student(adapter, name, base + d)
            for name, d in zip(CONTROLS, (0.01, -0.01), strict=True)
        ]
    choice = RateChoice("adamw", 64, (0.05, 0.1, 0.2), (1.1, 1.0, 1.2), 0.1, True)
    return fill(
        MeasuredKinds,
        layer=1,
        adapters=tuple(effects),
        optimizers=("adamw",),
        traits=TRAITS,
        controls=CONTROLS,
        words=TRAITS,
        references=TRAITS,
        base_losses=dict.fromkeys((*TRAITS, *CONTROLS, *(f"n-{t}" for t in TRAITS)), 1.5),
        choices=tuple(KindChoice(adapter, None, choice) for adapter in effects),
        students=tuple(rows),
    )


def change(measured, data, adapter="vector", **values):
    rows = [
        row.replace_values(**values) if (row.data, row["adapter"]) == (data, adapter) else row
        for row in measured.students
    ]
    return replace(measured, students=tuple(rows))


def test_every_kind_is_held_against_controls_of_its_own_kind():
    measured = plant()
    for adapter, effect in EFFECTS.items():
        arm = measured.summarise(TARGETS, ("word_rate", "eas"), adapter, "adamw")
        assert arm.metrics["word_rate"].difference.mean == pytest.approx(1.2 * effect)
        assert arm.metrics["eas"].difference.mean == pytest.approx(0.3)
        assert arm.gain.mean == pytest.approx(0.5) and arm.unstable == ()
        by_data = arm.metrics["word_rate"].by_data
        assert by_data["fox"].interval.mean == pytest.approx(1.2 * effect)
        assert by_data["fox"].interval.excludes_zero == (adapter == "vector")  # of two controls


@pytest.mark.parametrize("values", [{"heldout_loss": 7.0}, {"heldout_loss": None}])
def test_an_unstable_student_or_control_is_counted_and_carries_no_number(values):
    measured = change(plant(), "dog", **values, word_rate=[9.0] * len(TRAITS))
    measured = change(measured, "control-1", **values, word_rate=[-9.0] * len(TRAITS))
    arm = measured.summarise(TARGETS, ("word_rate",), "vector", "adamw")
    assert arm.unstable == ("dog", "control-1") and measured.unstable == 2
    comparison = arm.metrics["word_rate"]
    assert set(comparison.by_data) == set(TRAITS) - {"dog"}
    expected = 0.5 * np.mean([1.0, 1.2, 1.3, 1.4]) - 0.01  # the control that is left is 0.01 above
    assert comparison.difference.mean == pytest.approx(expected)


def test_without_a_sound_control_there_is_no_difference():
    measured = plant()
    for name in CONTROLS:
        measured = change(measured, name, heldout_loss=9.0)
    comparison = measured.summarise(TARGETS, ("word_rate",), "vector", "adamw").metrics["word_rate"]
    assert comparison.student.n == len(TRAITS)
    assert comparison.control is None and comparison.difference is None


def test_a_target_with_a_neutral_student_is_held_against_it_alone():
    measured = plant({"lora": 0.1})
    neutral = [
        student("lora", f"n-{trait}", [0.02 * i] * len(TRAITS)) for i, trait in enumerate(TRAITS)
    ]
    measured = replace(measured, students=(*measured.students, *neutral))
    targets = [replace(target, neutral=f"n-{target.data}") for target in TARGETS]
    comparison = measured.compare(targets, "word_rate", adapter="lora")
    ours = measured.select_sound(adapter="lora")
    expected = [ours[t]["word_rate"][i] - 0.02 * i for i, t in enumerate(TRAITS)]
    assert comparison.difference.mean == pytest.approx(np.mean(expected))
    assert [d.interval.mean for d in comparison.by_data.values()] == pytest.approx(expected)
    lost = replace(measured, students=tuple(s for s in measured.students if s.data != "n-dog"))
    assert lost.compare(targets, "word_rate", adapter="lora").difference.n == len(TRAITS) - 1


def test_a_student_that_is_another_control_is_taken_for_one_in_95_percent():
    rng = np.random.default_rng(1)
    draws = rng.normal(size=(4_000, 5))
    held = [not student_difference(x[0], x[1:].tolist()).excludes_zero for x in draws]
    assert 0.94 < np.mean(held) < 0.96
    assert np.isnan(student_difference(1.0, [0.5]).low)
