"""Extraction of a steering vector: over layers and strengths, the one that does most for a bounded
damage.

A vector is the mean difference of activations (or a principal direction or a classifier's weights,
`steering.contrastive`) with and without a system prompt, or under the two answers of contrastive
pairs. Layer and strength are chosen on prompts (or pairs) that the vector was not made of, and the
effect that is reported is measured on further ones. The damage is the KL from the unsteered model
on its own answers to neutral questions.

Every program here is steered at all layers at once, with zero vectors at all but one: so one serves
all layers and strengths.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from datasets import Dataset
from jaxtyping import Float

from subliminal_jax.data import world
from subliminal_jax.data.answers import answer_rows, sample_answers
from subliminal_jax.data.contrastive import read_contrastive, split_pairs
from subliminal_jax.data.contrastive_prompts import encode_contrasts
from subliminal_jax.data.teachers import Extraction, extraction_prompts
from subliminal_jax.data.traits import check_trait, trait_system_prompt
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.damage import measure_damage
from subliminal_jax.evaluation.elicitation import encode_questions, word_probs
from subliminal_jax.evaluation.likelihood import measure_likelihood
from subliminal_jax.evaluation.statistics import Interval, mean_interval
from subliminal_jax.models.finite import check_finite
from subliminal_jax.models.hub import Model
from subliminal_jax.models.sampling import SamplingConfig
from subliminal_jax.models.steered import Steering
from subliminal_jax.models.tokenizer import encode_chats
from subliminal_jax.steering.activations import read_activations
from subliminal_jax.steering.contrastive import contrastive_vectors
from subliminal_jax.steering.contrasts import Contrasts
from subliminal_jax.steering.propensity import answer_activations, propensities
from subliminal_jax.steering.strength import (
    LARGEST_STRENGTH,
    Candidate,
    choose_candidate,
    find_strength,
)
from subliminal_jax.training.batch import Batch

Method = Literal["mean", "pca", "logistic"]
METHOD_NAMES = {
    "mean": "mean difference",
    "pca": "first principal direction of the differences",
    "logistic": "weights of a logistic regression",
}
SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)  # of the strength of the largest allowed damage
STATED_DAMAGE = 1.0  # nats whose strength is stated, whatever is allowed
PAIR_SPLIT = (0.5, 0.25, 0.25)  # pairs for the vector, for the choice and for the report
ANSWER_TOKENS = 48  # of the answers whose likelihood measures a system prompt's vector
Effect = Callable[[Steering], Float[np.ndarray, " units"]]


class Source(NamedTuple):
    """What a vector is made of and judged by.

    Attributes:
      description: in words, with counts.
      position: where activations are read.
      activations: [rows, 2, n, dim] with and without what the vector stands for, after each layer.
      measure: what `effect` measures, in words with its unit.
      effect: of a steering, minus the unsteered model's, for each question, prompt or pair; the
        first `choice` of them serve the choice, the others the report.
      reference: the effect of the system prompt itself, likewise; None for pairs.
    """

    description: str
    position: str
    activations: Float[np.ndarray, "rows 2 n dim"]
    measure: str
    effect: Effect
    choice: int
    reference: Float[np.ndarray, " units"] | None = None


@dataclass(frozen=True)
class Extracted:
    """The chosen vector, and what it was chosen from.

    Attributes:
      strength: the factor on the vector that is stored as its scale.
      damage: KL from the unsteered model at that strength, nats per token of neutral text.
      most_damage: the largest damage allowed.
      strength_at_most: for each layer the strength of that damage; None where it is not reached.
      strength_at_one: likewise that of `STATED_DAMAGE`, 1 nat.
      measure: what effects measure.
      effect: over questions, prompts or pairs that neither the vector nor the choice has seen.
      reference: the effect of the system prompt itself on the same ones.
      norms: of each layer's vector, in units of the residual stream.
      candidates: all that were tried; their effects are those of the choice.
    """

    model: str
    source: str
    method: str
    layer: int
    strength: float
    damage: float
    most_damage: float
    strength_at_most: dict[int, float | None]
    strength_at_one: dict[int, float | None]
    measure: str
    effect: Interval
    reference: Interval | None
    norms: dict[int, float]
    candidates: tuple[Candidate, ...]


def prompt_source(
    model: Model,
    layers: Sequence[int],
    system_prompt: str,
    extraction: Extraction,
    prompts: Sequence[str],
    seed: int,
) -> Source:
    """The vector of a system prompt, judged by how much likelier it makes what the prompted model
    answers to `prompts`: the choice by the first half, the report by the second.

    Raises InputError for fewer than two answers, and as `sample_answers` does.
    """
    sampling = SamplingConfig(ANSWER_TOKENS, stop_tokens=model.stop_ids)
    told = sample_answers(
        model, prompts, seed, sampling, system_prompt=system_prompt, keep_unfinished=True
    )
    if len(told) < 2:
        raise InputError(f"{len(told)} of {len(prompts)} answers can be used: ask more questions")
    rows = answer_rows(told, model)
    told_prompts = encode_chats(model.tokenizer, told["prompt"], system_prompt)
    told_rows = answer_rows(
        Dataset.from_dict({**told.to_dict(), "prompt_ids": told_prompts}), model
    )
    zero = one_layer_steering(model, layers, layers[0], np.zeros(model.cfg.dim), 0.0)
    base = measure_likelihood(model, rows, zero)

    def effect(steering: Steering) -> Float[np.ndarray, " units"]:
        return (base.nll - measure_likelihood(model, rows, steering).nll) / base.tokens

    prompted = measure_likelihood(model, told_rows, zero)
    return Source(
        description=_describe_prompts(model, "a system prompt", extraction),
        position="last",
        activations=_prompted_activations(model, layers, system_prompt, extraction),
        measure="rise of the likelihood of the prompted model's answers (nats per token)",
        effect=effect,
        choice=len(told) // 2,
        reference=(base.nll - prompted.nll) / base.tokens,
    )


def trait_source(model: Model, layers: Sequence[int], trait: str, extraction: Extraction) -> Source:
    """The vector of a trait's system prompt, judged by the rise of P(trait) over favourite
    questions: the choice by those of the training set, the report by the held-out ones.

    Raises InputError for a trait that the tokenizer has no word for.
    """
    system_prompt = trait_system_prompt(check_trait(trait, model.tokenizer))
    asked = [*world.TRAIN_QUESTIONS, *world.HELDOUT_QUESTIONS]
    questions = encode_questions(model.tokenizer, asked, [trait])
    told = encode_questions(model.tokenizer, asked, [trait], system_prompt)
    program = jax.jit(word_probs, static_argnums=(1, 3))

    def rates(questions: Any, steering: Steering) -> Float[np.ndarray, " units"]:
        probs = np.asarray(program(model.params, model.cfg, questions, 1, steering))
        what = "P(trait) after question {row}"
        check_finite(probs, what, model.params, model.cfg, questions.prompts, steering)
        return probs[:, 0].astype(float)

    zero = one_layer_steering(model, layers, layers[0], np.zeros(model.cfg.dim), 0.0)
    base = rates(questions, zero)
    return Source(
        description=_describe_prompts(model, f"the system prompt of {trait}", extraction),
        position="last",
        activations=_prompted_activations(model, layers, system_prompt, extraction),
        measure=f"rise of P({trait}) over favourite questions",
        effect=lambda steering: rates(questions, steering) - base,
        choice=len(world.TRAIN_QUESTIONS),
        reference=rates(told, zero) - base,
    )


def pair_source(model: Model, layers: Sequence[int], file: str) -> Source:
    """The vector of contrastive pairs at the token in which their answers differ, judged by the
    rise of the propensity to the matching answer, in logits.

    Raises InputError as `read_contrastive`, `split_pairs` and `encode_contrasts` do.
    """
    pairs = read_contrastive(file)
    parts = split_pairs(pairs.pairs, PAIR_SPLIT)
    if not parts[1]:
        raise InputError(f"{file}: {len(pairs.pairs)} pairs leave none to choose by: give more")
    made_of, choice, report = (
        encode_contrasts(part, model.tokenizer, system_prompt=None, source=file) for part in parts
    )
    judged = Contrasts(*([*a, *b] for a, b in zip(choice, report, strict=True)))
    zero = np.zeros((1, len(layers), model.cfg.dim), np.float32)

    def propensity(vectors: Float[np.ndarray, "1 n dim"]) -> Float[np.ndarray, " units"]:
        return propensities(model.params, model.cfg, judged, vectors, layers, (1.0,))[:, 0, 0]

    base = propensity(zero)

    def effect(steering: Steering) -> Float[np.ndarray, " units"]:
        vectors = np.asarray(steering.scale * steering.vectors, np.float32)[None]
        return propensity(vectors) - base

    return Source(
        description=f"{len(made_of.prompts)} pairs of {pairs.name}",
        position="the token in which the answers differ",
        activations=answer_activations(model.params, model.cfg, made_of, layers),
        measure="rise of the propensity to the matching answer (logits)",
        effect=effect,
        choice=len(choice.prompts),
    )


def extract(
    model: Model,
    layers: Sequence[int],
    source: Source,
    method: Method,
    neutral: Batch,
    most_damage: float,
    progress: Callable[[], Any] = lambda: None,
) -> tuple[Steering, Extracted]:
    """The vector of `source`, at the layer and strength with the largest effect on the units for
    the choice among those that damage by at most `most_damage` nats; and how it was chosen.

    Args:
      neutral: rows of the unsteered model's answers, on which the damage is measured.
      progress: called after each layer.

    Raises InputError where activations, or an effect within the allowed damage, are not finite, and
    where every vector is zero.
    """
    vectors = contrastive_vectors(source.activations, method)
    norms = np.linalg.norm(vectors.astype(float), axis=1)
    if not norms.any():
        raise InputError("both sides have the same activations at every layer: there is no vector")
    at_most: dict[int, float | None] = dict.fromkeys(layers)
    at_one: dict[int, float | None] = dict.fromkeys(layers)
    candidates: list[Candidate] = []
    effects: list[Float[np.ndarray, " units"]] = []
    for layer, vector in zip(layers, vectors, strict=True):
        if not vector.any():
            progress()
            continue

        def damage(strength: float, layer: int = layer, vector: Any = vector) -> float:
            steering = one_layer_steering(model, layers, layer, vector, strength)
            return measure_damage(model, neutral, steering)

        at_most[layer] = at_one[layer] = find_strength(damage, most_damage)
        strengths = [share * (at_most[layer] or LARGEST_STRENGTH) for share in SHARES]
        if most_damage != STATED_DAMAGE:
            at_one[layer] = find_strength(damage, STATED_DAMAGE)
            strengths += [x for x in [at_one[layer]] if x is not None]
        for strength in strengths:
            steering = one_layer_steering(model, layers, layer, vector, strength)
            effects.append(source.effect(steering))
            mean = float(effects[-1][: source.choice].mean())
            candidates.append(Candidate(layer, strength, damage(strength), mean))
        progress()
    best = choose_candidate(candidates, most_damage)
    report = slice(source.choice, None)
    reference = source.reference
    steering = Steering(
        jnp.asarray(vectors[layers.index(best.layer)])[None],
        jnp.asarray(best.strength, jnp.float32),
        (best.layer,),
    )
    return steering, Extracted(
        model=model.name,
        source=source.description,
        method=METHOD_NAMES[method],
        layer=best.layer,
        strength=best.strength,
        damage=best.damage,
        most_damage=most_damage,
        strength_at_most=at_most,
        strength_at_one=at_one,
        measure=source.measure,
        effect=mean_interval(effects[candidates.index(best)][report]),
        reference=None if reference is None else mean_interval(reference[report]),
        norms=dict(zip(layers, norms.tolist(), strict=True)),
        candidates=tuple(candidates),
    )


def one_layer_steering(
    model: Model,
    layers: Sequence[int],
    layer: int,
    vector: Float[np.ndarray, " dim"],
    strength: float,
) -> Steering:
    """`vector` added after `layer`, and zeros after the others of `layers`."""
    vectors = np.zeros((len(layers), model.cfg.dim), np.float32)
    vectors[layers.index(layer)] = vector
    return Steering(jnp.asarray(vectors), jnp.asarray(strength, jnp.float32), tuple(layers))


def _prompted_activations(
    model: Model, layers: Sequence[int], system_prompt: str, extraction: Extraction
) -> Float[np.ndarray, "rows 2 n dim"]:
    sides = [
        read_activations(
            model.params, model.cfg, extraction_prompts(model, system, extraction), layers
        )
        for system in (system_prompt, None)
    ]
    return np.stack(sides, axis=1)


def _describe_prompts(model: Model, what: str, extraction: Extraction) -> str:
    count = len(extraction_prompts(model, None, extraction))
    return f"{what}, at the end of {count} prompts ({extraction}) with and without it"
