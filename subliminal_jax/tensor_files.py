"""Tensors in safetensors files: floating-point numbers of known formats, and nothing else.

All that reads weights, adapters and vectors goes through `open_tensors`, so that the number format
that a file stores is checked before a value is read, whatever format is asked for: an integer of a
quantized matrix is never taken for a weight.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Float, Shaped
from safetensors import SafetensorError, safe_open

from subliminal_jax.errors import InputError
from subliminal_jax.reading import parse_json

# The stored formats that are read. A float64 would lose digits unnoticed, and 8 bits and fewer are
# of quantized checkpoints, whose values mean nothing without the scales stored beside them.
FLOAT_FORMATS = {
    "F32": np.dtype(np.float32),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
}
# The bits of the exponent: all of them are set in infinities and NaN, and in nothing else.
_EXPONENTS = {
    "float32": (np.uint32, 0x7F800000),
    "bfloat16": (np.uint16, 0x7F80),
    "float16": (np.uint16, 0x7C00),
}
_BLOCK = 32_768  # values checked at a time: they stay in cache

Index = tuple[slice, ...]


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of an open safetensors file; its values are read on demand."""

    file: Path
    key: str
    handle: Any
    config = "config.json"  # what says which shape it has

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.handle.get_slice(self.key).get_shape())

    @property
    def dtype(self) -> np.dtype:
        """The number format; raises InputError as `check_format`."""
        self.check_format()
        return FLOAT_FORMATS[self.handle.get_slice(self.key).get_dtype()]

    def check_format(self) -> None:
        """Raise InputError for a number format that is not in `FLOAT_FORMATS`."""
        name = self.handle.get_slice(self.key).get_dtype()
        if name in FLOAT_FORMATS:
            return
        reason = (
            "float32 cannot hold it; convert the file to float32"
            if name == "F64"
            else "quantized weights are not read; load the original, or convert to bfloat16"
        )
        raise InputError(
            f"{self.file}: {self.key} has the number format {name}, not one of "
            f"{', '.join(FLOAT_FORMATS)}: {reason}"
        )

    def read(self, index: Index | None = None) -> Shaped[np.ndarray, "..."]:
        """The values at `index` (None: all), in the stored format; raises InputError as `dtype`."""
        dtype, shape = self.dtype, self.shape
        if index is None:
            index = (slice(None),) * len(shape)
        if 0 in shape:
            return np.empty(shape, dtype)[index]
        return self.handle.get_slice(self.key)[index if index else ...]


@contextlib.contextmanager
def open_tensors(path: str | Path) -> Iterator[tuple[dict[str, StoredTensor], dict[str, str]]]:
    """(tensors by key, metadata) of a safetensors file, which stays open in the body.

    Raises FileNotFoundError where there is no file, and InputError for one that is corrupt or
    truncated, or whose header names a tensor twice.
    """
    path = Path(path)
    if not os.path.exists(path):  # also for a name that is too long, which `Path.exists` raises at
        raise FileNotFoundError(path)
    if not path.is_file():
        raise InputError(f"{path}: not a file, but a safetensors file is needed here")
    try:
        handle = safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: corrupt or truncated safetensors file ({error}); download or save it again"
        ) from error
    with handle:
        _check_header(path)
        tensors = {key: StoredTensor(path, key, handle) for key in sorted(handle.keys())}
        yield tensors, handle.metadata() or {}


def read_tensors(path: str | Path) -> tuple[dict[str, Float[np.ndarray, "..."]], dict[str, str]]:
    """(tensors as float32 by key, metadata) of a safetensors file; raises as `open_tensors`, and
    InputError for a number format that is not in `FLOAT_FORMATS`."""
    with open_tensors(path) as (stored, metadata):
        for tensor in stored.values():
            tensor.check_format()
        return {key: tensor.read().astype(np.float32) for key, tensor in stored.items()}, metadata


def is_finite(values: Shaped[np.ndarray, "..."]) -> bool:
    """Whether no value is infinite or NaN; several times faster than `numpy.isfinite`, which at the
    speed of memory would be felt when large models are loaded."""
    unsigned, exponent = _EXPONENTS[str(values.dtype)]
    bits = np.ascontiguousarray(values).reshape(-1).view(unsigned)
    return all(
        int((bits[start : start + _BLOCK] & unsigned(exponent)).max()) != exponent
        for start in range(0, bits.size, _BLOCK)
    )


def _check_header(path: Path) -> None:
    """Raise InputError where the header, which safetensors has parsed, has a key twice: of two
    entries safetensors keeps the last."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        parse_json(file.read(size).decode("utf-8"), f"{path}: its header")
