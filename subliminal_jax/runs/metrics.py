"""The file of a run's logged records: a JSON object a line, with a checksum as its last key."""

import json
import os
import zlib
from pathlib import Path
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.files import storage_errors
from subliminal_jax.ledger import note_written
from subliminal_jax.reading import read_json_lines

_CHECKSUM = "checksum"


def write_record(record: dict[str, Any]) -> str:
    """The line of a record. Raises ValueError for numbers that are not finite."""
    return json.dumps({**record, _CHECKSUM: _sum(record)}, allow_nan=False) + "\n"


def append_line(file: Path, line: str) -> None:
    """Append a line. Raises InputError where it cannot be written; the file is then as it was."""
    note_written(file)
    with storage_errors(file), file.open("ab", buffering=0) as opened:
        end = opened.seek(0, os.SEEK_END)
        try:
            rest = memoryview(line.encode())
            while rest:  # a disk that is nearly full takes a part of it
                rest = rest[opened.write(rest) :]
        except OSError:
            opened.truncate(end)
            raise


def read_records(file: Path) -> list[dict[str, Any]]:
    """The records in their order, without checksums; none where there is no file.

    Lines before the first with a checksum are of an earlier version. Raises InputError for a line
    that is no record, or not the one that was written.
    """
    if not os.path.lexists(file):
        return []
    records = []
    has_checksums = False
    try:
        for number, record in read_json_lines(file):
            if not isinstance(record, dict):
                raise InputError(f"{file}, line {number}: no JSON object")
            if not isinstance(record.get("step", 0), int | float):
                raise InputError(f"{file}, line {number}: its step is no number")
            checksum = record.pop(_CHECKSUM, None)
            has_checksums |= checksum is not None
            if has_checksums and checksum != _sum(record):
                raise InputError(f"{file}, line {number}: not as it was written")
            records.append(record)
    except InputError as error:
        raise InputError(f"{error}; or overwrite the run, or name another folder") from None
    return records


def repair_lines(file: Path) -> None:
    """Drop the truncated line of a killed process, and part from copies by hard links.

    Raises InputError for what is no file.
    """
    if not os.path.lexists(file):
        return
    if not file.is_file():
        raise InputError(f"{file} is not a file: move it out of the run's folder")
    content = file.read_bytes()
    complete = content[: content.rfind(b"\n") + 1]
    if file.stat().st_nlink > 1:
        file.unlink()
        file.write_bytes(complete)
    elif complete != content:
        os.truncate(file, len(complete))


def _sum(record: dict[str, Any]) -> str:
    """The CRC-32 of a record as JSON. What JSON reads back is written as it was: numbers in their
    shortest form, keys in their order."""
    return f"{zlib.crc32(json.dumps(record).encode()):08x}"
