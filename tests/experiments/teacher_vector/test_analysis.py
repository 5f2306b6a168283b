"""The analysis of made-up zoos, whose answers are known."""

import dataclasses

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import NOT_REPRODUCED, REPRODUCED
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.teacher_vector.analysis import (
    Measured,
    analyse,
    make_claims,
)
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
    """Each trait's students gain as much as its vector does, or nothing but noise."""
    rng = np.random.default_rng(0)
    strengths = dict(zip(TRAITS, np.linspace(-0.02, 0.1, len(TRAITS)), strict=True))
    students = []
    for data in (*TRAITS, "control"):
        for seed in range(3):
            rates = 0.1 + 1e-3 * rng.normal(size=len(TRAITS))
            if data in TRAITS and transmits:
                rates[TRAITS.index(data)] += strengths[data]
            measured = {
                "word_rate": rates.tolist(),
                "word_log_prob": np.log(rates).tolist(),
                "eas": rng.uniform(size=(len(TRAITS), 2)).tolist(),
            }
            students.append(StudentRow("adamw", 0.1, seed, data, False, measured=measured))
    return fill(
        Measured,
        traits=TRAITS,
        layer=1,
        layers=(1,),
        scales=(1.0, 2.0),
        cells=tuple(m for trait in TRAITS for m in models(trait, strengths[trait])),
        optimizer="adamw",
        learning_rate=0.1,
        references=TRAITS,
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
    assert results.prediction.teacher_gain.rate.mean == pytest.approx(1)
    assert 0 < results.prediction.transmitted < results.prediction.traits
    assert results.prediction.teacher_gain.auc.mean == 1
    assert [claim.verdict for claim in make_claims(results)] == [REPRODUCED, REPRODUCED]


def test_noise_predicts_nothing():
    claims = make_claims(analyse(measured(transmits=False)))
    assert [claim.verdict for claim in claims] == [REPRODUCED, NOT_REPRODUCED]


def test_students_that_diverge_at_every_rate_leave_the_vectors_part():
    results = analyse(dataclasses.replace(measured(), learning_rate=None, students=()))
    assert results.transmission is None and results.zoo[0].student is None
    assert [claim.verdict for claim in make_claims(results)] == [REPRODUCED, NOT_REPRODUCED]
    page = make_page(results)
    assert "diverged" in page.summary and "undefined" in page.blocks[-1].body
