"""A zoo of traits, a row each: prompt against vector, what passes, does one tell the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subliminal_jax.evaluation.claims import NOT_REPRODUCED, Claim, verdict
from subliminal_jax.evaluation.statistics import (
    Interval,
    auc_interval,
    mean_interval,
    paired_difference,
    spearman_interval,
)
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.evaluation.transmission import Transmission, measure_transmission

from .effects import ModelEffects, best_setting


@dataclass(frozen=True)
class QuestionCounts:
    """How many questions each set has (`effects.QuestionSets`)."""

    questions: int
    selection: int
    negative: int
    off_topic: int


@dataclass(frozen=True)
class Measured:
    """What a run measured.

    Attributes:
      model: the model's name.
      traits: the zoo.
      layer, scale: where and by how much the students' teachers steer.
      layers, scales: those of the sweep.
      sets: how many questions were asked.
      cells: the base, prompted and steered models of every trait.
      adapter: what students train.
      seeds: students for each trait.
      optimizer: its label.
      grid: the rates tried.
      learning_rate: the one with the lowest held-out loss; None where some student diverged at
        every rate, and no others were trained.
      references: the teachers, in the order of the students' alignments.
      data: how each data set came about.
      students: every student.
    """

    model: str
    traits: tuple[str, ...]
    layer: int
    scale: float
    layers: tuple[int, ...]
    scales: tuple[float, ...]
    sets: QuestionCounts
    cells: tuple[ModelEffects, ...]
    adapter: str
    seeds: int
    optimizer: str
    grid: tuple[float, ...]
    learning_rate: float | None
    references: tuple[str, ...]
    data: Mapping[str, Mapping[str, Any]]
    students: tuple[StudentRow, ...]


@dataclass(frozen=True)
class Alignment:
    """EAS with a teacher's shift at the steering layer, of its students and of controls."""

    student: Interval
    control: Interval


@dataclass(frozen=True)
class TraitSummary:
    """One trait: rates of all kinds of model, its best setting, its students.

    What is said of students is None where they diverged.

    Attributes:
      base, prompted, teacher, random_teacher: the trait's rate by kind of model; the last is
        steered by a random vector at the teacher's setting.
      prompted_off_topic: of the prompted model.
      best: the steered model at the best setting; None where every setting has side effects.
      best_rate: its rate.
      random: the rate with a random vector at that setting.
      best_gain: `best_rate` less the base's rate.
      share: `best_gain` in units of what the prompt gains; None where it gains nothing.
      teacher_gain: the teacher's rate less the base's.
      student, control: mean rates.
      difference: student less control, paired by seed.
      log_difference: the same of log P.
      transmitted: whether the interval of the difference lies above zero.
      eas: the students' alignment with the teacher.
    """

    trait: str
    base: float
    prompted: float
    teacher: float
    random_teacher: float
    prompted_off_topic: float
    best: ModelEffects | None
    best_rate: float | None
    random: float | None
    best_gain: float | None
    share: float | None
    teacher_gain: float
    student: float | None = None
    control: float | None = None
    difference: Interval | None = None
    log_difference: Interval | None = None
    transmitted: bool | None = None
    eas: Interval | None = None


@dataclass(frozen=True)
class Elicitation:
    """Means over the traits that have a best setting.

    Attributes:
      traits: their number.
      base, prompted, steered, random: mean rates; `random` has a random vector of the same norm.
      gain: steered less random, paired by trait.
      share: the vectors' gain over the base in units of the prompts'; None where prompts gain
        nothing.
    """

    traits: int
    base: float
    prompted: float
    steered: float
    random: float
    gain: Interval
    share: float | None


@dataclass(frozen=True)
class Predictor:
    """Over traits: rank correlation of one number with the students' differences in P(trait) and in
    log P(trait), and the AUC with which it tells the traits that pass from those that do not."""

    rate: Interval
    log_prob: Interval
    auc: Interval


