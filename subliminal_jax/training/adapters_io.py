"""Trained LoRA adapters in folders that PEFT reads too: adapter_config.json and safetensors.

A trained vector is a steering vector (`steering.io`), and a student with all weights trained is a
model (`models.hub.save_model`).
"""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from subliminal_jax.errors import InputError
from subliminal_jax.files import atomic_folder, write_json
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.mesh import gather_to_host
from subliminal_jax.models.places import is_same_name
from subliminal_jax.models.spec import spec
from subliminal_jax.tensor_files import read_tensors
from subliminal_jax.training.adapter_config import read_adapter_config
from subliminal_jax.training.adapters import PROJECTIONS, LoRA, Trainable

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."
# PEFT's names of the projections.
_MODULES = {name: f"{name}_proj" for name in PROJECTIONS}


def save_adapter(
    folder: str | Path, trainable: Trainable, adapter: LoRA, cfg: ModelConfig, model: str
) -> None:
    """Write LoRA factors a [n, in, rank], b [n, rank, out] of each target; `model` is the name of
    the base. The folder appears whole or not at all.

    Raises InputError for factors of another shape than `adapter` says on this model, or not finite,
    and for a folder with files that this function did not write (but for README.md, which stays).
    """
    folder, layers = Path(folder), _layers(adapter, cfg)
    tensors = {}
    for name, shapes in _shapes(adapter, cfg).items():
        factors = trainable["layers"].get(name)
        actual = {} if factors is None else {k: tuple(v.shape) for k, v in factors.items()}
        if actual != shapes:
            raise InputError(
                f"{folder}: the factors of {name} have the shapes {actual}, not {shapes}"
            )
        for which, peft in (("a", "lora_A"), ("b", "lora_B")):
            stacked = gather_to_host(factors[which]).astype(np.float32)
            if not np.isfinite(stacked).all():
                raise InputError(f"{folder}: the factors of {name} are not finite; nothing written")
            for layer, matrix in zip(layers, stacked, strict=True):
                tensors[_name(cfg, name, layer, peft)] = np.ascontiguousarray(matrix.T)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [_MODULES[name] for name in adapter.targets],
        "layers_to_transform": None if adapter.layers is None else list(layers),
        "inference_mode": True,
    }
    with atomic_folder(folder, keep=("README.md",)) as temporary:
        save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
        write_json(temporary / CONFIG, config)


def load_adapter(
    folder: str | Path, cfg: ModelConfig, *, model: str | None = None
) -> tuple[Trainable, LoRA]:
    """The factors (float32) in a folder of `save_adapter` or of PEFT, and their `LoRA`.

    `model` refuses an adapter whose base has another name (of names with slashes the last part
    counts). Raises InputError for a folder that is missing or corrupt, for every option of PEFT but
    those of plain and rank-stabilised LoRA (`training.adapter_config`), for factors stored in a
    number format other than float32, bfloat16 and float16, and for factors that do not fit the
    model or are not finite.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: no adapter here ({CONFIG} is missing)")
    adapter, base = read_adapter_config(folder / CONFIG, cfg)
    if model is not None and base and not is_same_name(base, model):
        raise InputError(f"{folder}: an adapter of {base!r}, and the model here is {model!r}")
    layers = _layers(adapter, cfg)
    tensors = _read_weights(folder)
    factors: dict[str, dict[str, Any]] = {}
    for name, shapes in _shapes(adapter, cfg).items():
        factors[name] = {}
        for which, peft in (("a", "lora_A"), ("b", "lora_B")):
            names = [_name(cfg, name, layer, peft) for layer in layers]
            missing = [n for n in names if n not in tensors]
            if missing:
                raise InputError(f"{folder}: {WEIGHTS} has no {missing[0]}; save it again")
            matrices = [tensors.pop(n).T for n in names]
            for n, matrix in zip(names, matrices, strict=True):
                if matrix.shape != shapes[which][1:]:
                    raise InputError(
                        f"{folder}: {n} has the shape {matrix.T.shape}, and rank {adapter.rank} on "
                        f"a model of width {cfg.dim} needs {shapes[which][:0:-1]}"
                    )
                if not np.isfinite(matrix).all():
                    raise InputError(f"{folder}: {n} is not finite; train it again")
            factors[name][which] = jnp.asarray(np.stack(matrices))
    if tensors:
        raise InputError(
            f"{folder}: {WEIGHTS} holds {min(tensors)}, which is no factor of its LoRA"
        )
    return {"layers": factors}, adapter


def _layers(adapter: LoRA, cfg: ModelConfig) -> tuple[int, ...]:
    chosen = range(cfg.layers) if adapter.layers is None else sorted(set(adapter.layers))
    return tuple(cfg.check_layer(layer) for layer in chosen)


def _shapes(adapter: LoRA, cfg: ModelConfig) -> dict[str, dict[str, tuple[int, ...]]]:
    n, tree = len(_layers(adapter, cfg)), spec(cfg)["layers"]
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for name in adapter.targets:
        rows, cols = tree[name].shape[1:]
        shapes[name] = {"a": (n, rows, adapter.rank), "b": (n, adapter.rank, cols)}
    return shapes


def _name(cfg: ModelConfig, projection: str, layer: int, factor: str) -> str:
    weight = spec(cfg)["layers"][projection].hf_name.format(layer=layer)
    return f"{_PREFIX}{weight.removesuffix('.weight')}.{factor}.weight"


def _read_weights(folder: Path) -> dict[str, np.ndarray]:
    path = folder / WEIGHTS
    try:
        return read_tensors(path)[0]
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; is the adapter complete?") from error
