"""Reading prompt/completion pairs from a JSONL file or a dataset of the Hugging Face hub."""

import gzip
import json
from pathlib import Path

from datasets import Dataset, load_dataset

from subliminal_jax.errors import InputError

FIELDS = ("prompt", "completion")
ALIASES = {"response": "completion"}


def read_pairs(source: str | Path, split: str = "train") -> Dataset:
    """Pairs with the string columns `prompt` and `completion`; `response` is read as completion.

    `source` is a JSONL file, gzipped if its name ends in .gz, or else a hub name. Other fields are
    left out. Raises InputError for a missing file, a malformed line, a missing or non-text field
    (with the line's number), and for a source without pairs.
    """
    path = Path(source)
    if path.is_file():
        pairs = _read_jsonl(path)
    elif path.exists() or path.suffix in (".jsonl", ".gz", ".json"):
        raise InputError(f"{source} is no file: give a JSONL file or the name of a hub dataset")
    else:
        pairs = _read_hub(str(source), split)
    if len(pairs) == 0:
        raise InputError(f"{source} holds no pairs: give at least one prompt and completion")
    return pairs


def pairs_text(pairs: Dataset) -> str:
    """The pairs as JSONL text, one object a line, as `read_pairs` reads it."""
    return "".join(
        json.dumps({field: row[field] for field in FIELDS}, ensure_ascii=False) + "\n"
        for row in pairs
    )


def _pair(row: object, where: str) -> dict[str, str]:
    """The two fields of one row under their own names."""
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


def _read_jsonl(path: Path) -> Dataset:
    open_text = gzip.open if path.suffix == ".gz" else open
    columns: dict[str, list[str]] = {field: [] for field in FIELDS}
    try:
        with open_text(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                where = f"{path}, line {number}"
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise InputError(f"{where}: not JSON ({error.msg}): mend the line") from error
                for field, text in _pair(row, where).items():
                    columns[field].append(text)
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise InputError(f"{path} cannot be read as (gzipped) UTF-8 text: {error}") from error
    return Dataset.from_dict(columns)


def _read_hub(name: str, split: str) -> Dataset:
    try:
        loaded = load_dataset(name, split=split)
    except Exception as error:  # the hub's client raises many kinds, all with a telling message
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"cannot load {name!r} from the hub ({reason}): is it a file?") from error
    rows = [_pair(row, f"{name}, row {i}") for i, row in enumerate(loaded)]
    return Dataset.from_list(rows)
