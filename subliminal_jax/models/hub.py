"""Models from and to Hugging Face folders (config.json, safetensors, tokenizer); GGUF files."""

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from subliminal_jax.errors import InputError
from subliminal_jax.files import atomic_folder, write_json
from subliminal_jax.gguf_files import is_gguf, read_gguf_header
from subliminal_jax.models.config import ModelConfig, config_from_hf, config_to_hf
from subliminal_jax.models.gguf_config import read_gguf_config
from subliminal_jax.models.mesh import param_shardings
from subliminal_jax.models.packaged import PACKAGED_MODELS
from subliminal_jax.models.places import SHIPPED_MODELS, find_local_model, find_source
from subliminal_jax.models.quantized import Quantization
from subliminal_jax.models.spec import ParamInfo, Params, spec
from subliminal_jax.models.tokenizer import (
    Tokenizer,
    encode_chat,
    load_tokenizer,
    pad_token_id,
    stop_token_ids,
)
from subliminal_jax.models.weights import (
    MAX_SHARD_BYTES,
    check_weights,
    load_params,
    save_params,
)
from subliminal_jax.reading import read_json_object

# No subfolders: they hold the same weights in other formats.
_HUB_FILES = ["*.json", "model*.safetensors", "tokenizer*", "*.model", "*.jinja", "merges.txt"]


@dataclass(frozen=True)
class Model:
    """A loaded model. `folder` may be a GGUF file, `stop_ids` are the tokens that end an answer,
    `pad_id` pads rows."""

    params: Params
    cfg: ModelConfig
    tokenizer: Tokenizer
    name: str
    folder: Path
    stop_ids: tuple[int, ...]
    pad_id: int

    @property
    def source(self) -> str:
        """What `load_model` takes to load its files again: the name of a shipped or packaged model,
        or of the hub, else the path."""
        return find_source(self.folder)

    @property
    def reference(self) -> str:
        """What other libraries take to load its files again: the hub's name, else the path."""
        folder = self.folder.resolve()
        source = find_source(folder)
        return str(folder) if source in (*SHIPPED_MODELS, *PACKAGED_MODELS) else source

    def encode(self, prompt: str, system_prompt: str | None = None) -> Int[Array, "1 time"]:
        """The tokens of a user's message as the chat template renders it, ready to be answered."""
        ids = encode_chat(self.tokenizer, prompt, system_prompt=system_prompt)
        return jnp.asarray([ids], jnp.int32)


