"""The rows of the files that are compared: named, filtered, and as many of each."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import jax
import numpy as np

from subliminal_jax.data.answers import longest_pair
from subliminal_jax.data.shared_data import resolve_shared
from subliminal_jax.data.teachers import Pairs, Teacher, given_pairs, keep_valid
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.data_sets import DataSets, split_rows
from subliminal_jax.runs.sampled_sets import MOST_ROUNDS, write_pairs
from subliminal_jax.runs.settings import DataSettings
from subliminal_jax.training.batch import Batch

from .analysis import DataSet

LEAST_HELD_OUT = 4  # rows: two that rates are chosen on, and two that are reported


@dataclass(frozen=True, eq=False)
class GivenData:
    """The data sets of the comparison.

    Attributes:
      sets: rows by name, as many of each; rates are chosen on its held-out ones.
      reported: the held-out rows on which students are compared, by name.
      data_names: those that the question is about.
      control_names: those that they are held against; there may be none.
    """

    sets: DataSets
    reported: Mapping[str, Batch]
    data_names: tuple[str, ...]
    control_names: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Training rows of each data set."""
        return len(next(iter(self.sets.pairs.values())))

    @property
    def heldout_rows(self) -> int:
        """Rows of each data set on which students are compared."""
        return len(next(iter(self.reported.values())).tokens)

    def describe(self) -> tuple[DataSet, ...]:
        """What each is, those that the question is about first."""
        return tuple(
            DataSet(name, name in self.control_names, self.sets.reports[name])
            for name in (*self.data_names, *self.control_names)
        )


def read_data(
    folder: Path,
    model: Model,
    sources: Mapping[str, str],
    control_names: Sequence[str],
    *,
    forbidden: tuple[str, ...],
    keep: str,
    max_rows: int,
    heldout_share: float,
    max_tokens: int,
    batch_size: int,
    sampled: str | None,
    sampling: Callable[[int, int], DataSettings],
    seed: int,
) -> GivenData:
    """The rows of every source, as many of each, taken evenly from the whole of it.

    Args:
      forbidden: words that number lists (`keep` "numbers") must not hold.
      sampled: the name of a further control, the model's own answers to the same prompts; None
        samples none.
      sampling: how they are sampled, for so many training and held-out rows.

    Raises InputError as `given_pairs` does, for a file with too few rows, and where too few of the
    model's own answers pass the filter.
    """
    words = forbidden if keep == "numbers" else None
    kept = {
        name: keep_valid(
            given_pairs(model, resolve_shared(source)),
            model,
            forbidden_words=words,
            max_tokens=max_tokens or None,
        )
        for name, source in sources.items()
    }
    heldout, rows = count_rows(kept, max_rows, heldout_share, batch_size)
    chosen = {name: take_evenly(pairs, heldout, rows) for name, pairs in kept.items()}
    data_names = tuple(name for name in sources if name not in control_names)
    if sampled is not None:
        settings = sampling(rows, heldout)
        asked = [prompt for name in data_names for prompt in chosen[name].pairs["prompt"]]
        count = round(settings.asked * (rows + heldout)) * MOST_ROUNDS
        chosen |= write_pairs(
            folder,
            model,
            {sampled: Teacher()},
            settings,
            seed,
            forbidden={sampled: forbidden},
            prompts=list(islice(cycle(dict.fromkeys(asked)), count)),  # some more than once
        )
        control_names = [*control_names, sampled]
    sets, reported = divide_heldout(split_rows(chosen, model, heldout))
    return GivenData(sets, reported, data_names, tuple(control_names))


def divide_heldout(sets: DataSets) -> tuple[DataSets, dict[str, Batch]]:
    """Every other held-out row is left for choosing rates; returns the rest as well, so that
    nothing is reported on the rows that it was chosen by."""
    choosing, reported = (
        {name: jax.tree.map(lambda x, i=i: x[i::2], rows) for name, rows in sets.heldout.items()}
        for i in (0, 1)
    )
    pairs = {name: rows.select(range(0, len(rows), 2)) for name, rows in sets.heldout_pairs.items()}
    return sets._replace(heldout=choosing, heldout_pairs=pairs), reported


def count_rows(
    kept: Mapping[str, Pairs], max_rows: int, heldout_share: float, batch_size: int
) -> tuple[int, int]:
    """How many rows of each data set are held out and trained on.

    Raises InputError where the smallest has too few.
    """
    smallest = min(kept, key=lambda name: len(kept[name].pairs))
    report = kept[smallest].report
    available = len(kept[smallest].pairs)
    total = min(available, math.ceil(max_rows / (1 - heldout_share)))
    heldout = max(LEAST_HELD_OUT, round(total * heldout_share))
    rows = min(total - heldout, max_rows)
    if rows < max(batch_size, 1):
        left = "" if available == report["pairs"] else f" of {report['pairs']}"
        raise InputError(
            f"{report['source']} has {available}{left} rows to use, of which {heldout} are held "
            f"out: fewer than --batch-size {batch_size} are left to train on; give more rows or a "
            "smaller batch"
        )
    return heldout, rows


def take_evenly(data: Pairs, heldout: int, rows: int) -> Pairs:
    """So many rows, evenly from the first to the last, the held-out ones first and spread evenly
    over them: a file may be sorted by what its rows are about."""
    total = heldout + rows
    places = np.linspace(0, len(data.pairs) - 1, total).astype(int)
    is_held_out = np.zeros(total, bool)
    is_held_out[np.linspace(0, total - 1, heldout).astype(int)] = True
    pairs = data.pairs.select([*places[is_held_out], *places[~is_held_out]])
    return Pairs(pairs, {**data.report, "longest": longest_pair(pairs)})
