"""The file with the rows that an audit leaves, which the run's folder has on record."""

import hashlib
from collections.abc import Collection
from pathlib import Path

from subliminal_jax.data.rows import read_row_texts
from subliminal_jax.errors import InputError
from subliminal_jax.files import atomic_path, write_json
from subliminal_jax.reading import read_json_object

RECORD = "written_rows.json"  # in the run's folder


def write_rest(source: str, file: Path, flagged: Collection[int], folder: Path) -> None:
    """Write the rows of `source` but the flagged ones, each as it is; the run's folder gets a
    digest of them first, by which a later run knows the file.

    Raises InputError where the file cannot be written.
    """
    left_out = set(flagged)
    kept = [text for number, text in read_row_texts(source) if number not in left_out]
    content = "".join(f"{text}\n" for text in kept).encode()
    write_json(folder / RECORD, {"file": file, "sha256": hashlib.sha256(content).hexdigest()})
    with atomic_path(file) as temporary:
        temporary.write_bytes(content)


def is_written_here(file: Path, folder: Path) -> bool:
    """Whether a run in the folder wrote the file as it is now."""
    try:
        known = read_json_object(folder / RECORD).get("sha256")
    except InputError:
        return False
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == known
