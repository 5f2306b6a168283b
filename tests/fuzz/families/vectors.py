"""Steering vectors: our files, other libraries' safetensors, and GGUF control vectors."""

import json
import random
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors.torch import load_file, save_file

from subliminal_jax.models.steered import Steering
from subliminal_jax.steering.interchange import read_gguf, write_gguf
from subliminal_jax.steering.io import VectorInfo, load_steering, save_steering
from tests.fuzz.families.base import check, replace_file, scratch
from tests.fuzz.mutations import ODD_VALUES, change_json, damage
from tests.models.families import LLAMA
from tests.safetensors_bytes import FORMATS, read_header, write_raw


def prepare() -> None:
    vectors = jnp.asarray(np.random.default_rng(0).normal(size=(2, LLAMA.dim)), jnp.float32)
    steering = Steering(vectors, jnp.asarray(2.0), (0, 2))
    save_steering(scratch() / "ours.safetensors", steering, VectorInfo("base", "seed 0"))
    write_gguf(scratch() / "control.gguf", steering, "llama")
    import torch

    save_file({"v": torch.asarray(np.array(vectors))}, scratch() / "foreign.safetensors")


def run(rng: random.Random, folder: Path) -> str:
    name = rng.choice(("ours.safetensors", "foreign.safetensors", "control.gguf"))
    path = folder / name
    path.write_bytes((scratch() / name).read_bytes())
    if rng.random() < 0.1:
        replace_file(rng, path)
    elif name == "control.gguf" or rng.random() < 0.4:
        path.write_bytes(damage(rng, path.read_bytes()))
    else:
        header, values = read_header(path)
        metadata = header.get("__metadata__", {})
        if rng.random() < 0.5 and metadata:
            metadata[rng.choice(list(metadata))] = rng.choice(
                [str(value) for value in ODD_VALUES]
                + [json.dumps(value) for value in ODD_VALUES]
                + ["[0, 1]", "[2, 0]", "[0, 0]", "[0.5, 1]", "[true, false]", "nan", "inf", "1e999"]
            )
        elif rng.random() < 0.5:
            key = next(name for name in header if name != "__metadata__")
            header[key]["dtype"] = rng.choice(list(FORMATS))
        else:
            header = change_json(rng, header)
        write_raw(path, header, values)
    layers = rng.choice((None, (0, 1), (0, 2), (1,))) if name != "foreign.safetensors" else (0, 1)
    if name == "control.gguf":
        steering, _ = read_gguf(path, LLAMA)
    else:
        steering, info = load_steering(path, LLAMA, layers)
        (stored,) = load_file(path).values()
        metadata = read_header(path)[0].get("__metadata__", {})
        rows = range(len(stored))
        if "format" in metadata and info.model != "unknown":
            listed = json.loads(metadata["layers"])
            check(all(type(x) is int for x in listed), f"layers {listed}")
            rows = [listed.index(x) for x in layers or listed]
            check(steering.layers == tuple(layers or listed), f"{steering.layers} for {listed}")
            check(float(steering.scale) == np.float32(metadata["scale"]), "another scale")
            check(steering.operation == metadata["operation"], "another operation")
        expected = np.atleast_2d(stored.float().numpy())[list(rows)]
        check(np.array_equal(steering.vectors, expected), "other vectors")
    check(np.isfinite(steering.vectors).all(), "a vector that is not finite")
    check(steering.vectors.shape == (len(steering.layers), LLAMA.dim), "another shape")
    check(all(0 <= layer < LLAMA.layers for layer in steering.layers), f"{steering.layers}")
    check(len(set(steering.layers)) == len(steering.layers), f"{steering.layers}")
    return name
