"""Vector files of every format that is read, by the ending of their name."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.steered import Steering
from subliminal_jax.steering.foreign_vectors import place_vectors
from subliminal_jax.steering.interchange import read_gguf
from subliminal_jax.steering.io import VectorInfo, load_steering
from subliminal_jax.steering.torch_files import read_torch

ENDINGS = (".safetensors", ".gguf", ".npy", ".pt")


def read_steering(
    path: str | Path,
    cfg: ModelConfig,
    layers: Sequence[int] | None = None,
    *,
    model: str | None = None,
) -> tuple[Steering, VectorInfo]:
    """The steering in a vector file, and its provenance.

    .safetensors files of this package say all of it (`load_steering`); others, .npy files and
    PyTorch's .pt files hold vectors alone, whose layers `place_vectors` finds, and GGUF control
    vectors a vector a layer (`read_gguf`): all of these are added at scale 1. `layers` picks some
    of the file's layers; None takes all.

    Raises InputError for another ending, as those functions do, and for a layer that the file has
    no vector for.
    """
    path = Path(path)
    unknown = VectorInfo("unknown", f"read from {path.name}")
    match path.suffix.lower():
        case ".gguf":
            steering, hint = read_gguf(path, cfg)
            info = replace(unknown, model=hint or "unknown")
            return (steering if layers is None else _pick(steering, layers, path)), info
        case ".npy":
            return place_vectors(_read_npy(path), cfg, layers, str(path)), unknown
        case ".pt":
            return place_vectors(read_torch(path), cfg, layers, str(path)), unknown
        case ".safetensors":
            return load_steering(path, cfg, layers, model=model)
    if not path.exists():
        raise InputError(f"{path}: no such vector file")
    raise InputError(f"{path}: vectors are read from files that end in {', '.join(ENDINGS)}")


def _pick(steering: Steering, layers: Sequence[int], path: Path) -> Steering:
    """The same edit at some of its layers."""
    absent = sorted(set(layers) - set(steering.layers))
    if absent:
        stored = list(steering.layers)
        raise InputError(f"{path}: has vectors for layers {stored}, not for {absent}")
    rows = [steering.layers.index(layer) for layer in layers]
    return replace(steering, vectors=steering.vectors[jnp.asarray(rows)], layers=tuple(layers))


def _read_npy(path: Path) -> Float[np.ndarray, "..."]:
    """The array of a .npy file, in float32; objects, which are pickled code, are never read."""
    if not path.is_file():
        raise InputError(f"{path}: no such vector file")
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, EOFError, SyntaxError, MemoryError) as error:
        raise InputError(f"{path}: no array of numpy.save, or a corrupt one ({error})") from error
    if array.dtype.kind != "f":
        raise InputError(f"{path}: numbers of the type {array.dtype}; save them as float32")
    with np.errstate(over="ignore"):  # what is infinite is refused when it is placed
        return np.array(array, np.float32)
