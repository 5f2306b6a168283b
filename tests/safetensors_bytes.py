"""Safetensors files written byte by byte: formats and damage that no library writes."""

import json
from pathlib import Path

# Bits a value of every number format that safetensors 0.8 knows.
FORMATS = {
    "F64": 64,
    "F32": 32,
    "F16": 16,
    "BF16": 16,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F4": 4,
    "I64": 64,
    "I32": 32,
    "I16": 16,
    "I8": 8,
    "U64": 64,
    "U32": 32,
    "U16": 16,
    "U8": 8,
    "BOOL": 8,
    "C64": 64,
}


def read_header(path: Path) -> tuple[dict, bytes]:
    """(header, the bytes after it) of a safetensors file."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def write_raw(path: Path, header: dict | bytes, values: bytes, size: int | None = None) -> None:
    """Write `header` (a dictionary, or bytes as they are) and `values`; `size` is the length of the
    header that the file claims, where not the right one."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    claimed = len(text) if size is None else size
    path.write_bytes(claimed.to_bytes(8, "little") + text + values)


def restore_format(path: Path, key: str, number_format: str) -> None:
    """Replace the tensor `key` of a file by one of the same shape, all of whose bytes are 1, in
    another number format."""
    header, values = read_header(path)
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    order = sorted(tensors, key=lambda name: tensors[name]["data_offsets"])
    parts, offset = [], 0
    for name in order:
        entry = tensors[name]
        start, stop = entry["data_offsets"]
        part = values[start:stop]
        if name == key:
            count = 1
            for axis in entry["shape"]:
                count *= axis
            part = b"\1" * (count * FORMATS[number_format] // 8)
            entry["dtype"] = number_format
        entry["data_offsets"] = [offset, offset + len(part)]
        offset += len(part)
        parts.append(part)
    write_raw(path, header, b"".join(parts))
