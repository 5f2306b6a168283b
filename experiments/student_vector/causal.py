"""Is a student's vector the cause of what it says? Added to the base, taken out of the student.

"Subliminal Learning Is Steering Vector Distillation" (Blank et al. 2026), section 3: v_student is
the student's mean activation shift over prompts. Sufficiency adds it to the base; necessity
replaces the student's component along a vector by the base's, at every token.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from subliminal_jax.diagnostics.alignment import At, Probe, activation_shift, mean_activation
from subliminal_jax.evaluation.elicitation import Questions, word_probs
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering, unit
from subliminal_jax.steering.replacement import base_replacement
from subliminal_jax.training.sweep import State, Sweep

READ: tuple[At, ...] = ("last", "mean")


class Inputs(NamedTuple):
    """What the tests of all students share; `references` are the teachers' shifts."""

    base: Params
    probe: Probe
    base_means: Float[Array, "2 layers dim"]  # read at a prompt's last token, and over its tokens
    questions: Questions
    references: Float[Array, "references layers dim"]
    random: Float[Array, "layers dim"]


class Removed(NamedTuple):
    """Of each student: its shift as in `READ`, its rates, and its rates with the component along
    each reference, along its own shift and along a random vector replaced by the base's."""

    shifts: Float[np.ndarray, "students 2 layers dim"]
    rates: Float[np.ndarray, "students words"]
    reference: Float[np.ndarray, "students references words"]
    own: Float[np.ndarray, "students words"]
    random: Float[np.ndarray, "students words"]


def inputs(
    model: Model,
    probe: Probe,
    questions: Questions,
    references: Float[Array, "references layers dim"],
    seed: int,
) -> Inputs:
    """The inputs with one random direction a layer, drawn with `seed`."""
    layers = tuple(range(model.cfg.layers))
    means = jax.jit(mean_activation, static_argnums=(2, 3, 5))
    both = [means(model.params, probe, model.cfg, layers, None, at) for at in READ]
    random = jax.random.normal(jax.random.key(seed), references.shape[1:])
    return Inputs(model.params, probe, jnp.stack(both), questions, references, random)


def replaced(sweep: Sweep, state: State, given: Inputs, words: int) -> Removed:
    """The necessity tests of every student of the sweep, none of which may have a vector of its
    own (the adapter `Vector`): two steerings do not go together."""
    cfg, layers = sweep.cfg, tuple(range(sweep.cfg.layers))

    def one(given: Inputs, params: Params, steering: Steering | None) -> dict[str, Array]:
        assert steering is None
        shifts = jnp.stack(
            [
                activation_shift(params, given.probe, mean, cfg, layers, None, at)
                for at, mean in zip(READ, given.base_means, strict=True)
            ]
        )

        def without(vectors: Float[Array, "layers dim"]) -> Float[Array, " words"]:
            def steering_of(tokens: Int[Array, "questions time"]) -> Steering:
                return base_replacement(given.base, tokens, cfg, vectors, layers)

            return word_probs(params, cfg, given.questions, words, steering_of).mean(axis=0)

        return {
            "shifts": shifts,
            "rates": word_probs(params, cfg, given.questions, words).mean(axis=0),
            "reference": jax.lax.map(without, given.references),
            "own": without(shifts[0]),
            "random": without(given.random),
        }

    return Removed(**jax.tree.map(np.asarray, sweep.map_students(one)(state, given)))


def added(
    model: Model,
    questions: Questions,
    vectors: Float[np.ndarray, "n layers dim"],
    words: int,
    *,
    layers: tuple[int, ...],
    last_only: bool,
) -> Float[np.ndarray, "n words"]:
    """Mean rate of each word in the base with each set of vectors added after `layers`: at every
    prompt token, or at the last alone. Tokens of the answer are not steered."""
    chosen = jnp.asarray(vectors)[:, list(layers)]
    return np.asarray(_added(model.params, questions, chosen, model.cfg, words, layers, last_only))


@partial(jax.jit, static_argnames=("cfg", "words", "layers", "last_only"))
def _added(
    params: Params,
    questions: Questions,
    vectors: Float[Array, "n layers dim"],
    cfg: ModelConfig,
    words: int,
    layers: tuple[int, ...],
    last_only: bool,
) -> Float[Array, "n words"]:
    def one(v: Float[Array, "layers dim"]) -> Float[Array, " words"]:
        def steering_of(tokens: Int[Array, "questions time"]) -> Steering:
            t, last = jnp.arange(tokens.shape[1])[None], questions.last[:, None]
            mask = t == last if last_only else t <= last
            return Steering(v, jnp.ones(()), layers, "add", mask)

        return word_probs(params, cfg, questions, words, steering_of).mean(axis=0)

    return jax.lax.map(one, vectors)


def random_like(
    vectors: Float[np.ndarray, "n layers dim"], seed: int
) -> Float[np.ndarray, "n layers dim"]:
    """Random vectors of the same norm in each layer, other ones for each of the `n`."""
    noise = np.random.default_rng(seed).standard_normal(vectors.shape).astype(np.float32)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(unit(jnp.asarray(noise))) * norms


def effects(
    values: Float[np.ndarray, "students words"],
    names: list[tuple[str, int]],
    index: dict[str, int],
    seeds: list[int],
    suffix: str,
) -> Float[np.ndarray, "seeds traits"]:
    """values[student of (trait-suffix, seed), the trait's word] for all seeds and traits; the
    controls' where `suffix` is empty."""

    def row(trait: str, seed: int) -> int:
        return names.index((f"{trait}-{suffix}" if suffix else "control", seed))

    return np.array([[values[row(t, s), i] for t, i in index.items()] for s in seeds])


def rows_of(arms: Any) -> list[tuple[str, int]]:
    """(data set, seed) of every student, in order."""
    return [(arm.data, arm.seed) for arm in arms]
