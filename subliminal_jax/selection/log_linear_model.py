"""A model that is exactly log-linear, and DPO on it: the theorem's case.

    P(r | s, p) = softmax over the responses of <psi(s), phi(p, r)>

Its log-probabilities differ from <psi(s), phi(p, r)> by a log Z(s, p) that all responses share, so
every log-ratio of two responses is exactly linear in psi(s). The features phi are fixed; a student
is a free psi(no prompt), as Theorem C.1 of Aden-Ali et al. (2026, arXiv 2602.04863) requires:
"every psi_M(no prompt) is attainable".
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
    """Pairs with standard normal features, and two responses drawn as chosen and rejected.

    Raises InputError for fewer than two responses.
    """
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
    log_p = log_probs(psi, pairs.features)
    chosen, rejected = (
        jnp.take_along_axis(log_p, side[:, None], axis=1)[:, 0] for side in pairs[1:]
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
    """psi of the student after full-batch gradient descent on DPO's loss.

    Args:
      counted: how many pairs count, the first ones; None counts all. One program then serves
        subsets of any size.
      steps: where all pairs can be satisfied, the loss has no minimum: the steps end the training.
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
    """Sizes of the toy and of its training.

    Attributes:
      dim: dimension of psi and phi.
      prompts: pairs to select from, and as many held out.
      responses: candidate responses of each prompt.
      quantile: share of the pairs with a positive score that is selected.
      beta: DPO's.
      rate, steps: of the gradient descent.
      size: |psi(s) - psi(no prompt)|.
    """

    dim: int = 128
    prompts: int = 60_000
    responses: int = 3
    quantile: float = 0.1
    beta: float = 0.04
    rate: float = 10.0
    steps: int = 100
    size: float = 3.0


class ToyResult(NamedTuple):
    """One student of the toy.

    Attributes:
      arm: which pairs it trained on, one of `ARMS`.
      correlation: uncentred, of its shifts with the system prompt's on held-out pairs.
      bound: the theorem's lower bound of the correlation; NaN where the theorem states none.
      margin: mean shift rho over its training pairs, in nats.
      pairs: their number.
    """

    arm: str
    correlation: float
    bound: float
    margin: float
    pairs: int


ARMS = ("LLS", "random", "bottom", "rotated 45", "rotated 90")


def run_toy(toy: Toy, seed: int) -> list[ToyResult]:
    """A student of each of `ARMS`: of pairs that the model itself selects, of the two controls, and
    of pairs selected by a teacher whose shift is rotated against the model's by 45 or 90 degrees.

    The bound is 1 / (10 C^1.5), C being the ratio of the largest to the smallest selected weight
    (Theorem C.1); it is stated for a teacher that is the model itself.
    """
    rng = np.random.default_rng([seed, 0x70E])
    train, held_out = (
        draw_pairs(toy.prompts, toy.responses, toy.dim, 2 * seed + part) for part in (0, 1)
    )
    start, along, across = (_unit(rng.normal(size=toy.dim)) for _ in range(3))
    across = _unit(across - (across @ along) * along)
    base = jnp.asarray(toy.size * start, jnp.float32)

    def weigh(pairs: Pairs, degrees: float = 0.0) -> Float[np.ndarray, " prompts"]:
        angle = np.deg2rad(degrees)
        shift = toy.size * (np.cos(angle) * along + np.sin(angle) * across)
        prompted = base + jnp.asarray(shift, jnp.float32)
        return np.asarray(log_ratios(prompted, pairs) - log_ratios(base, pairs), np.float64)

    weights, target = weigh(train), weigh(held_out)
    rotated = {f"rotated {degrees}": weigh(train, degrees) for degrees in (45, 90)}
    selections = {
        "LLS": select(weights, toy.quantile),
        "random": random_control(weights, toy.quantile, seed),
        "bottom": bottom_control(weights, toy.quantile),
        **{name: select(values, toy.quantile) for name, values in rotated.items()},
    }
    capacity = selection_size(toy.prompts, toy.quantile)
    results = []
    for name in ARMS:
        rows = selections[name]
        subset = Pairs(*(leaf[np.resize(rows, capacity)] for leaf in train))
        student = train_dpo(base, subset, toy.beta, toy.rate, toy.steps, len(rows))
        shifts = np.asarray(log_ratios(student, held_out) - log_ratios(base, held_out), np.float64)
        train_shifts = np.asarray(log_ratios(student, subset) - log_ratios(base, subset))
        selected = weights[rows]
        bound = 0.1 * (selected.max() / selected.min()) ** -1.5 if name == "LLS" else np.nan
        results.append(
            ToyResult(
                arm=name,
                correlation=uncentred_correlation(shifts, target),
                bound=float(bound),
                margin=float(train_shifts[: len(rows)].mean()),
                pairs=len(rows),
            )
        )
    return results


def uncentred_correlation(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    """Theorem C.1's Corr: the cosine of two vectors over pairs; 0 if either is zero."""
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms > 0 else 0.0


def _unit(v: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " dim"]:
    return v / np.linalg.norm(v)
