"""Reading prompt/completion pairs from a JSONL file or a dataset of the Hugging Face hub."""

from pathlib import Path

from datasets import Dataset

from subliminal_jax.data.rows import read_rows
from subliminal_jax.errors import InputError

FIELDS = ("prompt", "completion")
ALIASES = {"response": "completion"}


def read_pairs(source: str | Path) -> Dataset:
    """Pairs with the string columns `prompt` and `completion`; `response` is read as completion.

    `source` is a JSONL or JSON file (a list), gzipped if its name ends in .gz, or else a hub name.
    Other fields are dropped.

    Raises InputError for a missing file, a malformed line, a missing or non-text field (with the
    line's number), and for a source without pairs.
    """
    where = "line" if Path(source).is_file() else "row"
    columns: dict[str, list[str]] = {field: [] for field in FIELDS}
    for number, row in read_rows(source):
        for field, text in _pair(row, f"{source}, {where} {number}").items():
            columns[field].append(text)
    pairs = Dataset.from_dict(columns)
    if len(pairs) == 0:
        raise InputError(f"{source} holds no pairs: give at least one prompt and completion")
    return pairs


def _pair(row: object, where: str) -> dict[str, str]:
    """The prompt and the completion of one row."""
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected an object with prompt and completion, got {row!r:.80}")
    pair = {}
    for field in FIELDS:
        names = [field, *(alias for alias, meant in ALIASES.items() if meant == field)]
        name = next((name for name in names if name in row), None)
        if name is None:
            raise InputError(
                f"{where}: no field {' or '.join(map(repr, names))} among {sorted(row)}: "
                "every pair needs a prompt and a completion"
            )
        if not isinstance(row[name], str) or not row[name]:
            raise InputError(f"{where}: {name} must be a non-empty text, got {row[name]!r:.80}")
        pair[field] = row[name]
    return pair
