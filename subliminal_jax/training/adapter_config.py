"""PEFT's adapter_config.json: which LoRA it describes, by what is known and nothing else.

`KNOWN` lists the options whose values are understood. Any other option, known to PEFT or not, must
be null or false. So an option of a later PEFT, or one that changes the base weights
as PiSSA does, is never read as if it were not there.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import regex

from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.config_fields import Fields
from subliminal_jax.models.spec import spec
from subliminal_jax.reading import read_json_object
from subliminal_jax.training.adapters import PROJECTIONS, LoRA

# How factors begin does not matter once they are trained, unless the base is changed with them.
_PLAIN_INITIALIZATIONS = ("gaussian", "eva", "orthogonal", "mica")
_ALL_LINEAR = "all-linear"
_MATCH_SECONDS = 0.2  # for a regular expression and one name: those of strangers may never end
_LONGEST_PATTERN = 10_000  # characters

# The options that are read, and those that say nothing about the weights.
_READ = {
    "peft_type",
    "base_model_name_or_path",
    "r",
    "lora_alpha",
    "use_rslora",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "init_lora_weights",
    "bias",
    "task_type",
    "lora_dropout",
}
_DESCRIPTIVE = {
    "auto_mapping",  # the base's class, where it is no causal language model of transformers
    "revision",  # of the base
    "peft_version",
    "inference_mode",
    "eva_config",  # of an initialisation
    "megatron_core",  # where Megatron is, for megatron_config
    "qalora_group_size",  # for use_qalora
    "runtime_config",
}
KNOWN = _READ | _DESCRIPTIVE
# Not set where they are empty; of other options an empty value is one, as {} is a sub-configuration
# with all its defaults.
_MAY_BE_EMPTY = {"rank_pattern", "alpha_pattern", "modules_to_save", "loftq_config"}


def read_adapter_config(path: Path, cfg: ModelConfig) -> tuple[LoRA, str]:
    """(the LoRA that an adapter_config.json describes on a model of `cfg`, the name of its base).

    Of rank-stabilised LoRA (Kalajdzievski 2023) the alpha is that of plain LoRA at the same scale,
    alpha * sqrt(r). Modules are matched as PEFT matches them: by the end of their names, by a
    regular expression, or "all-linear"; all adapted layers must have the same projections adapted.
    Raises InputError, naming the option, for one that is not plain LoRA or not known, for a value
    of a wrong type, and for modules that the model does not have.
    """
    raw = read_json_object(path)
    fields = Fields(raw, str(path), {"base_model_name_or_path": None, "use_rslora": False})
    if raw.get("peft_type") != "LORA":
        raise fields.error(
            f"not the configuration of a LoRA adapter: peft_type is {raw.get('peft_type')!r:.80}"
        )
    _check_options(fields)
    rank, alpha = fields.count("r"), fields.number("lora_alpha")
    if fields.flag("use_rslora"):
        alpha *= math.sqrt(rank)
    if alpha / rank > float(np.finfo(np.float32).max):
        raise fields.error(f"lora_alpha {raw['lora_alpha']} is too large for float32")
    layers = _chosen_layers(fields, cfg)
    targets, adapted = _match_modules(fields, cfg, layers)
    base = raw.get("base_model_name_or_path") or ""
    if not isinstance(base, str):
        raise fields.error(f"base_model_name_or_path must be text, not {base!r:.80}")
    is_everywhere = layers is None and len(adapted) == cfg.layers
    return LoRA(rank, alpha, targets, None if is_everywhere else adapted), base


def _check_options(fields: Fields) -> None:
    raw = fields.raw
    for option, value in raw.items():
        is_unset = (
            value is None or value is False or (option in _MAY_BE_EMPTY and value in ([], {}))
        )
        if option not in KNOWN and not is_unset:
            raise fields.error(
                f"{option}={value!r:.80} is not supported; use plain LoRA, or merge the adapter "
                "into its base with PEFT"
            )
    beginning = raw.get("init_lora_weights", True)
    if not isinstance(beginning, bool) and beginning not in _PLAIN_INITIALIZATIONS:
        raise fields.error(
            f"init_lora_weights={beginning!r:.80} is not supported: PiSSA, OLoRA, CorDA, LoftQ and "
            "LoRA-GA change the weights of the base; save the adapter with PEFT's "
            "path_initial_model_for_weight_conversion, which makes it plain LoRA"
        )
    if raw.get("bias", "none") != "none":
        raise fields.error(f"bias={raw['bias']!r:.80} is not supported: no biases are trained here")
    if raw.get("task_type") not in (None, "CAUSAL_LM"):
        raise fields.error(
            f"task_type={raw['task_type']!r:.80} is not supported, only adapters of causal "
            "language models"
        )
    if raw.get("layers_pattern") not in (None, "", [], "layers", ["layers"]):
        raise fields.error(
            f"layers_pattern={raw['layers_pattern']!r:.80} is not supported: the layers of these "
            "models are called 'layers'"
        )
    dropout = Fields(raw, fields.source, {"lora_dropout": 0.0}).number("lora_dropout", zero=True)
    if dropout > 1:
        raise fields.error(f"lora_dropout must be at most 1, not {dropout}")


def _chosen_layers(fields: Fields, cfg: ModelConfig) -> tuple[int, ...] | None:
    """The layers of layers_to_transform, each once; None for all."""
    value = fields.raw.get("layers_to_transform")
    if value is None or value == []:
        return None
    layers = value if isinstance(value, list) else [value]
    for layer in layers:
        if isinstance(layer, bool) or not isinstance(layer, int):
            raise fields.error(
                f"layers_to_transform must be a layer or a list of them, not {value!r:.80}"
            )
        try:
            cfg.check_layer(layer)
        except InputError as error:
            raise fields.error(f"layers_to_transform: {error}") from error
    return tuple(sorted(set(layers)))


def _match_modules(
    fields: Fields, cfg: ModelConfig, layers: tuple[int, ...] | None
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """(projections, layers) that are adapted."""
    targets, excluded = fields.get("target_modules"), fields.raw.get("exclude_modules")
    names = _linear_modules(cfg)
    is_target = _matcher(targets, "target_modules", fields)
    is_excluded = _matcher(excluded or [], "exclude_modules", fields)
    if isinstance(targets, str) and layers is not None:
        raise fields.error("layers_to_transform cannot be used with target_modules as text")
    if isinstance(targets, list):
        absent = [t for t in targets if not any(_ends_with(name, t) for name in names)]
        if absent:
            raise fields.error(f"target_modules: no such projections as {absent!r:.200}")
    modules = set()
    for name, (inside, layer) in names.items():
        # PEFT compares a whole name without looking at layers_to_transform.
        in_layers = layers is None or layer in layers or name in targets
        if in_layers and is_target(name) and not is_excluded(name):
            modules |= {(projection, layer) for projection in inside}
    projections = tuple(p for p in PROJECTIONS if any(p == module[0] for module in modules))
    adapted = tuple(sorted({layer for _, layer in modules}))
    if not modules:
        raise fields.error(f"target_modules={targets!r:.80} leave no module to adapt")
    if len(modules) < len(projections) * len(adapted):
        projection, layer = next(
            (p, i) for p in projections for i in adapted if (p, i) not in modules
        )
        raise fields.error(
            f"{name_module(cfg, projection)} is adapted in some layers, but not in layer {layer}: "
            "the same projections must be in all layers that are adapted"
        )
    return projections, adapted


def name_module(cfg: ModelConfig, projection: str) -> str:
    """What PEFT calls the matrix that holds a projection: the last part of its name."""
    return spec(cfg)["layers"][projection].hf_name.removesuffix(".weight").rpartition(".")[2]


def _linear_modules(cfg: ModelConfig) -> dict[str, tuple[list[str], int]]:
    """(projections, layer) of the matrices that may be adapted, by their names in the model."""
    tree: Mapping[str, Any] = spec(cfg)["layers"]
    modules: dict[str, tuple[list[str], int]] = {}
    for layer in range(cfg.layers):
        for projection in (name for name in PROJECTIONS if name in tree):
            name = tree[projection].hf_name.format(layer=layer).removesuffix(".weight")
            modules.setdefault(name, ([], layer))[0].append(projection)
    return modules


def _matcher(patterns: Any, option: str, fields: Fields) -> Callable[[str], bool]:
    """A function from a module's name to whether `patterns` match it, as in PEFT."""
    if isinstance(patterns, list) and all(isinstance(p, str) for p in patterns):
        return lambda name: any(_ends_with(name, pattern) for pattern in patterns)
    if not isinstance(patterns, str):
        raise fields.error(f"{option} must be a list of names or text, not {patterns!r:.80}")
    if option == "target_modules" and patterns.lower() == _ALL_LINEAR:
        return lambda name: True
    if len(patterns) > _LONGEST_PATTERN:
        raise fields.error(f"{option}: a regular expression of {len(patterns)} characters")
    try:
        compiled = regex.compile(patterns)
    except (regex.error, RecursionError, OverflowError) as error:
        raise fields.error(
            f"{option}={patterns!r:.80} is no regular expression ({error})"
        ) from error

    def matches(name: str) -> bool:
        try:
            return compiled.fullmatch(name, timeout=_MATCH_SECONDS) is not None
        except TimeoutError as error:
            raise fields.error(
                f"{option}={patterns!r:.80} takes too long to match {name}; name the modules"
            ) from error

    return matches


def _ends_with(name: str, module: str) -> bool:
    return name == module or name.endswith(f".{module}")
