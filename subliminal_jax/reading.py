"""Reading JSON, JSON lines and text: strict, with bounded memory, and errors that say the place.

Every file of a user is read here. Text is UTF-8, with or without a byte order mark; lines end in
"\\n" or "\\r\\n" and in nothing else, so that U+2028, U+0085 or a form feed may stand inside one. A
file is gzipped if its name ends in .gz. JSON is that of RFC 8259: no NaN, no key twice in an
object, no half of a surrogate pair, no number that a float cannot hold, and at most `MAX_DEPTH`
levels of nesting. Whatever is wrong raises InputError with one line: file, line, column and what
to do.
"""

import gzip
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any, NoReturn

from subliminal_jax.errors import InputError

MAX_DOCUMENT_BYTES = 128 << 20  # of a file that is read as a whole, after decompression
MAX_LINE_BYTES = 32 << 20
MAX_DEPTH = 100
# A gzip file that grows by more than this is no data set: a 3 MB file can hold 3 GB of zeros.
_MAX_EXPANSION = 200
_MIN_EXPANDED_BYTES = 64 << 20  # small files may expand by any factor up to this size

_CHUNK_BYTES = 1 << 20
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # Windows has none
_GZIP_MAGIC = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_OTHER_BOMS = {  # the longer ones first: UTF-32's begins with UTF-16's
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_MAX_DIGITS = 308  # every whole number of so many digits is a finite float
_TOKEN = re.compile(r'["\[\]{}]|-?Infinity|NaN|-?\d[\d.eE+-]*')
_COLON = re.compile(r"[ \t\n\r]*:")


def read_text(path: str | Path) -> str:
    """The text of a file, with "\\n" as line end and without a byte order mark.

    Raises InputError for a file that cannot be read, is larger than `MAX_DOCUMENT_BYTES`, or is no
    UTF-8 text.
    """
    return _decode(_read_document(Path(path)), str(path)).replace("\r\n", "\n")


def read_json(path: str | Path) -> Any:
    """The value in a JSON file.

    Raises InputError as `read_text` and `parse_json` do.
    """
    return parse_json(read_text(path), str(path))


def read_json_object(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file. Raises InputError as `read_json` does, and for other values."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: must hold a JSON object, not a {_name_type(value)}")
    return value


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """(number, line) of each line of a text file that is not blank, without its end.

    Numbers begin at 1. Lines are read one by one, so a file may be larger than the memory.

    Raises InputError for a file that cannot be read or is no UTF-8 text, for a line longer than
    `MAX_LINE_BYTES`, and for a carriage return or a byte order mark in the middle of the text.
    """
    for number, line in _split_lines(Path(path)):
        column = line.find("\r") + 1
        if column:
            raise InputError(
                f"{path}, line {number}, column {column}: a carriage return within a line: save "
                "the file with the line ends of Unix or Windows"
            )
        yield number, line


def read_json_lines(path: str | Path) -> Iterator[tuple[int, Any]]:
    """(number, value) of each line of a JSON-lines file that is not blank; numbers begin at 1.

    Raises InputError as `read_lines` and `parse_json` do.
    """
    for number, line in _split_lines(Path(path)):
        yield number, parse_json(line, str(path), first_line=number)


def parse_json(text: str, where: str, *, first_line: int = 1) -> Any:
    """The value of a JSON text.

    Args:
      where: what the text is, for errors: a file, or "the reply of ...".
      first_line: the number of the text's first line.

    Raises InputError, with line and column, for text that is not JSON, NaN or Infinity, a number
    that a float cannot hold, a duplicate key, half a surrogate pair, and more than `MAX_DEPTH`
    levels of nesting.
    """
    try:
        value = _DECODER.decode(text)
        if text.count("[") + text.count("{") > MAX_DEPTH and _is_too_deep(value):
            _refuse()
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except json.JSONDecodeError as error:
        reason = f"not JSON ({error.msg})"
        if not text.strip():
            reason = "empty, where JSON is expected"
        elif text[error.pos : error.pos + 1] == "\ufeff":
            reason = "not JSON (a byte order mark here; were files joined?)"
        elif error.msg == "Extra data" and "\n" in text[: error.pos]:
            reason = "not JSON (a second value begins here; JSON lines are named .jsonl)"
        place = _describe_place(text, error.pos, where, first_line)
        raise InputError(f"{place}: {reason}: correct it") from None
    except (_RefusedError, RecursionError, UnicodeEncodeError):
        position, reason = _find_fault(text)
        place = _describe_place(text, position, where, first_line)
        raise InputError(f"{place}: {reason}") from None


class _RefusedError(Exception):
    """JSON that parses, but with a value that this module refuses."""


def _refuse(*_: Any) -> NoReturn:
    raise _RefusedError


def _parse_int(digits: str) -> int:
    return int(digits) if len(digits) <= _MAX_DIGITS else _refuse()


def _parse_float(digits: str) -> float:
    value = float(digits)
    return value if abs(value) != float("inf") else _refuse()


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else _refuse()


_DECODER = json.JSONDecoder(
    object_pairs_hook=_build_object,
    parse_int=_parse_int,
    parse_float=_parse_float,
    parse_constant=_refuse,
)


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, list | dict)
        ]
        if not level:
            return False
    return True


