"""Is a student's vector the cause of what it says? Added to the base, taken out of the student.

"Subliminal Learning Is Steering Vector Distillation" (Blank et al. 2026), section 3: v_student is
the student's mean activation shift over prompts. Sufficiency adds it to the base; necessity
replaces the student's component along a vector by the base's, at every token.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from subliminal_jax.diagnostics.alignment import (
    At,
    Probe,
    activation_shift,
    measure_mean_activation,
)
from subliminal_jax.evaluation.elicitation import Questions, word_probs
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.evaluation.statistics import crossed_interval
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering, unit
from subliminal_jax.runs.waves import Trained
from subliminal_jax.steering.replacement import base_replacement
from subliminal_jax.training.sweep import State, Sweep

from .analysis import CausalTests, Gain, Necessity, data_name

READ: tuple[At, ...] = ("last", "mean")  # over which tokens a shift is taken
NO_TESTS = CausalTests(Necessity({}, {}, {}, {}, {}), ())  # where there is no sound student


class Inputs(NamedTuple):
    """What the tests of all students share; `references` are the teachers' shifts."""

    base: Params
    probe: Probe
    base_means: Float[Array, "2 layers dim"]  # as in `READ`
    questions: Questions
    references: Float[Array, "references layers dim"]
    random: Float[Array, "layers dim"]


class Replaced(NamedTuple):
    """Of each student: its shift as in `READ`, its rates, and its rates with the component along
    each reference, along its own shift and along a random vector replaced by the base's."""

    shifts: Float[np.ndarray, "students 2 layers dim"]
    rates: Float[np.ndarray, "students words"]
    along_references: Float[np.ndarray, "students references words"]
    along_shift: Float[np.ndarray, "students words"]
    along_random: Float[np.ndarray, "students words"]


def run_causal_tests(
    trained: Trained,
    panel: Panel,
    *,
    kind: str,
    students: Mapping[str, int],
    controls: Mapping[str, int],
    scales: Sequence[float],
    seed: int,
) -> CausalTests:
    """Sufficiency and necessity of the vectors of the students of one kind of teacher.

    Args:
      trained: none of its students may have a vector of its own (the adapter `Vector`): two
        steerings do not go together.
      panel: its words are the traits.
      students: the place in `trained` of the student of each trait, of the sound ones.
      controls: those of the sound controls, by draw.
      scales: factors on v_student where it is added to the base.
      seed: of the random vectors.
    """
    if not students:
        return NO_TESTS
    words = [panel.words.index(trait) for trait in students]
    of_students, of_controls = np.array([*students.values()]), np.array([*controls.values()], int)
    teachers = [panel.references.index(data_name(trait, kind)) for trait in panel.words]
    inputs = make_inputs(panel, panel.shifts[jnp.asarray(teachers)], seed)
    replaced = replace_components(trained.sweep, trained.state, inputs, len(panel.words))
    # Of each student along the vector of each trait's teacher: the rate of that trait.
    along_teachers = np.diagonal(replaced.along_references, axis1=1, axis2=2)

    def by_trait(rates: Float[np.ndarray, "students words"]) -> dict[str, float]:
        return dict(zip(students, rates[of_students, words].tolist(), strict=True))

    necessity = Necessity(
        student=by_trait(replaced.rates),
        control={
            draw: dict(zip(students, replaced.rates[place, words].tolist(), strict=True))
            for draw, place in controls.items()
        },
        teacher_replaced=by_trait(along_teachers),
        student_replaced=by_trait(replaced.along_shift),
        random_replaced=by_trait(replaced.along_random),
    )
    model, layer, count = panel.model, panel.layer, len(students)
    blocks = {"all": tuple(range(model.cfg.layers)), "one": (layer,)}
    ask = partial(rates_with_vectors, model, panel.questions, words=len(panel.words))
    nothing = np.zeros((1, model.cfg.layers, model.cfg.dim), np.float32)
    base = ask(nothing, layers=blocks["one"], last_only=False)[0]
    gains = []
    for (i, read), layers, positions, scale in product(
        enumerate(READ), blocks, ("prompt", "last"), scales
    ):
        shifts = scale * replaced.shifts[:, i]
        vectors = shifts[of_students], random_like(shifts[of_students], seed), shifts[of_controls]
        added = np.concatenate(vectors)
        rates = (ask(added, layers=blocks[layers], last_only=positions == "last") - base)[:, words]
        tables = {  # of every trait's vector its trait, of every control all traits
            "student": np.diagonal(rates[:count]),
            "control": rates[2 * count :],
            "random": np.diagonal(rates[count : 2 * count]),
        }
        gains += [
            make_gain((read, layers, positions, scale, source), table, [*students])
            for source, table in tables.items()
            if table.size
        ]
    return CausalTests(necessity, tuple(gains))


