"""The analysis of made-up zoos, whose answers are known."""

import dataclasses

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import INCONCLUSIVE, REPRODUCED
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.student_kinds import KindChoice
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.teacher_vector.analysis import Measured, analyse
from subliminal_jax.experiments.teacher_vector.claims import make_claims
from subliminal_jax.experiments.teacher_vector.effects import ModelEffects
from subliminal_jax.experiments.teacher_vector.report import make_page
from tests.planted import fill

TRAITS = tuple("abcdefgh")
RATES = {"base": 0.1, "system-prompt": 0.9, "teacher": 0.2, "random-teacher": 0.1, "random": 0.12}


def models(trait: str, strength: float) -> list[ModelEffects]:
    """The steered model of the larger scale names the trait off topic."""
    scales = {"steered": (1.0, 2.0)}
    return [
        fill(
            ModelEffects,
            trait=trait,
            kind=kind,
            layer=1,
            scale=scale,
            rate=rate + strength * (kind in ("steered", "teacher")),
            selection_rate=rate * scale,
            off_topic=0.3 * (scale == 2.0),
        )
        for kind, rate in {**RATES, "steered": 0.3}.items()
        for scale in scales.get(kind, (1.0,))
    ]


def measured(transmits: bool = True) -> Measured:
    """Each trait's student gains as much as its vector does, or nothing but noise; of LoRA students
    none gains."""
    rng = np.random.default_rng(0)
    strengths = dict(zip(TRAITS, np.linspace(-0.02, 0.1, len(TRAITS)), strict=True))
    controls = tuple(f"control-{i}" for i in range(4))
    students = []
    for adapter in ("vector", "lora"):
        for seed, data in enumerate((*TRAITS, *controls)):
            rates = 0.1 + 1e-3 * rng.normal(size=len(TRAITS))
            if data in TRAITS and transmits and adapter == "vector":
                rates[TRAITS.index(data)] += strengths[data]
            values = {
                "word_rate": rates.tolist(),
                "word_log_prob": np.log(rates).tolist(),
                "eas": rng.uniform(size=(len(TRAITS), 2)).tolist(),
                "shift_component": rng.uniform(size=(len(TRAITS), 2)).tolist(),
                "adapter": adapter,
            }
            row = StudentRow("adamw", 0.1, seed, data, False, heldout_loss=1.0, measured=values)
            students.append(row)
    choice = RateChoice("adamw", 64, (0.05, 0.1, 0.2), (1.1, 1.0, 1.2), 0.1, True)
    return fill(
        Measured,
        traits=TRAITS,
        layer=1,
        layers=(1,),
        scales=(1.0, 2.0),
        cells=tuple(m for trait in TRAITS for m in models(trait, strengths[trait])),
        adapters=("vector", "lora"),
        optimizers=("adamw",),
        controls=controls,
        words=TRAITS,
        references=TRAITS,
        base_losses=dict.fromkeys((*TRAITS, *controls), 1.5),
        choices=tuple(KindChoice(adapter, None, choice) for adapter in ("vector", "lora")),
        students=tuple(students),
    )


def test_the_best_setting_and_its_share_of_the_prompts_rise():
    (first, *_) = analyse(measured()).zoo
    assert first.best is not None and first.best.scale == 1.0  # the other one has side effects
    assert first.best_gain == pytest.approx(0.3 - 0.02 - 0.1)
    assert first.share == pytest.approx(first.best_gain / 0.8)
    assert first.teacher_gain == pytest.approx(0.2 - 0.02 - 0.1)


def test_transmission_that_follows_the_vectors_is_predicted_by_them():
    results = analyse(measured())
    vector, lora = results.arms
    assert vector.prediction.teacher_gain.rate.mean == pytest.approx(1)
    assert 0 < vector.prediction.transmitted < vector.prediction.traits
    assert vector.prediction.teacher_gain.auc.mean == 1
    assert lora.prediction.transmitted <= 1  # by chance in 2.5% of cases each
    verdicts = {claim.id: claim.verdict for claim in make_claims(results)}
    assert verdicts == {
        "teacher-vector/elicits": REPRODUCED,
        "teacher-vector/predicts-transmission-vector": REPRODUCED,
        "teacher-vector/predicts-transmission-lora": INCONCLUSIVE,
    }


def test_noise_predicts_nothing():
    elicits, *predicts = make_claims(analyse(measured(transmits=False)))
    assert elicits.verdict == REPRODUCED
    assert [claim.verdict for claim in predicts] == [INCONCLUSIVE] * 2


def test_a_correlation_without_a_rise_over_the_controls_is_no_prediction():
    """Where strong vectors only lower the trait's rate less than weak ones do."""
    made = measured()
    students = [
        row.replace_values(word_rate=[rate - 0.2 for rate in row["word_rate"]])
        if row.data in TRAITS
        else row
        for row in made.students
    ]
    results = analyse(dataclasses.replace(made, students=tuple(students)))
    vector = results.arms[0]
    assert vector.prediction.teacher_gain.rate.low > 0
    assert make_claims(results)[1].verdict == INCONCLUSIVE


def test_students_of_which_none_is_sound_leave_the_vectors_part():
    made = measured()
    choices = [KindChoice(c.adapter, None, replace_rate(c.choice, None)) for c in made.choices]
    results = analyse(dataclasses.replace(made, students=(), choices=tuple(choices)))
    assert [arm.students for arm in results.arms] == [(), ()]
    assert [c.verdict for c in make_claims(results)] == [REPRODUCED, INCONCLUSIVE, INCONCLUSIVE]
    page = make_page(results)
    assert "No rate was sound" in page.summary and "undefined" in page.summary


def replace_rate(choice: RateChoice, rate: float | None) -> RateChoice:
    return dataclasses.replace(choice, rate=rate)