def _find_fault(text: str) -> tuple[int, str]:
    """The position of the first value that `parse_json` refuses, and why.

    `text` is JSON up to that position.
    """
    levels: list[set[str]] = []  # the keys of each open object; of a list none
    position = 0
    while match := _TOKEN.search(text, position):
        token, position = match.group(), match.end()
        if token == '"':
            string, position = _DECODER.raw_decode(text, match.start())
            half = next((c for c in string if "\ud800" <= c <= "\udfff"), None)
            if half is not None:
                return match.start(), f"half a surrogate pair ({half!a}) is no text: correct it"
            if levels and _COLON.match(text, position):
                if string in levels[-1]:
                    return match.start(), f"the key {string!r:.80} twice in one object: leave one"
                levels[-1].add(string)
        elif token in "[{":
            levels.append(set())
            if len(levels) > MAX_DEPTH:
                return match.start(), f"nested deeper than {MAX_DEPTH} levels: flatten it"
        elif token in "]}":
            levels.pop()
        elif token in ("NaN", "Infinity", "-Infinity"):
            return match.start(), f"{token} is not JSON: write a number or null"
        elif _is_out_of_range(token):
            return match.start(), f"the number {token:.20} is out of range: write a smaller one"
    raise AssertionError("every value that the decoder refuses is found again")


def _is_out_of_range(number: str) -> bool:
    whole = number.lstrip("-").isdigit()
    return len(number) > _MAX_DIGITS if whole else abs(float(number)) == float("inf")


def _describe_place(text: str, position: int, where: str, first_line: int) -> str:
    line = first_line + text.count("\n", 0, position)
    column = position - text.rfind("\n", 0, position)
    return f"{where}, line {line}, column {column}"


