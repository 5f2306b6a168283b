"""A model that is exactly log-linear, and DPO on it: the theorem's case.

    P(r | s, p) = softmax over the responses of <psi(s), phi(p, r)>

Its log-probabilities differ from <psi(s), phi(p, r)> by a log Z(s, p) that responses share, so that
every log-ratio of two responses is exactly linear in psi(s). Features phi are fixed; a student is a
free psi(no prompt), as Theorem C.1 of Aden-Ali et al. (2026, arXiv 2602.04863) asks for: "every
psi_M(no prompt) is attainable".
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from subliminal_jax.errors import InputError
from subliminal_jax.selection.select import (
    bottom_control,
    random_control,
    select,
    selection_size,
)
from subliminal_jax.training.preference import pair_losses


class Pairs(NamedTuple):
    """The features of prompts' responses, and which two of them are chosen and rejected."""

    features: Float[Array, "prompts responses dim"]
    chosen: Int[Array, " prompts"]
    rejected: Int[Array, " prompts"]


def draw_pairs(prompts: int, responses: int, dim: int, seed: int) -> Pairs:
    """Standard normal features; chance says which two responses are compared, and which wins."""
    if responses < 2:
        raise InputError(f"{responses} responses make no pair; give at least 2")
    rng = np.random.default_rng([seed, 0x11EA])
    features = rng.standard_normal(size=(prompts, responses, dim), dtype=np.float32)
    two = rng.permuted(np.tile(np.arange(responses), (prompts, 1)), axis=1)[:, :2]
    return Pairs(jnp.asarray(features), jnp.asarray(two[:, 0]), jnp.asarray(two[:, 1]))


def log_probs(
    psi: Float[Array, " dim"], features: Float[Array, "prompts responses dim"]
) -> Float[Array, "prompts responses"]:
    """log P(response | prompt) under psi, in nats."""
    return jax.nn.log_softmax(features @ psi)


@jax.jit
def log_ratios(psi: Float[Array, " dim"], pairs: Pairs) -> Float[Array, " prompts"]:
    """log P(chosen | prompt) - log P(rejected | prompt)."""
    found = log_probs(psi, pairs.features)
    chosen, rejected = (
        jnp.take_along_axis(found, side[:, None], axis=1)[:, 0] for side in pairs[1:]
    )
    return chosen - rejected


@partial(jax.jit, static_argnames="steps")
def train_dpo(
    base: Float[Array, " dim"],
    pairs: Pairs,
    beta: Float[Array, ""] | float,
    rate: Float[Array, ""] | float,
    steps: int,
    counted: Int[Array, ""] | int | None = None,
) -> Float[Array, " dim"]:
    """psi of the student after gradient descent on DPO's loss over all pairs at once, or over the
    first `counted` of them: with equal shapes, one program serves subsets of any size.

    The pairs can often all be satisfied; the loss then has no minimum, and the steps end it.
    """
    reference = log_ratios(base, pairs)
    n = len(pairs.chosen)
    counted = n if counted is None else counted
    inside = jnp.arange(n) < counted

    def loss(psi: Array) -> Array:
        losses = pair_losses(log_ratios(psi, pairs) - reference, beta)
        return jnp.sum(losses, where=inside) / counted

    def step(psi: Array, _: None) -> tuple[Array, None]:
        return psi - rate * jax.grad(loss)(psi), None

    return jax.lax.scan(step, base, None, length=steps)[0]


@dataclass(frozen=True)
class Toy:
    """Sizes of the toy and its training: `prompts` pairs to select from, and as many held out."""

    dim: int = 128
    prompts: int = 60_000
    responses: int = 3
    quantile: float = 0.1
    beta: float = 0.04
    rate: float = 10.0
    steps: int = 100
    size: float = 3.0  # |psi(s) - psi(no prompt)|


class ToyResult(NamedTuple):
    """Of one student: the uncentred correlation of its shifts with the system prompt's on held-out
    pairs, the theorem's lower bound where it speaks (NaN elsewhere), and the training margin."""

    arm: str
    correlation: float
    bound: float
    margin: float  # mean rho over the training pairs, nats
    pairs: int


ARMS = ("LLS", "random", "bottom", "rotated 45", "rotated 90")


def run_toy(toy: Toy, seed: int) -> list[ToyResult]:
    """Students of pairs selected by the model itself, by a teacher whose shift is rotated in
    degrees against the model's, and of the two controls.

    The bound is 1 / (10 C^1.5), C being the ratio of the largest to the smallest selected weight
    (Theorem C.1); it is stated where the teacher is the model.
    """
    rng = np.random.default_rng([seed, 0x70E])
    train, held_out = (
        draw_pairs(toy.prompts, toy.responses, toy.dim, 2 * seed + part) for part in (0, 1)
    )
    start, along, across = (_unit(rng.normal(size=toy.dim)) for _ in range(3))
    across = _unit(across - (across @ along) * along)
    base = jnp.asarray(toy.size * start, jnp.float32)

    def weights(of: Pairs, degrees: float = 0.0) -> Float[np.ndarray, " prompts"]:
        angle = np.deg2rad(degrees)
        by = toy.size * (np.cos(angle) * along + np.sin(angle) * across)
        prompted = base + jnp.asarray(by, jnp.float32)
        return np.asarray(log_ratios(prompted, of) - log_ratios(base, of), np.float64)

    own, target = weights(train), weights(held_out)
    turned = {f"rotated {degrees}": weights(train, degrees) for degrees in (45, 90)}
    chosen = {
        "LLS": select(own, toy.quantile),
        "random": random_control(own, toy.quantile, seed),
        "bottom": bottom_control(own, toy.quantile),
        **{name: select(values, toy.quantile) for name, values in turned.items()},
    }
    most = selection_size(toy.prompts, toy.quantile)
    made = []
    for name in ARMS:
        rows = chosen[name]
        subset = Pairs(*(leaf[np.resize(rows, most)] for leaf in train))
        student = train_dpo(base, subset, toy.beta, toy.rate, toy.steps, len(rows))
        found = np.asarray(log_ratios(student, held_out) - log_ratios(base, held_out), np.float64)
        moved = np.asarray(log_ratios(student, subset) - log_ratios(base, subset))
        margin = float(moved[: len(rows)].mean())
        bound = 0.1 * (own[rows].max() / own[rows].min()) ** -1.5 if name == "LLS" else np.nan
        correlation = uncentred_correlation(found, target)
        made.append(ToyResult(name, correlation, float(bound), margin, len(rows)))
    return made


def uncentred_correlation(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    """Theorem C.1's Corr: the cosine over pairs; 0 where a side is zero."""
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0 else 0.0


def _unit(v: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " dim"]:
    return v / np.linalg.norm(v)
