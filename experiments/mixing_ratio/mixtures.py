"""Clean rows and a teacher's, mixed."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from datasets import Dataset, concatenate_datasets
from jaxtyping import Bool

from subliminal_jax.runs.data_sets import DataSets
from subliminal_jax.training.batch import Batch

CLEAN = "clean-"  # begins the names of the plain base's rows, one draw for each trait


class Mixture(NamedTuple):
    """A share of the rows of a trait's teacher among clean ones; `seed` is the trait's."""

    trait: str
    share: float
    seed: int


def mix_data_sets(sampled: DataSets, mixtures: Mapping[str, Mixture]) -> DataSets:
    """The mixtures, by name.

    Teacher rows stand in place of the clean ones that a draw by the seed chooses; those of a
    smaller share are among those of a larger one. Held-out rows are mixed alike.
    """
    train: dict[str, Batch] = {}
    heldout: dict[str, Batch] = {}
    pairs: dict[str, Dataset] = {}
    heldout_pairs: dict[str, Dataset] = {}
    reports: dict[str, dict] = {}
    for name, mixture in mixtures.items():
        train[name], pairs[name] = mix_rows(mixture, sampled.train, sampled.pairs, 0)
        heldout[name], heldout_pairs[name] = mix_rows(
            mixture, sampled.heldout, sampled.heldout_pairs, 1
        )
        reports[name] = {"share": mixture.share, **sampled.reports[mixture.trait]}
    return DataSets(train, heldout, pairs, reports, heldout_pairs)


def mix_rows(
    mixture: Mixture, rows: Mapping[str, Batch], pairs: Mapping[str, Dataset], salt: int
) -> tuple[Batch, Dataset]:
    """The rows of one mixture, and the pairs that they were made of."""
    taught, clean = mixture.trait, f"{CLEAN}{mixture.trait}"
    count = len(pairs[taught])
    chosen = choose_rows(count, mixture.share, (mixture.seed, salt))
    mixed = jax.tree.map(
        lambda plain, steered: jnp.where(chosen[:, None], steered, plain), rows[clean], rows[taught]
    )
    both = concatenate_datasets([pairs[clean], pairs[taught]])
    return mixed, both.select(np.arange(count) + count * chosen)


def choose_rows(count: int, share: float, seed: tuple[int, int]) -> Bool[np.ndarray, " rows"]:
    """Which of `count` rows are the teacher's: a draw that grows with the share."""
    places = np.random.default_rng(seed).permutation(count)
    return places < round(share * count)