def _name_type(value: Any) -> str:
    names = {dict: "object", list: "list", str: "text", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def _read_document(path: Path) -> bytes:
    chunks, size = [], 0
    try:
        for chunk in _read_chunks(path):
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_DOCUMENT_BYTES:
                raise InputError(
                    f"{path}: larger than {MAX_DOCUMENT_BYTES >> 20} MiB, too large to be read as "
                    "a whole: split it, or save rows as JSON lines (.jsonl)"
                )
    except _DamagedError as error:
        raise InputError(f"{path}: {error}") from error
    return b"".join(chunks)


def _split_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number, line) of each line that is not blank, without its end ("\\n" or "\\r\\n")."""
    number, size = 1, 0
    pieces: list[bytes] = []  # of the line whose end is not yet read
    try:
        for chunk in _read_chunks(path):
            whole, newline, rest = chunk.rpartition(b"\n")
            if newline and not pieces and not whole.strip():  # a megabyte of blank lines
                number += whole.count(b"\n") + 1
            elif newline:
                for end in whole.split(b"\n"):
                    yield from _finish_line(b"".join((*pieces, end)), number, path)
                    pieces, size = [], 0
                    number += 1
            if rest:
                pieces.append(rest)
                size += len(rest)
            if size > MAX_LINE_BYTES:
                raise InputError(
                    f"{path}, line {number}: longer than {MAX_LINE_BYTES >> 20} MiB: is it a file "
                    "with a row a line?"
                )
    except _DamagedError as error:
        raise InputError(f"{path}, line {number}: {error}") from error
    yield from _finish_line(b"".join(pieces), number, path)


def _finish_line(raw: bytes, number: int, path: Path) -> Iterator[tuple[int, str]]:
    line = _decode(raw.removesuffix(b"\r"), str(path), number)
    if line.startswith("\ufeff"):
        raise InputError(
            f"{path}, line {number}, column 1: a byte order mark in the middle of the file: were "
            "files joined? remove it"
        )
    if line.strip(" \t\r"):
        yield number, line


class _DamagedError(Exception):
    """A gzip file that is truncated or corrupt after what has been read of it."""


def _read_chunks(path: Path) -> Iterator[bytes]:
    """The content of a regular file, decompressed if its name ends in .gz, without its byte order
    mark.

    Raises InputError for what cannot be read, and `_DamagedError` as above.
    """
    with _open_file(path) as file:
        total, limit = 0, max(_MIN_EXPANDED_BYTES, _MAX_EXPANSION * os.fstat(file.fileno()).st_size)
        source: BufferedIOBase = file
        if path.suffix.lower() == ".gz":
            _check_gzip(file, path)
            source = gzip.GzipFile(fileobj=file)
        beginning = b""
        while len(beginning) < 4 and (chunk := _read_chunk(source, path)):
            beginning += chunk
        yield _check_beginning(beginning, path)
        while chunk := _read_chunk(source, path):
            total += len(chunk)
            if source is not file and total > limit:
                raise InputError(
                    f"{path}: its content is over {_MAX_EXPANSION} times as large as the file: is "
                    "it a data set? decompress it"
                )
            yield chunk


def _open_file(path: Path) -> BufferedIOBase:
    try:
        kind = os.stat(path).st_mode
        # Without blocking, should a pipe have taken the file's place.
        if stat.S_ISREG(kind):
            return open(path, "rb", opener=lambda name, flags: os.open(name, flags | _NONBLOCK))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{path} cannot be read ({_say(error)})") from error
    what = "a folder" if stat.S_ISDIR(kind) else "a pipe or a device"
    raise InputError(f"{path} is {what}: give a file")


def _read_chunk(source: BufferedIOBase, path: Path) -> bytes:
    try:
        return source.read1(_CHUNK_BYTES)  # `read` would lose what precedes a damaged part
    except EOFError:
        raise _DamagedError("truncated gzip file: copy or download it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _DamagedError(f"corrupt gzip file ({error}): copy or download it again") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({_say(error)})") from error


def _say(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _check_gzip(file: BufferedIOBase, path: Path) -> None:
    magic = file.read(2)
    file.seek(0)
    if magic != _GZIP_MAGIC:
        raise InputError(
            f"{path}: not a gzip file, as its name says: rename it to {path.with_suffix('').name}"
        )


def _check_beginning(chunk: bytes, path: Path) -> bytes:
    """The first chunk without a byte order mark."""
    if chunk.startswith(_GZIP_MAGIC):
        raise InputError(f"{path}: a gzip file: rename it to {path.name}.gz, or decompress it")
    for mark, encoding in _OTHER_BOMS.items():
        if chunk.startswith(mark):
            raise InputError(f"{path}, line 1, column 1: {encoding} text: save the file as UTF-8")
    return chunk.removeprefix(_BOM)


def _decode(raw: bytes, where: str, first_line: int = 1) -> str:
    position = raw.find(b"\0")
    reason = "a NUL byte: is it a text file? save it as UTF-8"
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if position < 0 or error.start < position:
            position = error.start
            reason = f"the byte 0x{raw[position]:02x} is not UTF-8: save the file as UTF-8"
        text = ""
    if position < 0:
        return text
    before = raw[:position].decode("utf-8")
    raise InputError(f"{_describe_place(before, len(before), where, first_line)}: {reason}")
