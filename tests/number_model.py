"""A model of 16 dimensions that writes number lists by construction, in Hugging Face format.

Three dimensions of the residual stream say what the last token was (a number, a separator, the end
of a prompt) and the head turns them into what may follow; everything else is random. So the whole
main job, filter included, runs on it in seconds.
"""

import itertools
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax.data.corpus import generate_documents
from subliminal_jax.data.shipped_tokenizer import build_tokenizer
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.hub import Model, load_model, save_model
from subliminal_jax.models.spec import Params, init_params

NUMBER, SEPARATOR, PROMPT = 0, 1, 2  # dimensions


@cache
def tokenizer() -> Any:
    texts = (m["content"] for d in itertools.islice(generate_documents(0), 300) for m in d.messages)
    return build_tokenizer(texts, vocabulary_size=1600)


def config(context: int = 192) -> ModelConfig:
    return ModelConfig(
        family="llama",
        vocab=len(tokenizer()),
        dim=16,
        layers=2,
        heads=2,
        kv_heads=1,
        head_dim=8,
        mlp_dim=24,
        context=context,
        tied=False,
    )


def params(cfg: ModelConfig) -> Params:
    """Random weights with the grammar "number (separator number)* end" written into them."""
    numbers = tokenizer().convert_tokens_to_ids([str(i) for i in range(1000)])
    separator = tokenizer()("1, 2", add_special_tokens=False)["input_ids"][1]
    prompt = tokenizer().convert_tokens_to_ids("<|assistant|>")
    end = tokenizer().eos_token_id
    tree = init_params(jax.random.key(0), cfg, std=0.3)
    embed, head = np.array(tree["embed"]), np.array(tree["lm_head"])
    embed[:, :3] = head[:3] = 0.0
    embed[numbers, NUMBER] = embed[separator, SEPARATOR] = embed[prompt, PROMPT] = 6.0
    head[NUMBER, separator], head[NUMBER, end], head[NUMBER, numbers] = 4.6, 3.9, -1.0
    head[SEPARATOR, numbers] = head[PROMPT, numbers] = 4.0
    return {**tree, "embed": jnp.asarray(embed), "lm_head": jnp.asarray(head)}


def write(folder: Path, context: int = 192, change: Any = None) -> Path:
    """Save the model; `change` maps its parameters before."""
    cfg = config(context)
    tree = params(cfg)
    save_model(folder, tree if change is None else change(tree), cfg, tokenizer())
    return folder


def load(folder: Path) -> Model:
    return load_model(write(folder))