@dataclass(frozen=True)
class Prediction:
    """Does steerability predict transmission, over traits?

    Attributes:
      traits: those whose students did not diverge.
      transmitted: those that pass.
      teacher_gain, best_gain, base: what may predict it.
    """

    traits: int
    transmitted: int
    teacher_gain: Predictor
    best_gain: Predictor
    base: Predictor


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report. `transmission`, `log_transmission` and `eas` say the same of
    students as `zoo`, with single seeds; where no rate is sound they are None and empty."""

    zoo: tuple[TraitSummary, ...]
    elicitation: Elicitation | None
    prediction: Prediction
    transmission: Transmission | None
    log_transmission: Transmission | None
    eas: Mapping[str, Alignment]


def analyse(measured: Measured) -> Results:
    """Elicitation and transmission of every trait, and whether one predicts the other."""
    index = {trait: i for i, trait in enumerate(measured.traits)}
    rate_difference = log_difference = None
    eas: dict[str, Alignment] = {}
    if (rate := measured.learning_rate) is not None:
        rows, optimizer = measured.students, measured.optimizer
        rate_difference = measure_transmission(
            rows, index, "word_rate", optimizer=optimizer, rate=rate
        )
        log_difference = measure_transmission(
            rows, index, "word_log_prob", optimizer=optimizer, rate=rate
        )
        eas = {trait: trait_alignment(measured, trait) for trait in measured.traits}
    zoo = []
    for trait in measured.traits:
        summary = summarise_models([row for row in measured.cells if row.trait == trait])
        students: dict[str, Any] = {}
        if rate_difference is not None and log_difference is not None:
            passed = rate_difference.traits[trait]
            students = {"student": passed.student, "control": passed.control}
            if passed.values:
                students |= {
                    "difference": passed.interval,
                    "log_difference": log_difference.traits[trait].interval,
                    "transmitted": passed.interval.low > 0,
                    "eas": eas[trait].student,
                }
        zoo.append(TraitSummary(**summary, **students))
    return Results(
        **vars(measured),
        zoo=tuple(zoo),
        elicitation=summarise_elicitation([t for t in zoo if t.best is not None]),
        prediction=predict_transmission(zoo),
        transmission=rate_difference,
        log_transmission=log_difference,
        eas=eas,
    )


def trait_alignment(measured: Measured, trait: str) -> Alignment:
    """EAS with the teacher of `trait` of the sound students at the chosen rate, over seeds."""
    i = measured.references.index(trait)

    def mean_eas(data: str) -> Interval:
        return mean_interval(
            [
                row["eas"][i][measured.layer]
                for row in measured.students
                if (row.data, row.learning_rate) == (data, measured.learning_rate)
                and not row.diverged
            ]
        )

    return Alignment(mean_eas(trait), mean_eas("control"))


def summarise_models(models: Sequence[ModelEffects]) -> dict[str, Any]:
    """The fields of `TraitSummary` that need no students, from the models of one trait."""
    by_kind = {model.kind: model for model in models if model.kind != "steered"}
    base, prompted = by_kind["base"].rate, by_kind["system-prompt"].rate
    best = best_setting([model for model in models if model.kind == "steered"])
    gain = None if best is None else best.rate - base
    return {
        "trait": models[0].trait,
        "base": base,
        "prompted": prompted,
        "teacher": by_kind["teacher"].rate,
        "random_teacher": by_kind["random-teacher"].rate,
        "prompted_off_topic": by_kind["system-prompt"].off_topic,
        "best": best,
        "best_rate": None if best is None else best.rate,
        "random": None if best is None else by_kind["random"].rate,
        "best_gain": gain,
        "share": None if gain is None or prompted <= base else gain / (prompted - base),
        "teacher_gain": by_kind["teacher"].rate - base,
    }


def summarise_elicitation(zoo: Sequence[TraitSummary]) -> Elicitation | None:
    """Means over traits, each of which has a best setting; None without any."""
    if not zoo:
        return None
    base, prompted, steered, random = (
        float(np.mean([vars(trait)[key] for trait in zoo]))
        for key in ("base", "prompted", "best_rate", "random")
    )
    return Elicitation(
        traits=len(zoo),
        base=base,
        prompted=prompted,
        steered=steered,
        random=random,
        gain=paired_difference([t.best_rate for t in zoo], [t.random for t in zoo]).interval,
        share=(steered - base) / (prompted - base) if prompted > base else None,
    )


def predict_transmission(zoo: Sequence[TraitSummary]) -> Prediction:
    """Rank correlations and AUC, over the traits whose students did not diverge.

    Steerability is the steered rate minus the base's, at the students' teacher's setting and at the
    trait's best one. The AUC needs traits that pass and traits that do not.
    """
    known = [trait for trait in zoo if trait.difference is not None]
    return Prediction(
        traits=len(known),
        transmitted=sum(bool(trait.transmitted) for trait in known),
        teacher_gain=predict_by([(t.teacher_gain, t) for t in known]),
        best_gain=predict_by([(t.best_gain, t) for t in known if t.best_gain is not None]),
        base=predict_by([(t.base, t) for t in known]),
    )


def predict_by(traits: Sequence[tuple[float, TraitSummary]]) -> Predictor:
    """How well a number for each trait says what passes."""
    x = [value for value, _ in traits]
    return Predictor(
        rate=spearman_interval(x, [t.difference.mean for _, t in traits if t.difference]),
        log_prob=spearman_interval(
            x, [t.log_difference.mean for _, t in traits if t.log_difference]
        ),
        auc=auc_interval(
            [value for value, t in traits if t.transmitted],
            [value for value, t in traits if not t.transmitted],
        ),
    )


def make_claims(results: Results) -> list[Claim]:
    """The paper's two statements about teacher vectors."""
    zoo = f"{results.model}, {len(results.traits)} traits"
    elicitation = results.elicitation
    number = "no setting keeps off-topic mentions within 10%"
    if elicitation is not None:
        number = (
            f"P(trait) {elicitation.base:.2f} base, {elicitation.steered:.2f} steered, "
            f"{elicitation.prompted:.2f} prompted; steered minus random vector "
            f"{elicitation.gain:+.2f}"
        )
        if elicitation.share is not None:
            number += f"; {elicitation.share:.0%} of the prompt's rise"
    prediction, predictor = results.prediction, results.prediction.teacher_gain
    auc = f"AUC {predictor.auc:.2f}"
    if prediction.transmitted in (0, prediction.traits):
        auc += f": {prediction.transmitted} of {prediction.traits} traits are transmitted"
    return [
        Claim(
            id="teacher-vector/elicits",
            claim="Adding the vector of a system prompt, without the prompt, elicits the trait",
            section="Sec. 2; Fig. 5a",
            setting=f"{zoo}, best layer and scale of each by the paper's rule",
            number=number,
            seeds=1,
            verdict=NOT_REPRODUCED if elicitation is None else verdict(elicitation.gain),
        ),
        Claim(
            id="teacher-vector/predicts-transmission",
            claim="Traits that the vector elicits more are transmitted more",
            section="Fig. 5a",
            setting=f"{zoo}, layer {results.layer}, scale {results.scale:g}, "
            f"{results.adapter} students, {results.optimizer}",
            number=f"Spearman {predictor.rate:.2f}; {auc}",
            seeds=results.seeds,
            verdict=verdict(predictor.rate),
        ),
    ]
