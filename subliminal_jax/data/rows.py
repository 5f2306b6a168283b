"""The rows of JSON files and of hub data sets; errors name the file and the line."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import load_dataset

from subliminal_jax.errors import InputError


def read_rows(source: str | Path, split: str = "train") -> Iterator[tuple[int, Any]]:
    """(number, row) of a JSONL or JSON file (a list), gzipped if its name ends in .gz, or of a data
    set of the hub. Numbers begin at 1; of a JSONL file they are those of the lines.

    `split` is a hub data set's; several are joined as "train+test".

    Raises InputError for a missing or corrupt file, and for text with half a surrogate pair.
    """
    path = Path(source)
    if path.is_file():
        yield from _read_file(path)
    elif path.exists() or path.suffix in (".jsonl", ".json", ".gz"):
        raise InputError(f"{source} is no file: give a JSONL or JSON file, or a hub name")
    else:
        try:
            data = load_dataset(str(source), split=split, trust_remote_code=False)
            yield from enumerate(data, start=1)
        except Exception as error:  # the hub's client raises many kinds, all with a telling message
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"cannot load {str(source)!r} from the hub ({reason}): is it a file?"
            ) from error


def _read_file(path: Path) -> Iterator[tuple[int, Any]]:
    open_text = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with open_text(path, "rt", encoding="utf-8") as file:
            if path.name.removesuffix(".gz").endswith(".json"):
                yield from _read_list(path, file.read())
                return
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                where = f"{path}, line {number}"
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise InputError(
                        f"{where}: not JSON ({error.msg}): correct the line"
                    ) from error
                yield number, _check_text(row, line, where)
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        position = f" after line {number}" if number else ""
        raise InputError(
            f"{path} cannot be read as (gzipped) UTF-8 text{position}: {error}"
        ) from error


def _read_list(path: Path, content: str) -> Iterator[tuple[int, Any]]:
    try:
        rows = json.loads(content)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON ({error}): correct it") from error
    if not isinstance(rows, list):
        raise InputError(f"{path}: expected a list of rows, got {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        yield number, _check_text(row, content, f"{path}, row {number}")


def _check_text(row: Any, written: str, where: str) -> Any:
    """`row`, unchanged. Raises InputError for half a surrogate pair, which only an escape such as
    "\\ud83d" can write."""
    if "\\ud" in written or "\\uD" in written:
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            raise InputError(
                f"{where}: half a surrogate pair ({half!a}) is no text: correct the row"
            ) from error
    return row
