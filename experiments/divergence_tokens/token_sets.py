"""The divergence tokens of every data set, the weights of an arm, and what the tokens hold."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from datasets import concatenate_datasets
from jaxtyping import Array, Bool, Float, Int

from subliminal_jax.data.divergence_tokens import (
    NO_TOKEN,
    draw_as_many,
    find_divergence,
    most_likely_tokens,
    weigh_answers,
)
from subliminal_jax.diagnostics.activation_gradients import target_table
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.data_sets import DataSets, slice_rows
from subliminal_jax.runs.sampled_sets import name_seed
from subliminal_jax.steering.teacher import Teacher
from subliminal_jax.training.batch import max_targets

from .config import TokenArm

LARGEST = 0.01  # the share of tokens that are called outliers, by the squared norm of gradients


class Positions(NamedTuple):
    """The divergence tokens among the answers of some rows: `mask`, of which the first `counts`
    entries of each row are tokens of its answer; and as many random positions of each row."""

    mask: Bool[np.ndarray, "rows tokens"]
    random: Bool[np.ndarray, "rows tokens"]
    counts: Int[np.ndarray, " rows"]

    @property
    def inside(self) -> Bool[np.ndarray, "rows tokens"]:
        """Which entries are tokens of an answer."""
        return np.arange(self.mask.shape[1])[None] < self.counts[:, None]


class SplitPositions(NamedTuple):
    """Those of the training and of the held-out rows of a data set."""

    train: Positions
    heldout: Positions


@dataclass(frozen=True)
class TokenCount:
    """The tokens of a data set's training answers.

    Attributes:
      tokens: how many there are.
      divergent: the share that are divergence tokens.
      most_likely: the share of those written that are the most likely one of the teacher that
        wrote.
    """

    tokens: int
    divergent: float
    most_likely: float


@dataclass(frozen=True)
class TokenGradients:
    """What the base's gradients on one trait's data hold at divergence tokens and in all.

    Of each predicted token the gradient of its own loss with respect to a vector added at the
    steering layer, at all tokens.

    Attributes:
      tokens, divergent: how many there are, and how many diverge.
      squared, divergent_squared: the sum of the gradients' squared norms.
      component, divergent_component: the sum of the negative gradients' components along the
        teacher's vector.
      outliers, divergent_outliers: the `LARGEST` share of tokens by the norm of their gradients,
        and how many of these diverge.
    """

    trait: str
    tokens: int
    divergent: int
    squared: float
    divergent_squared: float
    component: float
    divergent_component: float
    outliers: int
    divergent_outliers: int


def find_positions(
    model: Model,
    data: DataSets,
    teachers: Mapping[str, Teacher],
    factual: Mapping[str, str],
    share: float,
    seed: int,
    progress: Callable[[int], Any],
) -> tuple[dict[str, SplitPositions], dict[str, TokenCount]]:
    """The divergence tokens of every data set, and their number.

    Args:
      teachers: who wrote each data set; those of traits, which are named after them, read all.
      factual: the trait whose teacher is the factual one of each data set, all others being
        counterfactual: a trait's own; of what the plain base wrote, one that stands in its place.
      share: of the counterfactual teachers that have to differ; 0: at least one.
      seed: of the random positions.
    """
    positions: dict[str, SplitPositions] = {}
    tokens: dict[str, TokenCount] = {}
    traits = [name for name in teachers if factual[name] == name]
    for name in data.names:
        pairs = concatenate_datasets([data.heldout_pairs[name], data.pairs[name]])
        readers = traits if name in traits else [*traits, name]
        likely = most_likely_tokens(
            model, [teachers[reader] for reader in readers], pairs, progress=progress
        )
        mask = find_divergence(likely[: len(traits)], traits.index(factual[name]), share)
        written = np.full(mask.shape, NO_TOKEN, np.int32)
        for row, answer in enumerate(pairs["completion_ids"]):
            written[row, : len(answer)] = answer
        counts = (likely[0] != NO_TOKEN).sum(axis=1)
        rng = np.random.default_rng(name_seed(seed, f"random tokens of {name}"))
        every = Positions(mask, draw_as_many(mask, counts, rng), counts)
        heldout = len(data.heldout_pairs[name])
        positions[name] = SplitPositions(
            Positions(*(x[heldout:] for x in every)), Positions(*(x[:heldout] for x in every))
        )
        train = positions[name].train
        chosen = (written == likely[readers.index(name)])[heldout:] & train.inside
        total = int(train.counts.sum())
        tokens[name] = TokenCount(
            total, float(train.mask.sum() / total), float(chosen.sum() / total)
        )
    return positions, tokens


def weigh_tokens(
    positions: Positions, arm: TokenArm, emphasis: float
) -> Float[np.ndarray, "rows tokens"]:
    """The weight of each token of the answers in the loss of an arm."""
    match arm:
        case "all":
            return np.ones(positions.mask.shape)
        case "masked":
            return 1.0 - positions.mask
        case "random-masked":
            return 1.0 - positions.random
        case "alone":
            return 1.0 * positions.mask
        case "random-alone":
            return 1.0 * positions.random
        case "weighted":
            return np.where(positions.mask, emphasis, 1.0)


def name_data(name: str, arm: str) -> str:
    """The name of a data set with the weights of an arm."""
    return f"{name}+{arm}"


def weigh_data_sets(
    data: DataSets,
    positions: Mapping[str, SplitPositions],
    arms: Sequence[TokenArm],
    emphasis: float,
) -> DataSets:
    """Every data set with the weights of every arm, training and held-out rows alike.

    Raises InputError where no token of one is left to predict.
    """
    weighed = DataSets({}, {}, {}, {}, {})
    for name, (train, heldout) in positions.items():
        for arm in arms:
            key = name_data(name, arm)
            for rows, places, out in (
                (data.train[name], train, weighed.train),
                (data.heldout[name], heldout, weighed.heldout),
            ):
                weights = weigh_tokens(places, arm, emphasis)
                if not (weights * places.inside).any():
                    raise InputError(_describe_nothing(name, arm, places))
                out[key] = weigh_answers(rows, weights)
            weighed.pairs[key] = data.pairs[name]
            weighed.heldout_pairs[key] = data.heldout_pairs[name]
            weighed.reports[key] = data.reports[name]
    return weighed


def _describe_nothing(name: str, arm: str, positions: Positions) -> str:
    tokens, divergent = positions.counts.sum(), positions.mask.sum()
    return (
        f"data set {name}: {divergent} of {tokens} tokens of {len(positions.counts)} answers are "
        f"divergence tokens, which leaves nothing to learn in the arm {arm}; a longer vector "
        "(--scale) and more traits make more of them, a higher --counterfactual-share fewer"
    )


def measure_gradients(
    model: Model,
    data: DataSets,
    positions: Mapping[str, SplitPositions],
    vectors: Mapping[str, Float[Array, " dim"]],
    traits: Sequence[str],
    layer: int,
    rows: int,
    rows_at_once: int,
) -> tuple[TokenGradients, ...]:
    """The base's gradients on the first training rows of each trait's data; `vectors` are the
    teachers' at the steering layer, by trait."""
    targets = max(max_targets(data.train[trait]) for trait in traits)
    found = []
    for trait in traits:
        table = target_table(
            model.params,
            model.cfg,
            slice_rows(data.train[trait], 0, rows),
            jnp.asarray(vectors[trait], jnp.float32),
            layer,
            max_targets=targets,
            rows_at_once=rows_at_once,
        )
        here = np.asarray(table.predicted)
        mask = positions[trait].train.mask[:rows, : here.shape[1]]
        diverges = np.pad(mask, ((0, 0), (0, here.shape[1] - mask.shape[1])))[here]
        squared = np.asarray(table.squared_norm, np.float64)[here]
        found.append(sum_gradients(trait, diverges, squared, -np.asarray(table.component)[here]))
    return tuple(found)


def sum_gradients(
    trait: str,
    diverges: Bool[np.ndarray, " tokens"],
    squared: Float[np.ndarray, " tokens"],
    component: Float[np.ndarray, " tokens"],
) -> TokenGradients:
    """The sums over tokens, and which tokens have the largest gradients."""
    outliers = np.argsort(-squared, kind="stable")[: math.ceil(LARGEST * len(squared))]
    return TokenGradients(
        trait=trait,
        tokens=len(diverges),
        divergent=int(diverges.sum()),
        squared=float(squared.sum()),
        divergent_squared=float(squared[diverges].sum()),
        component=float(component.sum(dtype=np.float64)),
        divergent_component=float(component[diverges].sum(dtype=np.float64)),
        outliers=len(outliers),
        divergent_outliers=int(diverges[outliers].sum()),
    )
