"""Tensors in PyTorch's `.pt` files, without torch and without running what the file says.

Such a file is a zip archive of a pickle and of the tensors' bytes. A pickle is a program: here no
unpickler runs it. The opcodes that tensors, lists and dictionaries of them need are followed one by
one, everything else is refused, and of the names that a pickle may import those of a tensor's parts
stand for themselves: nothing is imported, nothing is called.

Source: torch/serialization.py and torch/_utils.py of PyTorch 2; pickletools of Python.
"""

import math
import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Float

from subliminal_jax.errors import InputError
from subliminal_jax.escaping import one_line

HOW_TO_CONVERT = (
    "where you trust the file, convert it in Python: v = torch.load(FILE, weights_only=False); "
    'safetensors.torch.save_file({"vectors": v.float().contiguous()}, "v.safetensors")'
)
MAX_PICKLE_BYTES = 1 << 20  # of vectors; a model's is no vector file
MAX_TENSOR_BYTES = 1 << 30
MAX_ITEMS = 10_000
STORAGES = {
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "DoubleStorage": np.dtype(np.float64),
}


@dataclass(frozen=True)
class _Name:
    """A name that the pickle refers to; it stands for itself."""

    text: str


_TENSOR = _Name("torch._utils _rebuild_tensor_v2")
_PARAMETER = _Name("torch._utils _rebuild_parameter")
_ORDERED = _Name("collections OrderedDict")
_NAMES = {_TENSOR, _PARAMETER, _ORDERED, *(_Name(f"torch {name}") for name in STORAGES)}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE"),
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


# What zipfile, pickletools and numpy raise on damaged files.
_CORRUPT = (
    *(zipfile.BadZipFile, EOFError, OSError, RuntimeError),
    *(LookupError, ValueError, ArithmeticError, struct.error),
)


class _RefusedError(Exception):
    """What the pickle does, where that is not what tensors need."""


def read_torch(path: str | Path) -> Any:
    """The value of a `.pt` file: a tensor, or lists and dictionaries of tensors, numbers and texts.

    Tensors are numpy arrays in float32.

    Raises InputError for a file that is missing, no zip archive of torch (torch before 1.6 wrote
    others), corrupt, or whose pickle does anything but make tensors of floating-point numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such vector file")
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive)
    except _RefusedError as error:
        raise InputError(
            f"{path}: {one_line(str(error))}, and only plain tensors are read; {HOW_TO_CONVERT}"
        ) from None
    except _CORRUPT as error:
        reason = one_line(str(error)) or type(error).__name__
        raise InputError(
            f"{path}: no file of torch.save, or a corrupt one ({reason}); {HOW_TO_CONVERT}"
        ) from error


def _read_archive(archive: zipfile.ZipFile) -> Any:
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError(f"{len(pickles)} entries data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in archive.namelist() and _read_entry(archive, order, 16) != b"little":
        raise _RefusedError("its numbers are big-endian")
    program = _read_entry(archive, pickles[0], MAX_PICKLE_BYTES)
    return _Machine(archive, folder).run(program)


def _read_entry(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """The bytes of an entry that is stored as it is, as torch does, at most `most`."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise ValueError(f"{name} is compressed or encrypted")
    if info.file_size > most:
        raise ValueError(f"{name} has {info.file_size} bytes, more than {most}")
    return archive.read(info)


