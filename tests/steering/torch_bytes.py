"""`.pt` files as torch.save writes them, made without torch: a zip archive with a pickle."""

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

STORAGES = {"float32": "Float", "float16": "Half", "bfloat16": "BFloat16", "float64": "Double"}
CALL = b"R"


def refer(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def tuple_of(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def whole(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


class Writer:
    """Collects the storages of one file."""

    def __init__(self) -> None:
        self.storages: list[bytes] = []

    def value(self, value: Any) -> bytes:
        """The opcodes of a tensor (a numpy array), a list, a dictionary, a text or a number."""
        if isinstance(value, list):
            return b"](" + b"".join(map(self.value, value)) + b"e"
        if isinstance(value, dict):
            parts = (self.value(k) + self.value(v) for k, v in value.items())
            return b"}(" + b"".join(parts) + b"u"
        if isinstance(value, str):
            return text(value)
        return whole(value) if isinstance(value, int) else self.tensor(value)

    def tensor(self, array: np.ndarray, kind: str = "") -> bytes:
        kind = kind or STORAGES[str(array.dtype)] + "Storage"
        strides = [step // array.itemsize for step in array.strides]
        self.storages.append(array.ravel(order="K").tobytes())
        identity = tuple_of(
            text("storage"),
            refer("torch", kind),
            text(str(len(self.storages) - 1)),
            text("cpu"),
            whole(array.size),
        )
        hooks = refer("collections", "OrderedDict") + b")" + CALL
        shape, steps = (tuple_of(*map(whole, x)) for x in (array.shape, strides))
        arguments = tuple_of(identity + b"Q", whole(0), shape, steps, b"\x89", hooks)
        return refer("torch._utils", "_rebuild_tensor_v2") + arguments + CALL


def write_torch(path: Path, value: Any, program: bytes | None = None) -> Path:
    """Write `value`; or, with the storages of `value`, the pickle `program` (without its end)."""
    writer = Writer()
    opcodes = writer.value(value)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("v/data.pkl", b"\x80\x02" + (program or opcodes) + b".")
        archive.writestr("v/byteorder", "little")
        for i, data in enumerate(writer.storages):
            archive.writestr(f"v/data/{i}", data)
    return path
