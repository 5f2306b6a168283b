"""MNIST from its four IDX files, `mnist/*.gz` in the folder of SUBLIMINAL_JAX_DATA."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from subliminal_jax.data.shared_data import VARIABLE, find_shared
from subliminal_jax.errors import InputError

MOST_BYTES = 1 << 28  # of a file, decompressed; the largest of MNIST has 47 MB
UNSIGNED_BYTES = 0x08  # the type of the values, third byte of the magic number
NAMES = {"train": "train", "test": "t10k"}


class Digits(NamedTuple):
    """Images, each a row of pixels from -1 to 1, and what digit each shows."""

    images: Float[np.ndarray, "n pixels"]
    labels: Int[np.ndarray, " n"]


def read_digits(split: str, count: int) -> Digits:
    """The first `count` digits of the split "train" or "test".

    Raises InputError where the files are missing, damaged, of another format, or hold fewer.
    """
    images = read_idx(find_file(f"{NAMES[split]}-images-idx3-ubyte.gz"), 3)
    labels = read_idx(find_file(f"{NAMES[split]}-labels-idx1-ubyte.gz"), 1)
    if len(images) != len(labels):
        raise InputError(f"MNIST, {split}: {len(images)} images and {len(labels)} labels")
    if len(images) < count:
        raise InputError(f"MNIST, {split}: {len(images)} digits, but {count} are asked for")
    if labels.size and labels.max() > 9:
        raise InputError(f"MNIST, {split}: the label {labels.max()} is no digit")
    pixels = images[:count].reshape(count, -1).astype(np.float32)
    return Digits(pixels / 127.5 - 1, labels[:count].astype(np.int32))


def find_file(name: str) -> Path:
    """The path of a file of MNIST. Raises InputError where it is not there."""
    path = find_shared("mnist", name)
    if path is None:
        raise InputError(
            f"there is no mnist/{name} in the folder of {VARIABLE}: set {VARIABLE} to a folder "
            "with the four files of MNIST"
        )
    return path


def read_idx(path: Path, axes: int) -> UInt8[np.ndarray, "..."]:
    """The array of unsigned bytes in a gzipped IDX file with so many axes.

    Raises InputError for a file that cannot be read, with another magic number, or whose length is
    not what its header says.
    """
    try:
        with gzip.open(path) as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{path} cannot be read ({' '.join(str(error).split())}): fetch it again"
        ) from None
    header, magic = 4 + 4 * axes, bytes([0, 0, UNSIGNED_BYTES, axes])
    if content[:4] != magic:
        raise InputError(
            f"{path} begins with {content[:4].hex()} where an IDX file of bytes with {axes} axes "
            f"begins with {magic.hex()}: give that file"
        )
    shape = struct.unpack(f">{axes}I", content[4:header]) if len(content) >= header else ()
    if len(content) != header + math.prod(shape) or not shape:
        size = "x".join(map(str, shape)) or "no"
        raise InputError(
            f"{path} is truncated or damaged: its header says {size} bytes of values, and it has "
            f"{max(len(content) - header, 0):,}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
