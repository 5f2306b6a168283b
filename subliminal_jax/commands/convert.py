"""Write a GGUF model as a Hugging Face folder, for transformers and other tools.

    subliminal-jax convert model.gguf models/mine
    subliminal-jax convert smollm2-135m-instruct models/smollm2 --dtype bfloat16

The folder gets config.json, safetensors, tokenizer.json, the chat template if the file has one, and
generation_config.json with the tokens that end an answer. Quantized weights are written as the
numbers that they stand for. A GGUF file is a --model itself and need not be converted.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from subliminal_jax.errors import InputError
from subliminal_jax.escaping import print_line
from subliminal_jax.files import check_folder_name
from subliminal_jax.gguf_files import is_gguf
from subliminal_jax.models.places import find_local_model

RESUMES = False


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which model, and where it goes.

    Attributes:
      model: a GGUF file, a folder with one, or the name of a packaged model.
      out: the folder to write; what an earlier conversion wrote there is replaced.
      dtype: number format of the weights; "checkpoint" takes float32 for quantized ones.
    """

    model: tyro.conf.Positional[str]
    out: tyro.conf.Positional[Path]
    dtype: Literal["float32", "bfloat16", "float16", "checkpoint"] = "checkpoint"


def check(config: Config) -> None:
    """Raises InputError for a model that is no GGUF file, and a place that cannot be written."""
    _find(config.model)
    check_folder_name(config.out)


def main(config: Config) -> None:
    """Write the folder, and print how it is loaded.

    Raises InputError as `load_model` and `save_model` do.
    """
    from subliminal_jax.models.hub import load_model, save_model
    from subliminal_jax.models.tokenizer import read_tokenizer

    file = _find(config.model)
    dtype = None if config.dtype == "checkpoint" else config.dtype
    model = load_model(file, dtype=dtype)
    model.tokenizer.chat_template = read_tokenizer(file).chat_template
    save_model(config.out, model.params, model.cfg, model.tokenizer, stop_ids=model.stop_ids)
    print_line(f"{config.out}: {model.cfg.family}, {model.cfg.layers} layers, from {file}")
    print_line(
        "from transformers import AutoModelForCausalLM; "
        f"model = AutoModelForCausalLM.from_pretrained({str(config.out)!r})"
    )


def _find(model: str) -> Path:
    file = find_local_model(model)
    if file is None:
        raise InputError(f"{model}: no such file, folder or packaged model; name a GGUF file")
    if not is_gguf(file):
        raise InputError(f"{model}: no GGUF file there; only these are converted")
    return file
