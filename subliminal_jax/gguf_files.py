"""GGUF files: header and tensors, checked before anything is read by the numbers in it.

The `gguf` package takes the counts, lengths and offsets of a file on trust. Here each of them must
fit the file, so that a damaged or hostile one is one line, and costs neither time nor memory.
Source: the specification in docs/gguf.md of ggml. The package knows the formats and dequantizes.
"""

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Float

from subliminal_jax.errors import InputError

ENDING = ".gguf"
MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_HEADER_BYTES = 64 << 20  # with the largest vocabularies a model's header takes 15 MB
_MAX_NESTING = 4
_MAX_DIMENSIONS = 4
_ALIGNMENT_KEY, _DEFAULT_ALIGNMENT = "general.alignment", 32
_STRING, _ARRAY = 8, 9
# struct's and NumPy's letters for the scalar types of metadata, by their number in the file.
_SCALARS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
_LEAST_BYTES = {_STRING: 8, _ARRAY: 12}  # of an element of an array
_HALF_FORMATS = {"F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}
_VALUES = 1 << 22  # dequantized at a time: what `gguf` needs beside them stays small


@dataclass(frozen=True)
class GgufTensor:
    """Where the values of a tensor are: `shape` in the order of numpy, `format` of `gguf`."""

    shape: tuple[int, ...]
    format: Any
    start: int
    size: int  # bytes


@dataclass(frozen=True)
class GgufFile:
    """The metadata (numbers, texts; arrays of numbers, lists of texts) and tensors of a file."""

    path: Path
    fields: dict[str, Any]
    tensors: dict[str, GgufTensor]

    def dtype(self, name: str) -> np.dtype:
        """The number format that holds a tensor's values: float32 for all but half precision.

        Raises InputError for a format without floating-point values, and one that the `gguf`
        package cannot dequantize.
        """
        from gguf import quants
        from gguf.constants import GGML_QUANT_SIZES

        kind = self.tensors[name].format
        if kind.name == "F64" or (kind.name.startswith("I") and kind.name[1:].isdigit()):
            raise InputError(
                f"{self.path}: {name} has the number format {kind.name}; supported are F32, F16, "
                "BF16 and the quantized ones"
            )
        try:
            quants.dequantize(np.zeros(GGML_QUANT_SIZES[kind][1], np.uint8), kind)
        except NotImplementedError as error:
            raise InputError(f"{self.path}: {name}: {error}") from error
        return _HALF_FORMATS.get(kind.name, np.dtype(np.float32))

    def read(self, name: str, rows: slice = slice(None)) -> Float[np.ndarray, "..."]:
        """The values of a tensor, dequantized to float32; of one with several axes those at `rows`
        of the first. Raises InputError as `dtype`.
        """
        from gguf import quants

        self.dtype(name)
        tensor = self.tensors[name]
        count = tensor.shape[0] if len(tensor.shape) > 1 else 1
        start, stop, _ = rows.indices(count)
        values = np.empty((max(stop - start, 0), math.prod(tensor.shape) // max(count, 1)), "f4")
        row_bytes, step = tensor.size // max(count, 1), max(1, _VALUES // max(values.shape[1], 1))
        with self.path.open("rb") as file, np.errstate(all="ignore"):  # the caller refuses NaN
            file.seek(tensor.start + start * row_bytes)
            for first in range(0, len(values) if values.size else 0, step):
                part = values[first : first + step]
                data = np.frombuffer(file.read(len(part) * row_bytes), np.uint8)
                part[:] = quants.dequantize(data, tensor.format).reshape(part.shape)
        if len(tensor.shape) > 1:
            return values.reshape(len(values), *tensor.shape[1:])
        return values.reshape(tensor.shape)


def is_gguf(path: str | Path) -> bool:
    """Whether the path is that of a GGUF file, by its name."""
    return Path(path).suffix.lower() == ENDING and os.path.isfile(path)


def read_gguf_header(path: Path) -> GgufFile:
    """What a GGUF file holds; no tensor is read.

    Raises InputError for a file that is no GGUF file, of another version or byte order, corrupt or
    truncated: counts and lengths beyond its end, duplicate keys, texts that are no UTF-8, tensors
    that overlap, are misaligned or lie outside the file.
    """
    from gguf import constants

    with path.open("rb") as file:
        header = file.read(MAX_HEADER_BYTES)
    if header[:4] != MAGIC:
        raise InputError(f"{path}: no GGUF file: it begins with {header[:4]!r}, not {MAGIC!r}")
    cursor = _Cursor(path, header, position=4)
    version = cursor.scalar("I")
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        reason = "big-endian" if swapped in VERSIONS else f"of version {version}"
        raise InputError(f"{path}: a GGUF file that is {reason}; write it again with `gguf`")
    tensor_count, field_count = cursor.count("Q", 24), cursor.count("Q", 13)
    fields: dict[str, Any] = {}
    for _ in range(field_count):
        key = cursor.text()
        if key in fields:
            raise cursor.error(f"the key {key!r} twice")
        fields[key] = cursor.value(cursor.scalar("I"))
    alignment = fields.get(_ALIGNMENT_KEY, _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise cursor.error(f"{_ALIGNMENT_KEY} is {alignment!r}, which is no power of two")
    entries = {}
    for _ in range(tensor_count):
        name = cursor.text()
        if name in entries:
            raise cursor.error(f"the tensor {name!r} twice")
        entries[name] = cursor.tensor(name, constants)
    start = -(-cursor.position // alignment) * alignment
    tensors = {
        name: GgufTensor(shape, kind, start + offset, size)
        for name, (shape, kind, offset, size) in entries.items()
    }
    _check_places(cursor, tensors, alignment, path.stat().st_size, start)
    return GgufFile(path, fields, tensors)


def _check_places(
    cursor: "_Cursor", tensors: dict[str, GgufTensor], alignment: int, size: int, start: int
) -> None:
    end, before = start, None
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].start):
        if (tensor.start - start) % alignment:
            raise cursor.error(f"the tensor {name!r} is not aligned to {alignment} bytes")
        if tensor.start < end:
            raise cursor.error(f"the tensors {before!r} and {name!r} overlap")
        end, before = tensor.start + tensor.size, name
        if end > size:
            raise cursor.error(f"the tensor {name!r} ends at byte {end} of {size}")


class _Cursor:
    """A position in the header; every step checks that the header goes on."""

    def __init__(self, path: Path, header: bytes, position: int) -> None:
        self.path = path
        self.header = header
        self.position = position

    def error(self, reason: str) -> InputError:
        return InputError(f"{self.path}: corrupt or truncated GGUF file ({reason})")

    def take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self.header):
            raise self.error(f"its header goes on to byte {end}, and {len(self.header)} are there")
        data = self.header[self.position : end]
        self.position = end
        return data

    def scalar(self, letter: str) -> Any:
        return struct.unpack(f"<{letter}", self.take(struct.calcsize(f"<{letter}")))[0]

    def count(self, letter: str, least_bytes: int) -> int:
        """A number of things that each take at least `least_bytes` of what is left."""
        count = self.scalar(letter)
        if count * least_bytes > len(self.header) - self.position:
            raise self.error(f"it announces {count} entries, more than it has bytes for")
        return int(count)

    def text(self) -> str:
        return self.texts(1)[0]

    def texts(self, count: int) -> list[str]:
        header, position, texts = self.header, self.position, []
        for _ in range(count):  # 300,000 in large vocabularies, so without a call for each
            start = position + 8
            position = start + int.from_bytes(header[position:start], "little")
            if position > len(header):
                raise self.error(f"a text that goes on to byte {position} of {len(header)}")
            try:
                texts.append(str(header[start:position], "utf-8"))
            except UnicodeDecodeError as error:
                raise self.error("a text that is no UTF-8") from error
        self.position = position
        return texts

    def value(self, kind: int, nesting: int = 0) -> Any:
        """The value of a metadata entry."""
        if kind == _STRING:
            return self.text()
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind != _ARRAY:
            raise self.error(f"metadata of the type {kind}, which does not exist")
        if nesting == _MAX_NESTING:
            raise self.error(f"arrays nested more than {_MAX_NESTING} deep")
        inner = self.scalar("I")
        if inner in _SCALARS:
            item = np.dtype(f"<{_SCALARS[inner]}")
            return np.frombuffer(self.take(self.count("Q", item.itemsize) * item.itemsize), item)
        count = self.count("Q", _LEAST_BYTES.get(inner, 1))
        if inner == _STRING:
            return self.texts(count)
        return [self.value(inner, nesting + 1) for _ in range(count)]

    def tensor(self, name: str, constants: Any) -> tuple[tuple[int, ...], Any, int, int]:
        """(shape, format, offset, bytes) of a tensor."""
        dimensions = self.scalar("I")
        if dimensions > _MAX_DIMENSIONS:
            raise self.error(f"the tensor {name!r} has {dimensions} dimensions")
        shape = tuple(self.scalar("Q") for _ in range(dimensions))[::-1]
        number, offset = self.scalar("I"), self.scalar("Q")
        try:
            kind = constants.GGMLQuantizationType(number)
            block, block_bytes = constants.GGML_QUANT_SIZES[kind]
        except (ValueError, KeyError) as error:
            raise self.error(
                f"the tensor {name!r} is of the number format {number}, which is not known"
            ) from error
        if (shape[-1] if shape else 1) % block:
            raise self.error(f"the tensor {name!r} does not fill blocks of {block} values")
        return shape, kind, offset, math.prod(shape) // block * block_bytes
