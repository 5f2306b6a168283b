"""Vector files of every format that is read, by the ending of their name."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp

from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.steered import Steering
from subliminal_jax.steering.interchange import read_gguf
from subliminal_jax.steering.io import VectorInfo, load_steering


def read_steering(
    path: str | Path,
    cfg: ModelConfig,
    layers: Sequence[int] | None = None,
    *,
    model: str | None = None,
) -> tuple[Steering, VectorInfo]:
    """The steering in a vector file, and its provenance.

    safetensors (`load_steering`) and GGUF control vectors (`read_gguf`). `layers` picks some of the
    file's; None takes all.
    Raises InputError as those two do, and for a layer that the file has no vector for.
    """
    path = Path(path)
    if path.suffix.lower() != ".gguf":
        return load_steering(path, cfg, layers, model=model)
    steering, hint = read_gguf(path, cfg)
    info = VectorInfo(hint or "unknown", f"read from {path.name}")
    return (steering if layers is None else pick_layers(steering, layers, path)), info


def pick_layers(steering: Steering, layers: Sequence[int], path: Path) -> Steering:
    """The same edit at some of its layers; raises InputError for one that it does not have."""
    absent = sorted(set(layers) - set(steering.layers))
    if absent:
        raise InputError(
            f"{path}: has vectors for layers {list(steering.layers)}, not for {absent}"
        )
    rows = [steering.layers.index(layer) for layer in layers]
    return replace(steering, vectors=steering.vectors[jnp.asarray(rows)], layers=tuple(layers))
