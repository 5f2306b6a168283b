"""Safetensors files of tiny models, whole and in parts, against safetensors' own reader."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

from subliminal_jax.models.weights import load_params, save_params
from tests.fuzz.families.base import check, replace_file, scratch
from tests.fuzz.mutations import change_json, damage
from tests.models.families import GEMMA2, LLAMA, QWEN2, TIED_LLAMA, noisy_params
from tests.safetensors_bytes import FORMATS, read_header, write_raw

CONFIGS = {"llama": LLAMA, "tied": TIED_LLAMA, "qwen2": QWEN2, "gemma2": GEMMA2}
LAYOUTS = {"whole": 1 << 30, "parts": 40_000}


def prepare() -> None:
    for name, cfg in CONFIGS.items():
        for layout, size in LAYOUTS.items():
            folder = scratch() / f"weights-{name}-{layout}"
            if not folder.exists():
                folder.mkdir()
                params = noisy_params(cfg)
                save_params(folder, params, cfg, max_shard_bytes=size)


def run(rng: random.Random, folder: Path) -> str:
    name, layout = rng.choice(list(CONFIGS)), rng.choice(list(LAYOUTS))
    cfg, model = CONFIGS[name], folder / "model"
    shutil.copytree(scratch() / f"weights-{name}-{layout}", model)
    file = rng.choice(sorted(model.iterdir()))
    if file.suffix == ".json":
        replace_file(rng, file, change_json(rng, json.loads(file.read_bytes())))
    elif rng.random() < 0.1:
        replace_file(rng, file)
    elif rng.random() < 0.5:
        file.write_bytes(damage(rng, file.read_bytes()))
    else:
        header, values = read_header(file)
        write_raw(file, _change_header(rng, header), values)
    dtype = rng.choice((None, "float32", "float32", "bfloat16"))
    params = load_params(model, cfg, dtype=dtype)
    out = folder / "out"
    out.mkdir()
    save_params(out, params, cfg, max_shard_bytes=1 << 30)
    ours = _tensors(out)
    theirs = _tensors(model)
    for key in ours:
        found = theirs.get(key)
        check(found is not None, f"{key} is in no file")
        same = ours[key].to(found.dtype) if dtype is None else ours[key]
        expected = found if dtype is None else found.to(ours[key].dtype)
        check(same.shape == expected.shape and bool((same == expected).all()), f"{key} differs")
        check(np.isfinite(ours[key].float().numpy()).all(), f"{key} is not finite")
    others = {key for key in theirs if key not in ours and not key.endswith("inv_freq")}
    check(others <= {"lm_head.weight"}, f"{others} are left out")
    return name


def _change_header(rng: random.Random, header: dict[str, Any]) -> dict[str, Any]:
    key = rng.choice([name for name in header if name != "__metadata__"])
    kind = rng.random()
    if kind < 0.3:
        header[key]["dtype"] = rng.choice(list(FORMATS))
    elif kind < 0.5:
        header[key]["shape"] = rng.choice((header[key]["shape"][::-1], [0], [], [-1], [2**40, 2]))
    elif kind < 0.6:
        header[rng.choice(("x", "lm_head.weight", key + "_scale"))] = header[key]
    elif kind < 0.7:
        header[key.replace("model.", "")] = header.pop(key)
    else:
        header = change_json(rng, header)
    return header


def _tensors(folder: Path) -> dict[str, Any]:
    tensors: dict[str, Any] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors
