"""Vectors of other libraries: repeng's GGUF control vectors, steering-vectors' SteeringVector.

Both add a vector to the output of chosen decoder blocks, counted from 0, as "add" does here.
steering-vectors is optional.
"""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np

from subliminal_jax.errors import InputError
from subliminal_jax.files import atomic_path, check_own_file
from subliminal_jax.gguf_files import read_gguf_header
from subliminal_jax.models.config import ModelConfig, family_name
from subliminal_jax.models.steered import Steering

ARCHITECTURE = "controlvector"
_DIRECTION = re.compile(r"direction\.(0|[1-9][0-9]{0,5})")  # one name a layer
_WRITER_KEY = "subliminal_jax.control_vector.version"  # by which our own files are known


def write_gguf(path: str | Path, steering: Steering, model_type: str) -> None:
    """Write a control vector as repeng and llama.cpp read it: scale times vector, a tensor
    "direction.LAYER" a layer, float32.

    `model_type` is that of the model's config.json ("llama", "qwen2"), which repeng keeps as a
    hint. llama.cpp has no direction for block 0. Raises InputError for what `extract_directions`
    refuses, and where another file than one of this function lies at `path`.
    """
    from gguf import GGUFWriter

    def is_own_vector(file: Path) -> bool:
        try:
            return _WRITER_KEY in read_gguf_header(file).fields
        except (InputError, OSError):
            return False

    check_own_file(path, "control vector", is_own_vector)
    directions = extract_directions(steering)
    with atomic_path(path) as temporary:
        writer = GGUFWriter(temporary, ARCHITECTURE)
        writer.add_string(f"{ARCHITECTURE}.model_hint", model_type)
        writer.add_uint32(_WRITER_KEY, 1)
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(directions))
        for layer, direction in directions.items():
            writer.add_tensor(f"direction.{layer}", direction)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def read_gguf(path: str | Path, cfg: ModelConfig) -> tuple[Steering, str]:
    """The steering in a GGUF control vector, at scale 1, and the file's hint of a model type ("" if
    it has none). Half precision and quantized vectors are converted to float32.

    Raises InputError for a file that is missing, corrupt or no control vector, for a hint of
    another family than the model's, for tensors that are no vector of a layer, and as
    `build_steering`.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such vector file")
    file = read_gguf_header(path)
    architecture = file.fields.get("general.architecture")
    if architecture != ARCHITECTURE:
        raise InputError(f"{path}: a GGUF file of {architecture!r}, not of a control vector")
    hint = file.fields.get(f"{ARCHITECTURE}.model_hint", "")
    if not isinstance(hint, str):
        raise InputError(f"{path}: {ARCHITECTURE}.model_hint must be text, not {hint!r}")
    if hint and family_name(hint) != cfg.family:
        raise InputError(
            f"{path}: its vectors were made on a model of type {hint!r}, and the model here is of "
            f"the family {cfg.family!r}; extract them again on this one"
        )
    directions = {}
    for name, tensor in file.tensors.items():
        match = _DIRECTION.fullmatch(name)
        if match is None:
            raise InputError(f"{path}: a tensor {name!r}; control vectors hold direction.LAYER")
        check_shape(tensor.shape, int(match[1]), cfg, str(path))
        directions[int(match[1])] = file.read(name)
    return build_steering(directions, cfg, str(path)), hint


def to_steering_vector(steering: Steering) -> Any:
    """A `steering_vectors.SteeringVector` that adds the same to the same decoder blocks.

    Raises InputError where the library is not installed, and as `extract_directions`.
    """
    library = _optional("steering_vectors", "steering-vectors")
    torch = _optional("torch", "torch")
    activations = {i: torch.from_numpy(v.copy()) for i, v in extract_directions(steering).items()}
    return library.SteeringVector(layer_activations=activations, layer_type="decoder_block")


def from_steering_vector(vector: Any, cfg: ModelConfig) -> Steering:
    """The steering of a `steering_vectors.SteeringVector`, at scale 1.

    Raises InputError for vectors of other places than decoder blocks, and as `build_steering`.
    """
    if vector.layer_type != "decoder_block":
        raise InputError(
            f"a SteeringVector of {vector.layer_type!r}: only the outputs of decoder blocks are "
            "steered here"
        )
    directions = {
        int(layer): np.asarray(v.detach().cpu().float().numpy())
        for layer, v in vector.layer_activations.items()
    }
    return build_steering(directions, cfg, "the SteeringVector")


def extract_directions(steering: Steering) -> dict[int, np.ndarray]:
    """Scale times vector of each layer, float32.

    Raises InputError for an edit that is no addition of one vector a layer at all positions.
    """
    if steering.operation != "add" or not steering.is_uniform:
        raise InputError(
            f"an edit {steering.operation!r} with vectors of shape {steering.vectors.shape}: other "
            "libraries add one vector a layer at all positions"
        )
    scaled = np.asarray(steering.scale * steering.vectors, np.float32)
    return dict(zip(steering.layers, scaled, strict=True))


def check_shape(shape: tuple[int, ...], layer: int, cfg: ModelConfig, source: str) -> None:
    """Raise InputError unless `shape` is that of one vector of the model."""
    if shape != (cfg.dim,):
        raise InputError(
            f"{source}: a vector of shape {shape} at layer {layer} for a model of width "
            f"{cfg.dim}; was it made on another model?"
        )


def build_steering(directions: dict[int, np.ndarray], cfg: ModelConfig, source: str) -> Steering:
    """One vector a layer, added at scale 1, in the order of layers.

    Raises InputError for no vectors, another width than the model's, a layer that it does not have,
    and values that are not finite; `source` names their origin in the message.
    """
    if not directions:
        raise InputError(f"{source}: holds no vectors")
    layers = tuple(sorted(directions))
    for layer in layers:
        v = directions[layer]
        check_shape(v.shape, layer, cfg, source)
        if not np.isfinite(v).all():
            raise InputError(f"{source}: the vector of layer {layer} is not finite; make it again")
        try:
            cfg.check_layer(layer)
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
    vectors = jnp.stack([jnp.asarray(directions[layer], jnp.float32) for layer in layers])
    return Steering(vectors, jnp.ones((), jnp.float32), layers)


def _optional(module: str, package: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(f"this needs the package {package}: pip install {package}") from error
