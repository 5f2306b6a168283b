"""From gains of vectors on texts to the numbers and claims of `cross-model`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from subliminal_jax.evaluation.claim_settings import describe_setting
from subliminal_jax.evaluation.claims import Claim, Evidence, Presupposition
from subliminal_jax.evaluation.margins import LOSS
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.statistics import Interval


@dataclass(frozen=True)
class SteeredModel:
    """How one model is steered.

    Attributes:
      layer: the steering layer.
      scale: the factor on its vectors.
      width: of the residual stream.
      norm: of the scaled vector, by trait.
    """

    layer: int
    scale: float
    width: int
    norm: Mapping[str, float]


@dataclass(frozen=True)
class Score:
    """One vector on the texts of one teacher; all gains are NLL(base) - NLL(steered).

    Attributes:
      scorer: the model that reads, with its own vector of the trait.
      source: the model whose teacher wrote.
      own_data: whether the two are the same.
      teacher: "system-prompt" or "steered".
      kind: "numbers" or "semantic".
      trait: of the teacher and of the vector.
      base_nll: of the unsteered scorer, nats a token.
      gain: nats a token.
      gain_per_completion: nats a completion.
      plain_gain: the vector's gain on what the plain source wrote, nats a token.
      random_gain: the gain of a random vector of the same norm.
      random_plain_gain: the random vector's on what the plain source wrote.
      specific_gain: gain - plain_gain - (random_gain - random_plain_gain).
    """

    scorer: str
    source: str
    own_data: bool
    teacher: str
    kind: str
    trait: str
    base_nll: float
    gain: float
    gain_per_completion: float
    plain_gain: float
    random_gain: float
    random_plain_gain: float
    specific_gain: float


@dataclass(frozen=True)
class Measured:
    """What a run measured.

    Attributes:
      models: how each model is steered, by its name.
      extraction: the prompts at whose end vectors were taken.
      teachers: the kinds of teacher that wrote.
      traits: the intervals are over these.
      rows: texts a data set.
      cells: every scorer on every teacher's texts.
    """

    models: Mapping[str, SteeredModel]
    extraction: str
    teachers: tuple[str, ...]
    traits: tuple[str, ...]
    rows: int
    cells: tuple[Score, ...]


@dataclass(frozen=True)
class ScorerSummary:
    """One scorer on one source: the gains of `Score`, as means over traits with intervals."""

    scorer: str
    source: str
    own_data: bool
    gain: Interval
    gain_per_completion: Interval
    plain_gain: Interval
    random_gain: Interval
    random_plain_gain: Interval
    specific_gain: Interval


@dataclass(frozen=True)
class Contrast:
    """Own data against foreign data, for one kind of data and of teacher.

    Scorers and sources are in balance, so that neither a strong vector nor a source that is easy to
    score counts. Intervals are over traits (`vector_interval`).

    Attributes:
      kind: "numbers" or "semantic".
      teacher: "system-prompt" or "steered".
      cells: every scorer on every source.
      own_data: specific gain on what the scorer's own teachers wrote.
      foreign_data: specific gain on what the other models' teachers wrote.
      own_minus_foreign: their difference.
      raw_own_data, raw_foreign_data, raw_own_minus_foreign: the same of the gain itself.
    """

    kind: str
    teacher: str
    cells: tuple[ScorerSummary, ...]
    own_data: Interval
    foreign_data: Interval
    own_minus_foreign: Interval
    raw_own_data: Interval
    raw_foreign_data: Interval
    raw_own_minus_foreign: Interval


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report: what was measured, and a contrast for each kind of data and of
    teacher."""

    summaries: tuple[Contrast, ...]


def analyse(measured: Measured) -> Results:
    """The contrast of every kind of data and of teacher."""
    kinds = dict.fromkeys((score.kind, score.teacher) for score in measured.cells)
    contrasts = [
        contrast_own_and_foreign([s for s in measured.cells if (s.kind, s.teacher) == pair])
        for pair in kinds
    ]
    return Results(**vars(measured), summaries=tuple(contrasts))


