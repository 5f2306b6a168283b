from dataclasses import replace

import jax
import numpy as np
import pytest

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import Params, init_params
from tests.tiny_configs import TINY


@pytest.fixture(scope="session")
def cfg() -> ModelConfig:
    return replace(TINY, dim=12, layers=3, head_dim=6, mlp_dim=20)


@pytest.fixture(scope="session")
def params(cfg: ModelConfig) -> Params:
    return init_params(jax.random.key(0), cfg, std=0.4)


@pytest.fixture(scope="session")
def prompts(cfg: ModelConfig) -> list[list[int]]:
    """Eleven prompts of 2 to 41 tokens, not in order of length."""
    rng = np.random.default_rng(0)
    lengths = [17, 3, 41, 16, 2, 9, 33, 5, 12, 24, 8]
    return [rng.integers(0, cfg.vocab, n).tolist() for n in lengths]