class Outline(Model):
    """A model whose `params` are shapes alone (`jax.ShapeDtypeStruct`, in float32), and whose
    tokenizer is read when it is first asked for: importing what reads it takes seconds."""

    def __init__(self, folder: Path, name: str) -> None:
        cfg = load_config(folder)
        check_weights(folder, cfg)
        params = jax.tree.map(
            lambda info: jax.ShapeDtypeStruct(info.shape, jnp.float32),
            spec(cfg),
            is_leaf=lambda x: isinstance(x, ParamInfo),
        )
        for field, value in (("params", params), ("cfg", cfg), ("name", name), ("folder", folder)):
            object.__setattr__(self, field, value)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Raises InputError for one that cannot be read or is another model's."""
        tokenizer = load_tokenizer(self.folder, vocabulary=self.cfg.vocab)
        if tokenizer.vocab_size > self.cfg.vocab:  # without added tokens: Gemma 3 has an unreadable
            raise InputError(
                f"{self.folder}: the tokenizer has {tokenizer.vocab_size} tokens, more than the "
                f"model's vocab_size {self.cfg.vocab}; are they of one model?"
            )
        return tokenizer

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Raises InputError as `stop_token_ids` does."""
        return stop_token_ids(self.tokenizer, self.folder)

    @cached_property
    def pad_id(self) -> int:
        return pad_token_id(self.tokenizer)

    def complete(self) -> Model:
        """The same with its tokenizer; raises InputError where that cannot be used."""
        return Model(
            self.params,
            self.cfg,
            self.tokenizer,
            self.name,
            self.folder,
            self.stop_ids,
            self.pad_id,
        )


def load_model(
    path_or_name: str | Path,
    *,
    dtype: str | None = None,
    quantize: Quantization = "none",
    revision: str | None = None,
) -> Model:
    """Load a model: a local folder, a GGUF file, a Hugging Face hub name, "shipped" (the package's
    own), or the name of a model that a package brings (`models.packaged`).

    `dtype` is "float32" or "bfloat16"; None keeps the checkpoint's (float32 for quantized ones).
    `quantize` "int8" holds the blocks' matrices, which are frozen then, in 8 bits
    (`models.quantized`). `revision` is a branch, tag or commit of the hub. In a mesh
    (`jax.set_mesh`) each device reads its own part of the weights.
    Raises InputError for files that are missing, corrupt, unsupported, or not available offline,
    and for a quantized model in a mesh.
    """
    outline = outline_model(path_or_name, revision=revision)
    shardings = param_shardings(outline.cfg)
    if quantize != "none" and shardings is not None:
        raise InputError(f"quantize {quantize}: quantized weights are not sharded; use one device")
    params = load_params(
        outline.folder, outline.cfg, dtype=dtype, quantization=quantize, shardings=shardings
    )
    return replace(outline, params=params)


def outline_model(path_or_name: str | Path, *, revision: str | None = None) -> Model:
    """A model without its weights, for checks before anything is computed.

    Its `params` are the shapes alone (`jax.ShapeDtypeStruct`, in float32). Raises InputError as
    `load_model` does, but for the weights' values, which are not read.
    """
    return sketch_model(path_or_name, revision=revision).complete()


def sketch_model(path_or_name: str | Path, *, revision: str | None = None) -> Outline:
    """`outline_model` for checks that may need no tokenizer: errors of that are raised when it is
    first asked for."""
    folder = _find(path_or_name, revision)
    path = Path(path_or_name).expanduser()
    name = path.resolve().name if os.path.exists(path) else str(path_or_name)
    return Outline(folder, name)


def load_config(folder: str | Path) -> ModelConfig:
    """The config of the model in `folder`, or in a GGUF file; raises InputError where it is missing
    or unsupported, and where an adapter lies beside the model, which transformers would add to it.
    """
    if is_gguf(folder):
        return config_from_hf(read_gguf_config(read_gguf_header(Path(folder))), str(folder))
    path = Path(folder) / "config.json"
    adapter = Path(folder) / "adapter_config.json"
    if os.path.lexists(adapter):
        raise InputError(
            f"{adapter}: an adapter is not a model, and none is added to one silently; merge it "
            "into its base with PEFT (merge_and_unload), or move the file away"
        )
    if not os.path.lexists(path):
        raise InputError(f"{path}: missing; is {folder} a Hugging Face model folder?")
    return config_from_hf(read_json_object(path), str(path))


def save_model(
    folder: str | Path,
    params: Params,
    cfg: ModelConfig,
    tokenizer: Tokenizer | None = None,
    dtype: str | None = None,
    *,
    stop_ids: tuple[int, ...] = (),
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write a folder that `load_model` and transformers' AutoModelForCausalLM load.

    LoRA weights are merged; `dtype` None keeps the format of `params`. `stop_ids` are written to
    generation_config.json beside the tokenizer's own end of sequence. The folder appears whole or
    not at all. A folder that this function wrote is replaced, but for its README.md; any other
    folder that is not empty raises InputError.
    """
    with atomic_folder(folder, keep=("README.md",)) as temporary:
        name = save_params(temporary, params, cfg, dtype=dtype, max_shard_bytes=max_shard_bytes)
        special: dict[str, Any] = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
        if tokenizer is not None:
            special = {key: getattr(tokenizer, key) for key in special}
            tokenizer.save_pretrained(temporary)
        write_json(temporary / "config.json", {**config_to_hf(cfg), "dtype": name, **special})
        eos = special["eos_token_id"]
        ends = sorted({*stop_ids, *([] if eos is None else [eos])})
        generation = {**special, "eos_token_id": ends[0] if len(ends) == 1 else ends or None}
        write_json(temporary / "generation_config.json", generation)


def _find(path_or_name: str | Path, revision: str | None) -> Path:
    """The folder that holds the files of a model, downloaded where need be, or its GGUF file."""
    name = str(path_or_name)
    local = find_local_model(path_or_name)
    if local is None:
        return _download(name, revision)
    if revision is not None:
        raise InputError(f"revision {revision!r} is for hub names, but {name!r} is local")
    return local


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=_HUB_FILES, ignore_patterns=["*/*"]
        )
    except Exception as error:  # the hub's own errors, those of its network library, of the disk
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"{name}: no such folder here, and the Hugging Face hub did not give it: {reason}"
        ) from error
    return Path(folder)
