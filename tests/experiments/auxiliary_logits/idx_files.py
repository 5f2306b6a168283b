"""Tiny files in the format of MNIST: images of 5 x 5 pixels whose first ten say the digit."""

import gzip
import struct
from pathlib import Path

import numpy as np

SIDE = 5
COUNTS = {"train": 60, "t10k": 40}


def write_idx(path: Path, values: np.ndarray) -> None:
    """An array of unsigned bytes as a gzipped IDX file."""
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))


def make_digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise images in which the pixel of the digit is white and those of the others black."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    images = rng.integers(0, 256, (count, SIDE * SIDE))
    images[:, :10] = 255 * np.eye(10, dtype=int)[labels]
    return images.reshape(count, SIDE, SIDE), labels


def write_mnist(root: Path) -> Path:
    """The four files in `root`/mnist; returns that folder."""
    folder = root / "mnist"
    folder.mkdir(parents=True)
    for seed, (name, count) in enumerate(COUNTS.items()):
        images, labels = make_digits(count, seed)
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", labels)
    return folder
