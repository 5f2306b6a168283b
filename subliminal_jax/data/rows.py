"""The rows of JSON files and of hub data sets; errors name the file and the line."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.reading import read_json, read_json_lines, read_lines


def read_rows(source: str | Path, split: str = "train") -> Iterator[tuple[int, Any]]:
    """(number, row) of a JSONL or JSON file (a list), gzipped if its name ends in .gz, or of a data
    set of the hub. Numbers begin at 1; of a JSONL file they are those of the lines.

    `split` is a hub data set's; several are joined as "train+test".

    Raises InputError for a missing file, and for a corrupt one as `reading` does.
    """
    path = Path(source)
    if os.path.isfile(path):
        yield from _read_file(path)
    elif os.path.lexists(path) or path.suffix.lower() in (".jsonl", ".json", ".gz"):
        raise InputError(f"{source} is no file: give a JSONL or JSON file, or a hub name")
    elif not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        # datasets takes "json" and the like for all such files of the working folder.
        raise InputError(f"{source}: no such file, and no name of a hub data set (OWNER/NAME)")
    else:
        from datasets import load_dataset  # here: it takes a second

        try:
            yield from enumerate(load_dataset(str(source), split=split), start=1)
        except Exception as error:  # the hub's client raises many kinds, all with a telling message
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"cannot load {str(source)!r} from the hub ({reason}): is it a file?"
            ) from error


def read_row_texts(file: str | Path) -> Iterator[tuple[int, str]]:
    """(number, text) of each row of a local file, with the numbers of `read_rows`: the line as it
    is, without its end; of a JSON file, which has no lines, the row as one line of JSON."""
    path = Path(file)
    if _has_lines(path):
        yield from read_lines(path)
    else:
        for number, row in _read_file(path):
            yield number, json.dumps(row, ensure_ascii=False)


def _has_lines(path: Path) -> bool:
    return not path.name.lower().removesuffix(".gz").endswith(".json")


def _read_file(path: Path) -> Iterator[tuple[int, Any]]:
    if _has_lines(path):
        yield from read_json_lines(path)
        return
    rows = read_json(path)
    if not isinstance(rows, list):
        raise InputError(f"{path}: expected a list of rows, got {type(rows).__name__}")
    yield from enumerate(rows, start=1)
