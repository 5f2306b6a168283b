"""Steering vectors in safetensors files, with their provenance."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from subliminal_jax.errors import InputError
from subliminal_jax.files import atomic_path, check_own_file
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.steered import Operation, Steering
from subliminal_jax.reading import parse_json
from subliminal_jax.steering.foreign_vectors import place_vectors
from subliminal_jax.tensor_files import read_tensors

FORMAT = "subliminal_jax.steering.1"


def _package_version() -> str:
    try:
        return metadata.version("subliminal-jax")
    except metadata.PackageNotFoundError:  # run from a checkout
        return "not installed"


@dataclass(frozen=True)
class VectorInfo:
    """The provenance of a vector.

    `model` is the name it was made on, `origin` says how in words (with seed or prompt counts),
    `position` where the activations were read ("" for vectors that are not read from any), `method`
    how a vector was made of them ("" where that was not said).
    """

    model: str
    origin: str
    position: str = ""
    package_version: str = _package_version()
    method: str = ""


def save_steering(path: str | Path, steering: Steering, info: VectorInfo) -> None:
    """Write the vectors (float32), layers, operation and scale to one safetensors file.

    Masks and targets belong to a batch and are not written. Raises InputError where the vectors or
    the scale are a batch's too, or not finite, and where another file than one of this function
    lies at `path`.
    """
    check_vector_file(path)
    vectors = np.asarray(steering.vectors, np.float32)
    scale = np.asarray(steering.scale, np.float32)
    if vectors.ndim != 2 or scale.ndim != 0:
        raise InputError(
            f"{path}: only one vector a layer and one scale can be saved, but the vectors have the "
            f"shape {vectors.shape} and the scale {scale.shape}"
        )
    if not (np.isfinite(vectors).all() and np.isfinite(scale)):
        raise InputError(f"{path}: the vector or its scale is not finite; nothing is written")
    fields = {
        "format": FORMAT,
        "layers": json.dumps(list(steering.layers)),
        "operation": steering.operation,
        "scale": repr(float(scale)),
        **asdict(info),
    }
    with atomic_path(path) as temporary:
        save_file({"vectors": vectors}, temporary, metadata=fields)


def check_vector_file(path: str | Path) -> None:
    """Raises InputError where another file than one of `save_steering` lies at `path`."""
    check_own_file(path, "vector file", _is_own_vector)


def load_steering(
    path: str | Path,
    cfg: ModelConfig,
    layers: Sequence[int] | None = None,
    *,
    model: str | None = None,
) -> tuple[Steering, VectorInfo]:
    """The steering in a file of `save_steering`, and its provenance.

    `layers` picks some of the file's layers. A safetensors file of another origin is read too, as
    `foreign_vectors.place_vectors` does; its vectors are added at scale 1. With `model`, the name
    of the model that it is for, vectors made on a model of another name are refused; of names with
    slashes the last part counts, so that a folder may hold what came from the hub.
    Raises InputError for a file that is missing or corrupt, a width other than the model's, a
    layer that the model or the file does not have, and values that are not finite.
    """
    path = Path(path)
    tensors, fields = _read(path)
    if fields.get("format") != FORMAT:
        return place_vectors(tensors, cfg, layers, str(path)), VectorInfo(
            "unknown", f"read from {path.name}"
        )
    try:
        stored = tuple(parse_json(fields["layers"], "layers"))
        scale = float(fields["scale"])
        operation: Any = fields["operation"]
        fields.setdefault("method", "")  # which the first files did not say
        info = VectorInfo(**{name: fields[name] for name in VectorInfo.__dataclass_fields__})
        vectors = tensors["vectors"]
        if set(map(type, stored)) != {int} or len(set(stored)) < len(stored):
            raise ValueError(f"its layers are {fields['layers']}")
        if set(tensors) != {"vectors"}:
            raise ValueError(f"its tensors are {sorted(tensors)}")
        if operation not in get_args(Operation) or vectors.shape[:-1] != (len(stored),):
            raise ValueError(f"operation {operation!r}, {vectors.shape} for layers {stored}")
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: corrupt steering file ({error}); save it again") from error
    if model is not None and Path(info.model).name != Path(model).name:
        raise InputError(
            f"{path}: its vectors were made on {info.model!r}, and the model here is {model!r}; "
            "extract them again on this one"
        )
    if layers is not None:
        absent = sorted(set(layers) - set(stored))
        if absent:
            raise InputError(f"{path}: has vectors for layers {list(stored)}, not for {absent}")
        vectors = vectors[[stored.index(layer) for layer in layers]]
    return _build_steering(
        path, vectors, stored if layers is None else layers, cfg, operation, scale
    ), info


def _is_own_vector(path: Path) -> bool:
    try:
        return _read(path)[1].get("format") == FORMAT
    except InputError:
        return False


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    try:
        return read_tensors(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such vector file") from error


def _build_steering(
    path: Path,
    vectors: np.ndarray,
    layers: Sequence[int],
    cfg: ModelConfig,
    operation: Operation,
    scale: float,
) -> Steering:
    if vectors.shape[-1] != cfg.dim:
        raise InputError(
            f"{path}: vectors of width {vectors.shape[-1]} for a model of width {cfg.dim}; "
            "were they made on another model?"
        )
    if not (np.isfinite(vectors).all() and np.isfinite(scale)):
        raise InputError(f"{path}: the vector or its scale is not finite; extract it again")
    try:
        checked = tuple(cfg.check_layer(layer) for layer in layers)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return Steering(jnp.asarray(vectors), jnp.asarray(scale, jnp.float32), checked, operation)
