"""GGUF files: header and tensors, checked before anything is read by the numbers in it.

The `gguf` package takes the counts, lengths and offsets of a file on trust. Here each of them must
fit the file, so that a damaged or hostile one is one line, and costs neither time nor memory.
Source: the specification in docs/gguf.md of ggml. The package knows the formats and dequantizes.
"""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.errors import InputError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_HEADER_BYTES = 64 << 20  # with the largest vocabularies a model's header takes 15 MB
_MAX_NESTING = 4
_MAX_DIMENSIONS = 4
_ALIGNMENT_KEY, _DEFAULT_ALIGNMENT = "general.alignment", 32
_STRING, _ARRAY = 8, 9
# struct's letters for the scalar types of metadata, by their number in the file.
_SCALARS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
_LEAST_BYTES = {_STRING: 8, _ARRAY: 12}  # of an element of an array


@dataclass(frozen=True)
class GgufTensor:
    """Where the values of a tensor are: `shape` in the order of numpy, `format` of `gguf`."""

    shape: tuple[int, ...]
    format: Any
    start: int
    size: int  # bytes


@dataclass(frozen=True)
class GgufFile:
    """The metadata (scalars and texts; arrays are None) and tensors of a GGUF file."""

    path: Path
    fields: dict[str, Any]
    tensors: dict[str, GgufTensor]

    def read(self, name: str) -> Float[np.ndarray, "..."]:
        """The values of a tensor, dequantized to float32.

        Raises InputError for a format without floating-point values, and one that the `gguf`
        package cannot dequantize.
        """
        tensor = self.tensors[name]
        quants = import_gguf("gguf.quants")
        kind = tensor.format.name
        if kind == "F64" or (kind.startswith("I") and kind[1:].isdigit()):
            raise InputError(
                f"{self.path}: {name} has the number format {kind}; supported are F32, F16, BF16 "
                "and the quantized ones"
            )
        with self.path.open("rb") as file:
            file.seek(tensor.start)
            data = np.frombuffer(file.read(tensor.size), np.uint8)
        try:
            with np.errstate(all="ignore"):  # what is not finite is for the caller to refuse
                values = quants.dequantize(data, tensor.format)
        except NotImplementedError as error:
            raise InputError(f"{self.path}: {name}: {error}") from error
        return np.array(values, np.float32).reshape(tensor.shape)


def read_gguf_header(path: Path) -> GgufFile:
    """What a GGUF file holds; no tensor is read.

    Raises InputError where `gguf` is not installed, and for a file that is no GGUF file, of another
    version or byte order, corrupt or truncated: counts and lengths beyond its end, duplicate keys,
    texts that are no UTF-8, tensors that overlap, are misaligned or lie outside the file.
    """
    constants = import_gguf("gguf.constants")
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


def import_gguf(module: str = "gguf") -> ModuleType:
    """A module of the package `gguf`; raises InputError where it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError("this needs the package gguf: pip install gguf") from error


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
        data = self.take(self.count("Q", 1))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.error("a text that is no UTF-8") from error

    def value(self, kind: int, nesting: int = 0) -> Any:
        """The value of a metadata entry; None for an array, which is passed over."""
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
            size = struct.calcsize(f"<{_SCALARS[inner]}")
            self.take(self.count("Q", size) * size)
            return None
        skip: Callable[[], Any] = (
            self.text if inner == _STRING else lambda: self.value(inner, nesting + 1)
        )
        for _ in range(self.count("Q", _LEAST_BYTES.get(inner, 1))):
            skip()
        return None

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
