"""config.json of models of every type, against transformers' own classes."""

import json
import random
from pathlib import Path

from subliminal_jax.models.families import family_name
from subliminal_jax.models.hub import load_config
from tests.fuzz.families.base import Wrong, check
from tests.fuzz.mutations import change_json, is_json, write_json
from tests.models import test_config_parity as parity

MODEL_TYPES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma2": "gemma2"}
MODEL_TYPES["gemma3"] = "gemma3_text"
KEYS = ("quantization_config", "rope_scaling", "rope_parameters", "layer_types", "head_dim")
KEYS += ("sliding_window", "tie_word_embeddings", "hidden_activation", "attention_bias", "dtype")

# By a forward pass; transformers checks their types, and that torch has the dtype.
UNUSED = ("use_cache", "attention_dropout")


def prepare() -> None:
    """Nothing is shared."""


def run(rng: random.Random, folder: Path) -> str:
    name = rng.choice(list(MODEL_TYPES))
    raw = {"model_type": MODEL_TYPES[name], **parity.random_config(rng, name)}
    if rng.random() < 0.85:
        raw = change_json(rng, raw, KEYS)
    path = folder / "config.json"
    path.write_bytes(write_json(rng, raw, 0.15))
    ours = load_config(folder)
    check(is_json(path.read_bytes()), "not JSON, and accepted")
    stored = json.loads(path.read_text(encoding="utf-8-sig"))
    kind = stored["model_type"]
    if kind == "gemma3":
        return "with an image part"
    family = family_name(kind)
    assert family is not None
    try:
        theirs, angles = parity.read_by_transformers(stored, family)
    except Exception as error:  # of many types
        odd = [f"field '{name}'" for name in UNUSED] + ["module 'torch' has no attribute"]
        if any(text in str(error) for text in odd):
            return "with an odd value where nothing is read"
        raise Wrong(f"transformers refuses ({error!r:.300}), we read {ours}: {stored}") from error
    try:
        parity.assert_alike(ours, theirs, angles, stored)
    except AssertionError as error:
        raise Wrong(f"{error}") from error
    return family
