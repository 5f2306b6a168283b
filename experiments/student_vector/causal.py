"""Is a student's vector the cause of what it says? Added to the base, taken out of the student.

"Subliminal Learning Is Steering Vector Distillation" (Blank et al. 2026), section 3: v_student is
the student's mean activation shift over prompts. Sufficiency adds it to the base; necessity
replaces the student's component along a vector by the base's, at every token.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple

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
from subliminal_jax.evaluation.metric_ranges import SHARE
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.evaluation.statistics import crossed_interval
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering, unit
from subliminal_jax.runs.waves import Trained
from subliminal_jax.steering.replacement import base_replacement
from subliminal_jax.training.adapters import Trainable, attach

from .analysis import CausalTests, Gain, Necessity, data_name

READ: tuple[At, ...] = ("last", "mean")  # over which tokens a shift is taken
NO_TESTS = CausalTests(Necessity({}, {}, {}, {}, {}), ())  # where there is no sound student


class Inputs(NamedTuple):
    """What the tests of all students share."""

    base: Params
    probe: Probe
    base_means: Float[Array, "2 layers dim"]  # as in `READ`
    questions: Questions
    random: Float[Array, "layers dim"]


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
    inputs, count = make_inputs(panel, seed), len(students)
    shifts, rates = read_students(
        trained, [*students.values(), *controls.values()], inputs, len(panel.words)
    )
    teachers = [panel.references.index(data_name(trait, kind)) for trait in students]
    replaced = replace_components(
        trained,
        [*students.values()],
        inputs,
        jnp.stack(
            [
                panel.shifts[jnp.array(teachers)],
                jnp.asarray(shifts[:count, 0]),
                jnp.broadcast_to(inputs.random, (count, *inputs.random.shape)),
            ],
            axis=1,
        ),
        len(panel.words),
    )

    def by_trait(rates: Float[np.ndarray, "traits words"]) -> dict[str, float]:
        return dict(zip(students, rates[range(count), words].tolist(), strict=True))

    necessity = Necessity(
        student=by_trait(rates[:count]),
        control={
            draw: dict(zip(students, each[words].tolist(), strict=True))
            for draw, each in zip(controls, rates[count:], strict=True)
        },
        teacher_replaced=by_trait(replaced[:, 0]),
        student_replaced=by_trait(replaced[:, 1]),
        random_replaced=by_trait(replaced[:, 2]),
    )
    model, layer = panel.model, panel.layer
    assert panel.questions is not None
    blocks = {"all": tuple(range(model.cfg.layers)), "one": (layer,)}
    ask = partial(rates_with_vectors, model, panel.questions, words=len(panel.words))
    nothing = np.zeros((1, model.cfg.layers, model.cfg.dim), np.float32)
    base = ask(nothing, layers=blocks["one"], last_only=False)[0]
    gains = []
    for (i, read), layers, positions, scale in product(
        enumerate(READ), blocks, ("prompt", "last"), scales
    ):
        own, neutral = np.split(scale * shifts[:, i], [count])
        vectors = np.concatenate([own, random_like(own, seed), neutral])
        added = ask(vectors, layers=blocks[layers], last_only=positions == "last")
        gained = (added - base)[:, words]
        tables = {  # of every trait's vector its trait, of every control all traits
            "student": np.diagonal(gained[:count]),
            "control": gained[2 * count :],
            "random": np.diagonal(gained[count : 2 * count]),
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
    interval = SHARE.difference().clip(interval)
    return Gain(*way, interval, dict(zip(traits, values.tolist(), strict=True)))


def make_inputs(panel: Panel, seed: int) -> Inputs:
    """The inputs with one random direction a layer, drawn with `seed`."""
    model = panel.model
    assert panel.questions is not None
    layers = tuple(range(model.cfg.layers))
    base_means = [
        measure_mean_activation(model.params, panel.probe, model.cfg, layers, None, at)
        for at in READ
    ]
    random = jax.random.normal(jax.random.key(seed), panel.shifts.shape[1:])
    return Inputs(model.params, panel.probe, jnp.stack(base_means), panel.questions, random)


def read_students(
    trained: Trained, places: Sequence[int], inputs: Inputs, words: int
) -> tuple[Float[np.ndarray, "students 2 layers dim"], Float[np.ndarray, "students words"]]:
    """The shifts of the students at `places`, as in `READ`, and their rates of each word."""
    cfg = trained.sweep.cfg
    layers = tuple(range(cfg.layers))

    def read(inputs: Inputs, params: Params) -> tuple[Array, Array]:
        shifts = [
            activation_shift(params, inputs.probe, mean, cfg, layers, None, at)
            for at, mean in zip(READ, inputs.base_means, strict=True)
        ]
        return jnp.stack(shifts), word_probs(params, cfg, inputs.questions, words).mean(axis=0)

    return map_places(trained, places, read, inputs)


def replace_components(
    trained: Trained,
    places: Sequence[int],
    inputs: Inputs,
    vectors: Float[Array, "students n layers dim"],
    words: int,
) -> Float[np.ndarray, "students n words"]:
    """The rates of the students at `places` with the component along each of their `n` vectors
    replaced by the base's, after every block and at every token."""
    cfg = trained.sweep.cfg
    layers = tuple(range(cfg.layers))

    def replace(
        inputs: Inputs, params: Params, vectors: Float[Array, "n layers dim"]
    ) -> Float[Array, "n words"]:
        def rates_along(v: Float[Array, "layers dim"]) -> Float[Array, " words"]:
            def replacement(tokens: Int[Array, "questions time"]) -> Steering:
                return base_replacement(inputs.base, tokens, cfg, v, layers)

            return word_probs(params, cfg, inputs.questions, words, replacement).mean(axis=0)

        return jax.lax.map(rates_along, vectors)

    return map_places(trained, places, replace, inputs, vectors)


def map_places(
    trained: Trained, places: Sequence[int], f: Callable[..., Any], inputs: Inputs, *each: Array
) -> Any:
    """`f(inputs, params, ...)` of the students at `places`, one after another, each with its entry
    of the arrays `each`; results are stacked in that order."""
    sweep = trained.sweep
    trees = jax.tree.map(lambda leaf: leaf[np.array(places)], sweep.students(trained.state))

    @jax.jit
    def run(inputs: Inputs, trees: Trainable, each: tuple[Array, ...]) -> Any:
        def one(x: tuple[Trainable, tuple[Array, ...]]) -> Any:
            params, _ = attach(inputs.base, x[0], sweep.cfg, sweep.config.adapter)
            return f(inputs, params, *x[1])

        return jax.lax.map(one, (trees, each))

    return jax.tree.map(np.asarray, run(inputs, trees, each))


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