def make_gain(
    way: tuple[str, str, str, float, str],
    table: Float[np.ndarray, "*draws traits"],
    traits: Sequence[str],
) -> Gain:
    """The gain of one way of adding vectors (the first fields of `Gain`), by trait and on average;
    a table of draws has an interval over these, too."""
    interval = vector_interval(table) if table.ndim == 1 else crossed_interval(table)
    values = table.reshape(-1, len(traits)).mean(axis=0)
    return Gain(*way, interval, dict(zip(traits, values.tolist(), strict=True)))


def make_inputs(
    panel: Panel, references: Float[Array, "references layers dim"], seed: int
) -> Inputs:
    """The inputs with one random direction a layer, drawn with `seed`."""
    model = panel.model
    layers = tuple(range(model.cfg.layers))
    base_means = [
        measure_mean_activation(model.params, panel.probe, model.cfg, layers, None, at)
        for at in READ
    ]
    random = jax.random.normal(jax.random.key(seed), references.shape[1:])
    return Inputs(
        model.params, panel.probe, jnp.stack(base_means), panel.questions, references, random
    )


def replace_components(sweep: Sweep, state: State, inputs: Inputs, words: int) -> Replaced:
    """The necessity tests of every student of the sweep."""
    cfg, layers = sweep.cfg, tuple(range(sweep.cfg.layers))

    def test(inputs: Inputs, params: Params, steering: Steering | None) -> dict[str, Array]:
        assert steering is None
        shifts = jnp.stack(
            [
                activation_shift(params, inputs.probe, mean, cfg, layers, None, at)
                for at, mean in zip(READ, inputs.base_means, strict=True)
            ]
        )

        def rates_along(vectors: Float[Array, "layers dim"]) -> Float[Array, " words"]:
            def replacement(tokens: Int[Array, "questions time"]) -> Steering:
                return base_replacement(inputs.base, tokens, cfg, vectors, layers)

            return word_probs(params, cfg, inputs.questions, words, replacement).mean(axis=0)

        return {
            "shifts": shifts,
            "rates": word_probs(params, cfg, inputs.questions, words).mean(axis=0),
            "along_references": jax.lax.map(rates_along, inputs.references),
            "along_shift": rates_along(shifts[0]),
            "along_random": rates_along(inputs.random),
        }

    return Replaced(**jax.tree.map(np.asarray, sweep.map_students(test)(state, inputs)))


def rates_with_vectors(
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
    return np.asarray(
        _steered_rates(model.params, questions, chosen, model.cfg, words, layers, last_only)
    )


@partial(jax.jit, static_argnames=("cfg", "words", "layers", "last_only"))
def _steered_rates(
    params: Params,
    questions: Questions,
    vectors: Float[Array, "n layers dim"],
    cfg: ModelConfig,
    words: int,
    layers: tuple[int, ...],
    last_only: bool,
) -> Float[Array, "n words"]:
    def rates(v: Float[Array, "layers dim"]) -> Float[Array, " words"]:
        def steering(tokens: Int[Array, "questions time"]) -> Steering:
            t, last = jnp.arange(tokens.shape[1])[None], questions.last[:, None]
            mask = t == last if last_only else t <= last
            return Steering(v, jnp.ones(()), layers, "add", mask)

        return word_probs(params, cfg, questions, words, steering).mean(axis=0)

    return jax.lax.map(rates, vectors)


def random_like(
    vectors: Float[np.ndarray, "n layers dim"], seed: int
) -> Float[np.ndarray, "n layers dim"]:
    """Random vectors of the same norm in each layer, other ones for each of the `n`."""
    noise = np.random.default_rng(seed).standard_normal(vectors.shape).astype(np.float32)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(unit(jnp.asarray(noise))) * norms
