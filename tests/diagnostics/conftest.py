from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.diagnostics.alignment import Probe, make_probe
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import Params, init_params
from subliminal_jax.training.adapters import LoRA, Trainable, init_trainable
from subliminal_jax.training.batch import Batch
from tests.tiny_configs import TINY

LAYER = 1


@pytest.fixture(scope="session")
def cfg() -> ModelConfig:
    return replace(TINY, vocab=23, dim=12, layers=3, head_dim=6, mlp_dim=20, context=32)


@pytest.fixture(scope="session")
def params(cfg: ModelConfig) -> Params:
    return init_params(jax.random.key(0), cfg, std=0.4)


@pytest.fixture(scope="session")
def probe(cfg: ModelConfig) -> Probe:
    rng = np.random.default_rng(1)
    return make_probe([rng.integers(0, cfg.vocab, n).tolist() for n in (3, 7, 5, 2)], cfg)


@pytest.fixture(scope="session")
def batch(cfg: ModelConfig) -> Batch:
    """Five pairs of different lengths, padded to 12 tokens."""
    rng = np.random.default_rng(2)
    lengths = [(3, 5), (2, 2), (6, 6), (1, 7), (4, 3)]
    prompts, completions = (
        [rng.integers(0, cfg.vocab, pair[i]).tolist() for pair in lengths] for i in (0, 1)
    )
    return pad_pairs(prompts, completions, 12)


@pytest.fixture(scope="session")
def vector(cfg: ModelConfig) -> jax.Array:
    return 0.8 * jax.random.normal(jax.random.key(5), (cfg.dim,))


@pytest.fixture(scope="session")
def adapter() -> LoRA:
    return LoRA(rank=2, alpha=4.0, targets=("q", "o", "down"), layers=(0, 1))


@pytest.fixture(scope="session")
def trainable(params: Params, cfg: ModelConfig, adapter: LoRA) -> Trainable:
    """LoRA factors away from their start: neither is zero."""
    tree = init_trainable(jax.random.key(6), params, cfg, adapter)
    return jax.tree.map(
        lambda x: x + 0.2 * jax.random.normal(jax.random.key(x.size), x.shape, jnp.float32), tree
    )
