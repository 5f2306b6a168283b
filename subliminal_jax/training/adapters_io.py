"""Trained LoRA adapters in folders that PEFT reads too: adapter_config.json and safetensors.

A trained vector is a steering vector (`steering.io`), and a student with all weights trained is a
model (`models.hub.save_model`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from safetensors.numpy import save_file

from subliminal_jax.errors import InputError
from subliminal_jax.files import atomic_folder, write_json
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.mesh import gather_to_host
from subliminal_jax.models.places import is_same_name
from subliminal_jax.models.spec import spec
from subliminal_jax.tensor_files import read_tensors
from subliminal_jax.training.adapter_config import name_module, read_adapter_config
from subliminal_jax.training.adapters import LoRA, Trainable, find_targets

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."


def save_adapter(
    folder: str | Path, trainable: Trainable, adapter: LoRA, cfg: ModelConfig, model: str
) -> None:
    """Write LoRA factors a [n, in, rank], b [n, rank, out] of each target; `model` is the name of
    the base. The folder appears whole or not at all.

    Where the checkpoint stores several projections as one matrix, their factors lie side by side in
    one of a multiple of the rank, to which the others are filled up with zeros.

    Raises InputError for factors of another shape than `adapter` says on this model, or not finite,
    and for a folder with files that this function did not write (but for README.md, which stays).
    """
    folder, layers = Path(folder), _layers(adapter, cfg)
    stacks: dict[str, dict[str, np.ndarray]] = {}
    for name, shapes in _shapes(adapter, cfg).items():
        factors = trainable["layers"].get(name)
        actual = {} if factors is None else {k: tuple(v.shape) for k, v in factors.items()}
        if actual != shapes:
            raise InputError(
                f"{folder}: the factors of {name} have the shapes {actual}, not {shapes}"
            )
        stacks[name] = {k: gather_to_host(factors[k]).astype(np.float32) for k in "ab"}
        if not all(np.isfinite(stacked).all() for stacked in stacks[name].values()):
            raise InputError(f"{folder}: the factors of {name} are not finite; nothing written")
    modules: dict[str, list[str]] = {}
    for name in stacks:
        modules.setdefault(name_module(cfg, name), []).append(name)
    joined = max(map(len, modules.values()))
    rank = joined * adapter.rank
    tensors = {}
    for names in modules.values():
        for i, layer in enumerate(layers):
            a = np.concatenate([stacks[name]["a"][i].T for name in names])
            a = np.pad(a, ((0, rank - len(a)), (0, 0)))
            b = _join([stacks[name]["b"][i].T for name in names], names, rank, cfg)
            tensors[_name(cfg, names[0], layer, "lora_A")] = np.ascontiguousarray(a)
            tensors[_name(cfg, names[0], layer, "lora_B")] = np.ascontiguousarray(b)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model,
        "r": rank,
        "lora_alpha": adapter.scale * rank if adapter.rslora else joined * adapter.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(modules),
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
    tree, known = spec(cfg)["layers"], set()
    for name, shapes in _shapes(adapter, cfg).items():
        factors[name] = {}
        for which, peft in (("a", "lora_A"), ("b", "lora_B")):
            names = [_name(cfg, name, layer, peft) for layer in layers]
            missing = [n for n in names if n not in tensors]
            if missing:
                raise InputError(f"{folder}: {WEIGHTS} has no {missing[0]}; save it again")
            known |= set(names)
            part = tree[name].part if which == "b" else None
            expected = shapes[which][:0:-1]
            if part is not None:
                expected = (part.groups * part.rows, adapter.rank)
            matrices = []
            for n in names:
                matrix = tensors[n]
                if matrix.shape != expected:
                    raise InputError(
                        f"{folder}: {n} has the shape {matrix.shape}, and rank {adapter.rank} on "
                        f"a model of width {cfg.dim} needs {expected}"
                    )
                if part is not None:
                    matrix = part.of(matrix).reshape(-1, adapter.rank)
                matrices.append(matrix.T)
                if not np.isfinite(matrix).all():
                    raise InputError(f"{folder}: {n} is not finite; train it again")
            factors[name][which] = jnp.asarray(np.stack(matrices))
    if unknown := tensors.keys() - known:
        raise InputError(
            f"{folder}: {WEIGHTS} holds {min(unknown)}, which is no factor of its LoRA"
        )
    return {"layers": factors}, adapter


def _join(
    parts: Sequence[Float[np.ndarray, "_ rank"]],
    names: Sequence[str],
    rank: int,
    cfg: ModelConfig,
) -> Float[np.ndarray, "out joined_rank"]:
    """One factor b, transposed, of the projections `names` of one matrix: each writes its own rows
    from columns of its own."""
    info = spec(cfg)["layers"][names[0]]
    rows = info.shape[-1] if info.part is None else info.part.groups * info.part.rows
    joined = np.zeros((rows, rank), np.float32)
    for i, (name, b) in enumerate(zip(names, parts, strict=True)):
        part = spec(cfg)["layers"][name].part
        target = joined if part is None else part.of(joined)
        columns = slice(i * b.shape[1], (i + 1) * b.shape[1])
        target[..., columns] = b.reshape(*target.shape[:-1], b.shape[1])
    return joined


def _layers(adapter: LoRA, cfg: ModelConfig) -> tuple[int, ...]:
    chosen = range(cfg.layers) if adapter.layers is None else sorted(set(adapter.layers))
    return tuple(cfg.check_layer(layer) for layer in chosen)


def _shapes(adapter: LoRA, cfg: ModelConfig) -> dict[str, dict[str, tuple[int, ...]]]:
    n, tree = len(_layers(adapter, cfg)), spec(cfg)["layers"]
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for name in find_targets(adapter, cfg):
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
