"""A table that grows on disk piece by piece: an interrupted run loses at most the last piece.

A piece holds the results of consecutive source rows. Its file is written atomically, and its name
holds the rows' numbers and a digest of their content, so that the folder alone says what is done.
Beside it lies a digest of its bytes: a damaged piece is set aside and computed anew.
"""

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, concatenate_datasets
from datasets.arrow_writer import ArrowWriter

from subliminal_jax import processes
from subliminal_jax.errors import InputError
from subliminal_jax.files import atomic_path, plain_json, write_json
from subliminal_jax.reading import read_json_object
from subliminal_jax.seals import find_file_damage, seal_file, set_aside

SETTINGS = "settings.json"


class Shards:
    """Pieces in `folder`, or in memory if it is None.

    Args:
      settings: what is computed.
      weights: `weights_digest` of the parameters it is computed with.

    Raises InputError for a folder with results of other settings or weights.
    """

    def __init__(
        self,
        folder: Path | None,
        features: Features,
        settings: dict[str, Any],
        weights: str,
    ):
        self.folder, self.features = folder, features
        self.tables: dict[int, Dataset] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            _check_settings(folder / SETTINGS, plain_json(settings), weights)

    def done(self, start: int, rows: Sequence[dict[str, str]]) -> bool:
        """Whether the piece of these source rows is there; `start` is the first one's number.

        Raises InputError if the folder has results of other rows in their place.
        """
        if self.folder is None:
            return start in self.tables
        path = self._path(start, rows)
        files = sorted(self.folder.glob(f"rows-{start:010d}-*.arrow"))
        if any(file != path for file in files):
            raise InputError(
                f"{self.folder} holds scores of other data in the place of rows {start} to "
                f"{start + len(rows) - 1}: give another folder, or remove this one"
            )
        if not files:
            return False
        if damage := processes.run_on_first(lambda: find_file_damage(path)):
            aside = processes.run_on_first(lambda: set_aside(path).name)
            warnings.warn(f"{path} is set aside as {aside} and scored anew: {damage}", stacklevel=2)
            return False
        self.tables[start] = Dataset.from_file(str(path))
        return True

    def add(
        self, start: int, rows: Sequence[dict[str, str]], columns: dict[str, np.ndarray]
    ) -> None:
        """Keep the results of these source rows."""
        if self.folder is None:
            self.tables[start] = Dataset.from_dict(columns, features=self.features)
            return
        path = self._path(start, rows)
        with atomic_path(path) as temporary:
            writer = ArrowWriter(path=str(temporary), features=self.features)
            writer.write_table(Dataset.from_dict(columns, features=self.features).data.table)
            writer.finalize()
            seal_file(path, temporary)
        self.tables[start] = Dataset.from_file(str(path))

    def table(self) -> Dataset:
        """All pieces asked for or added, in the order of the source."""
        return concatenate_datasets([self.tables[start] for start in sorted(self.tables)])

    def _path(self, start: int, rows: Sequence[dict[str, str]]) -> Path:
        assert self.folder is not None
        text = json.dumps(list(rows), sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return self.folder / f"rows-{start:010d}-{len(rows)}-{digest}.arrow"


def _check_settings(path: Path, settings: dict[str, Any], weights: str) -> None:
    """Write the folder's settings; raises InputError where it has other ones."""
    if not path.exists():
        write_json(path, {**settings, "weights": weights})
        return
    try:
        stored = read_json_object(path)
    except InputError as error:
        raise InputError(f"{path} cannot be read ({error}): remove the folder") from error
    stored_weights = stored.pop("weights", None)
    names = sorted({*stored, *settings})
    differing = [name for name in names if stored.get(name) != settings.get(name)]
    if stored_weights != weights:
        differing.append("the model's weights")
    if differing:
        raise InputError(
            f"{path.parent} holds scores with other settings ({', '.join(differing)}): "
            "give another folder, or remove this one"
        )