class _Machine:
    """The stack and the memory of a pickle that makes tensors."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        self.archive = archive
        self.folder = folder
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memory: dict[int, Any] = {}

    def run(self, program: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(program):
            if opcode.name == "STOP":
                if len(self.stack) != 1:
                    raise ValueError("its pickle ends with more than one value")
                return self.stack[0]
            self._follow(opcode.name, argument)
        raise ValueError("its pickle has no end")

    def _follow(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            self.stack.append(argument)
        elif name in _TUPLES:
            self.stack.append(tuple(self._pop() for _ in range(_TUPLES[name]))[::-1])
        elif name == "PROTO":
            if argument > 5:
                raise ValueError(f"its pickle has the protocol {argument}")
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memory[argument] = self._top()
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memory[argument])
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name == "TUPLE":
            self.stack.append(tuple(self._pop_to_mark()))
        elif name == "GLOBAL":
            self.stack.append(_find_name(argument))
        elif name == "BINPERSID":
            self.stack.append(self._read_storage(self._pop()))
        elif name == "REDUCE":
            arguments = self._pop()
            self.stack.append(_build(self._pop(), arguments))
        elif name in ("SETITEM", "SETITEMS"):
            items = self._pop_to_mark() if name == "SETITEMS" else [self._pop(), self._pop()][::-1]
            self._set_items(items)
        elif name in ("APPEND", "APPENDS"):
            items = self._pop_to_mark() if name == "APPENDS" else [self._pop()]
            target = self._top()
            if not isinstance(target, list) or len(target) + len(items) > MAX_ITEMS:
                raise ValueError("its pickle appends to what is no short list")
            target += items
        else:
            raise _RefusedError(f"its pickle has the opcode {name}")

    def _pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("its pickle takes more than it made")
        return self.stack.pop()

    def _top(self) -> Any:
        value = self._pop()
        self.stack.append(value)
        return value

    def _pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise ValueError("its pickle has no mark where it needs one")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _set_items(self, items: list[Any]) -> None:
        target = self._top()
        keys, values = items[::2], items[1::2]
        if not isinstance(target, dict) or len(target) + len(keys) > MAX_ITEMS:
            raise ValueError("its pickle sets items of what is no small dictionary")
        for key, value in zip(keys, values, strict=True):
            if not isinstance(key, str | int):
                raise _RefusedError(f"a dictionary has a key of the type {type(key).__name__}")
            target[key] = value

    def _read_storage(self, identity: Any) -> Float[np.ndarray, " n"]:
        """The numbers of a storage, ("storage", type, entry, device, count)."""
        if not (isinstance(identity, tuple) and len(identity) == 5 and identity[0] == "storage"):
            raise ValueError("a storage that torch would not write")
        _, kind, entry, _, count = identity
        dtype = STORAGES.get(kind.text.removeprefix("torch ")) if isinstance(kind, _Name) else None
        if dtype is None or not isinstance(entry, str) or not _is_count(count):
            raise ValueError("a storage that torch would not write")
        data = _read_entry(self.archive, f"{self.folder}data/{entry}", MAX_TENSOR_BYTES)
        if len(data) != count * dtype.itemsize:
            raise ValueError(f"the storage {entry} has {len(data)} bytes for {count} numbers")
        return np.frombuffer(data, dtype)


def _find_name(argument: str) -> _Name:
    name = _Name(argument)
    if name in _NAMES:
        return name
    module, _, attribute = argument.partition(" ")
    if module == "torch" and attribute.endswith("Storage"):
        raise _RefusedError(f"its numbers are of the type {attribute}")
    raise _RefusedError(f"its pickle asks for {module}.{attribute}, which could be any code")


def _build(name: Any, arguments: Any) -> Any:
    """What a reference to a tensor's parts stands for; nothing is called."""
    if not isinstance(name, _Name) or not isinstance(arguments, tuple):
        raise ValueError("its pickle calls what is no name")
    if name == _ORDERED and not arguments:
        return {}
    if name == _PARAMETER and arguments and isinstance(arguments[0], np.ndarray):
        return arguments[0]
    if name == _TENSOR and len(arguments) >= 4:
        return _build_tensor(*arguments[:4])
    raise ValueError(f"{name.text} with arguments that torch would not write")


def _build_tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Float[np.ndarray, "..."]:
    """A copy of the part of a storage that a tensor shows, in float32."""
    counts = (offset, *shape, *strides) if isinstance(shape, tuple) else (None,)
    known = isinstance(storage, np.ndarray) and isinstance(strides, tuple)
    if not known or len(shape) != len(strides) or not all(map(_is_count, counts)):
        raise ValueError("a tensor that torch would not write")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    size = math.prod(shape)
    if size and (last >= storage.size or size > storage.size):
        raise ValueError(f"a tensor of shape {shape} in a storage of {storage.size} numbers")
    if not size:
        return np.zeros(shape, np.float32)
    steps = [step * storage.itemsize for step in strides]
    view = np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)
    with np.errstate(over="ignore"):  # what is infinite is for the caller to refuse
        return np.array(view, np.float32)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40
