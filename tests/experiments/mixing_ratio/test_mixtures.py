"""What is in a mixture."""

import numpy as np
from datasets import Dataset

from subliminal_jax.experiments.mixing_ratio.mixtures import (
    Mixture,
    choose_rows,
    mix_data_sets,
)
from subliminal_jax.runs.data_sets import DataSets
from subliminal_jax.training.batch import Batch

ROWS, HELD = 40, 8


def make_rows(first: int, count: int) -> tuple[Batch, Dataset]:
    """Rows whose tokens are their number, and the pairs that say it."""
    numbers = np.arange(first, first + count)
    tokens = np.repeat(numbers[:, None], 3, axis=1)
    return Batch(tokens, tokens * 0, tokens * 0.0), Dataset.from_dict({"prompt": numbers.tolist()})


def sample() -> DataSets:
    train, pairs = {}, {}
    heldout, heldout_pairs = {}, {}
    for name, first in (("owl", 1000), ("clean-owl", 0)):
        train[name], pairs[name] = make_rows(first, ROWS)
        heldout[name], heldout_pairs[name] = make_rows(first + 500, HELD)
    return DataSets(train, heldout, pairs, {"owl": {"longest": 3}}, heldout_pairs)


def test_rows_of_a_teacher_stand_in_place_of_clean_ones_and_grow_with_the_share():
    shares = (0.0, 0.1, 0.25, 0.5, 1.0)
    mixed = mix_data_sets(sample(), {f"owl-{s}": Mixture("owl", s, 3) for s in shares})
    before: set[int] = set()
    for share in shares:
        tokens = np.asarray(mixed.train[f"owl-{share}"].tokens)
        assert mixed.pairs[f"owl-{share}"]["prompt"] == tokens[:, 0].tolist()
        np.testing.assert_array_equal(tokens[:, 0] % 1000, np.arange(ROWS))
        taught = set(np.flatnonzero(tokens[:, 0] >= 1000))
        assert len(taught) == round(share * ROWS) and before <= taught
        before = taught
        held = np.asarray(mixed.heldout[f"owl-{share}"].tokens)[:, 0]
        assert mixed.heldout_pairs[f"owl-{share}"]["prompt"] == held.tolist()
        assert np.sum(held >= 1500) == round(share * HELD)


def test_the_draw_is_the_seeds():
    draws = [tuple(choose_rows(100, 0.5, (seed, 0))) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
