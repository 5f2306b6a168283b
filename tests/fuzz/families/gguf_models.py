"""Models in GGUF files, against the reader of the package `gguf`."""

import random
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from subliminal_jax.models.hub import load_model
from tests.fuzz.families.base import check, replace_file, scratch
from tests.fuzz.mutations import ODD_VALUES, damage
from tests.gguf_models import byte_level, describe, random_params, sentence_piece, write_gguf_model
from tests.models.test_gguf import MODELS

SOUND = {  # file, model, number format
    "bytes.gguf": ("llama", "F16", byte_level("llama-bpe")),
    "pieces.gguf": ("gemma3", "F32", sentence_piece()),
    "quantized.gguf": ("qwen2", "Q8_0", byte_level("qwen2")),
}
ODD_LISTS: tuple[Any, ...] = ([1], ["x"], [0.5], ["h e"], [[1]], [True], ["", ""], [2**31 - 1])


def prepare() -> None:
    for file in SOUND:
        if not (scratch() / file).exists():
            _write(scratch() / file, file, {})


def _write(path: Path, file: str, fields: dict[str, Any]) -> None:
    name, number_format, tokenizer = SOUND[file]
    cfg = MODELS[name]
    write_gguf_model(
        path, cfg, random_params(cfg), tokenizer, number_format=number_format, fields=fields
    )


def run(rng: random.Random, folder: Path) -> str:
    file = rng.choice(list(SOUND))
    path = folder / file
    path.write_bytes((scratch() / file).read_bytes())
    kind = rng.random()
    if kind < 0.1:
        replace_file(rng, path)
    elif kind < 0.5:
        data = path.read_bytes()
        # The model's fields, the vocabulary, all, or the tensors' values.
        start, end = rng.choice(((0, 500), (0, 12_000), (0, len(data)), (len(data) // 2, None)))
        path.write_bytes(data[:start] + damage(rng, data[start:end]) + data[len(data[:end]) :])
    else:
        _write(path, file, _odd_fields(rng, file))
    model = load_model(path)
    reader = gguf.GGUFReader(path)
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    check(model.tokenizer.convert_ids_to_tokens(7) == tokens[7], "another token 7")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    for key, leaf in (("ffn_down", "down"), ("attn_v", "v")):
        stored = tensors[f"blk.1.{key}.weight"]
        values = gguf.quants.dequantize(stored.data, stored.tensor_type)
        ours = np.asarray(model.params["layers"][leaf][1], np.float32)
        check(np.array_equal(ours, values.T), f"other values of {key}")
    offset = 1 if model.cfg.unit_offset_norm else 0
    norm = np.asarray(model.params["final_norm"]) + offset
    check(np.allclose(norm, tensors["output_norm.weight"].data, atol=1e-6), "another norm")
    check(all(0 <= token < model.cfg.vocab for token in model.stop_ids), f"{model.stop_ids}")
    return file


def _odd_fields(rng: random.Random, file: str) -> dict[str, Any]:
    name, _, tokenizer = SOUND[file]
    cfg = MODELS[name]
    keys = [f"{cfg.family}.{key}" for key in describe(cfg)]
    keys += [f"tokenizer.ggml.{key}" for key in (*tokenizer, "add_eos_token", "eot_token_id")]
    keys += ["general.architecture", "general.alignment", "tokenizer.chat_template", "split.count"]
    odd = [v for v in ODD_VALUES if isinstance(v, bool | None) or _fits(v)]
    odd += [v.encode("utf-8", "replace").decode() for v in ODD_VALUES if isinstance(v, str)]
    return {rng.choice(keys): rng.choice((*odd, *ODD_LISTS)) for _ in range(rng.randrange(1, 3))}


def _fits(value: Any) -> bool:
    """Whether the writer has room for a number: unsigned, or float32."""
    if isinstance(value, float):
        return not np.isfinite(value) or abs(value) < 3e38
    return type(value) is int and 0 <= value < 2**32