def contrast_own_and_foreign(scores: Sequence[Score]) -> Contrast:
    """The contrast of scores that share their kind of data and of teacher."""
    pairs = dict.fromkeys((score.scorer, score.source) for score in scores)
    own, foreign = (mean_by_trait(scores, "specific_gain", own_data=x) for x in (True, False))
    raw_own, raw_foreign = (mean_by_trait(scores, "gain", own_data=x) for x in (True, False))
    return Contrast(
        kind=scores[0].kind,
        teacher=scores[0].teacher,
        cells=tuple(
            summarise_scorer([s for s in scores if (s.scorer, s.source) == pair]) for pair in pairs
        ),
        own_data=vector_interval(own),
        foreign_data=vector_interval(foreign),
        own_minus_foreign=vector_interval(own - foreign),
        raw_own_data=vector_interval(raw_own),
        raw_foreign_data=vector_interval(raw_foreign),
        raw_own_minus_foreign=vector_interval(raw_own - raw_foreign),
    )


def summarise_scorer(scores: Sequence[Score]) -> ScorerSummary:
    """Means over the traits of one scorer on one source."""
    first = scores[0]
    return ScorerSummary(
        scorer=first.scorer,
        source=first.source,
        own_data=first.own_data,
        gain=vector_interval([s.gain for s in scores]),
        gain_per_completion=vector_interval([s.gain_per_completion for s in scores]),
        plain_gain=vector_interval([s.plain_gain for s in scores]),
        random_gain=vector_interval([s.random_gain for s in scores]),
        random_plain_gain=vector_interval([s.random_plain_gain for s in scores]),
        specific_gain=vector_interval([s.specific_gain for s in scores]),
    )


def mean_by_trait(
    scores: Sequence[Score], gain: str, *, own_data: bool
) -> Float[np.ndarray, " traits"]:
    """The mean of a gain over scorers and sources, own or foreign, for each trait."""
    traits = dict.fromkeys(score.trait for score in scores)
    return np.array(
        [
            np.mean(
                [getattr(s, gain) for s in scores if s.trait == trait and s.own_data is own_data]
            )
            for trait in traits
        ]
    )


def make_claims(results: Results) -> list[Claim]:
    """The paper's two statements, for each kind of teacher."""
    return [_make_claim(results, contrast) for contrast in results.summaries]


def _make_claim(results: Results, contrast: Contrast) -> Claim:
    own, foreign = f"{contrast.own_data:+.4f}", f"{contrast.foreign_data:+.4f}"
    presupposes: tuple[Presupposition, ...] = ()
    if contrast.kind == "numbers":
        name, effect = "own-numbers", contrast.own_minus_foreign
        text = (
            "A model's own vector explains filtered numbers of its own teachers better than those "
            "of another model's"
        )
        number = f"specific gain {own} own, {foreign} foreign; difference {effect:+.4f}"
        presupposes = (Presupposition("it explains those of its own", contrast.own_data),)
        carrier = "filtered number lists"
    else:
        name, effect = "shared-semantics", contrast.foreign_data
        text = "On text that names the trait openly, a model's vector explains foreign data too"
        number = f"specific gain {foreign} foreign, {own} own"
        carrier = "chat answers that name the trait"
    layers = ", ".join(str(model.layer) for model in results.models.values())
    scales = ", ".join(f"{model.scale:g}" for model in results.models.values())
    models = " and ".join(results.models)
    return Claim(
        id=f"cross-model/{name}-{contrast.teacher}",
        claim=text,
        section="Blank et al. 2026, section 4, figure 5, b",
        setting=describe_setting(
            model=models,
            layer=f"after blocks {layers} (from 0), scaled by {scales}",
            vectors=f"vectors of {len(results.traits)} traits",
            carrier=f"{results.rows} {carrier} of {contrast.teacher} teachers, gains over plain "
            "data and a random vector",
            students=None,
        ),
        number=f"{number} nats a token",
        seeds=len(results.traits),
        evidence=Evidence(effect, margin=LOSS, presupposes=presupposes),
        model=models,
    )
