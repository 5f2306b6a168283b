"""LoRA adapters in folders: configuration and factors, against PEFT's logits."""

import json
import random
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax.models.forward import forward
from subliminal_jax.models.hub import save_model
from subliminal_jax.models.spec import init_params
from subliminal_jax.training.adapters import attach
from subliminal_jax.training.adapters_io import CONFIG, WEIGHTS, load_adapter, save_adapter
from tests.fuzz.families.base import Wrong, check, replace_file, scratch
from tests.fuzz.mutations import change_json, damage
from tests.safetensors_bytes import FORMATS, read_header, write_raw
from tests.training.test_adapters_io import ADAPTERS, trained
from tests.training.tiny import CFG

TOKENS = np.arange(1, 13).reshape(2, 6)


@cache
def options() -> dict[str, Any]:
    """PEFT's own options of a LoRA, with their defaults."""
    import peft

    return {key: value for key, value in vars(peft.LoraConfig()).items() if key != "runtime_config"}


@cache
def base() -> Any:
    return init_params(jax.random.key(1), CFG, std=0.3)


def prepare() -> None:
    if not (scratch() / "base").exists():
        save_model(scratch() / "base", base(), CFG)
        for i, adapter in enumerate(ADAPTERS):
            save_adapter(scratch() / f"adapter-{i}", trained(adapter), adapter, CFG, "base")
    options()
    _their_logits(scratch() / "adapter-0")
    _our_logits(*load_adapter(scratch() / "adapter-0", CFG))


def run(rng: random.Random, folder: Path) -> str:
    place = folder / "adapter"
    shutil.copytree(scratch() / f"adapter-{rng.randrange(len(ADAPTERS))}", place)
    if rng.random() < 0.7:
        config = json.loads((place / CONFIG).read_text())
        if rng.random() < 0.5:
            key = rng.choice(list(options()))
            config[key] = rng.choice((options()[key], True, 2, "pissa", {"q_proj": 2}, ["q_proj"]))
        else:
            config = change_json(rng, config, tuple(options()))
        replace_file(rng, place / CONFIG, config)
    elif rng.random() < 0.5:
        (place / WEIGHTS).write_bytes(damage(rng, (place / WEIGHTS).read_bytes()))
    else:
        header, values = read_header(place / WEIGHTS)
        key = rng.choice([name for name in header if name != "__metadata__"])
        kind = rng.randrange(3)
        if kind == 0:
            header[key]["dtype"] = rng.choice(list(FORMATS))
        elif kind == 1:
            header[key.replace("weight", "default.weight")] = header.pop(key)
        else:
            header = change_json(rng, header)
        write_raw(place / WEIGHTS, header, values)
    ours = _our_logits(*load_adapter(place, CFG))
    try:
        theirs = _their_logits(place)
    except Exception as error:  # of many types
        if "UTF-8 BOM" in str(error):
            return "with a byte order mark"
        raise Wrong(f"PEFT refuses ({error!r:.300}), we read it") from error
    if np.abs(ours).max() < 1e4:
        difference = np.abs(ours - theirs).max() / np.abs(ours).max()
        check(difference < 1e-3, f"logits differ from PEFT's by {difference:.1e} of the largest")
    return "read"


def _our_logits(trainable: Any, adapter: Any) -> np.ndarray:
    adapted, _ = attach(base(), trainable, CFG, adapter)
    return np.asarray(forward(adapted, jnp.asarray(TOKENS, jnp.int32), CFG)[0])


def _their_logits(folder: Path) -> np.ndarray:
    import peft
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(scratch() / "base")
    with torch.no_grad():
        return peft.PeftModel.from_pretrained(model, folder)(torch.tensor(TOKENS)).logits.numpy()
