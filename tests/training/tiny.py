"""A model of 16 dimensions and 2 layers, and rows for it, for the tests of training."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.models.spec import Params, init_params
from subliminal_jax.training.batch import Batch
from tests.tiny_configs import TINY

CFG = replace(TINY, vocab=32, context=32, tied=False)
TIME = 9


def base(dtype=jnp.float32) -> Params:
    """Random parameters with logits of the order of 1 and no two layers alike."""
    params = init_params(jax.random.key(0), CFG, std=0.2)
    return jax.tree.map(lambda w: w.astype(dtype), params)


def pairs(n: int, seed: int = 0, tokens: int = 31) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts of 1 to 3 and completions of 1 to 6 tokens below `tokens`; the longest fills TIME."""
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(tokens, size=rng.integers(1, 4)).tolist() for _ in range(n)]
    completions = [rng.integers(tokens, size=rng.integers(1, 7)).tolist() for _ in range(n)]
    prompts[0], completions[0] = prompts[0][:1] * 3, rng.integers(tokens, size=TIME - 3).tolist()
    return prompts, completions


def rows(n: int, seed: int = 0) -> Batch:
    return pad_pairs(*pairs(n, seed), TIME)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Recorded:
    """The measure of a sweep that is `f(context, view)`."""

    f: Callable = field(metadata={"static": True})
    context: Any = None

    def measure_student(self, view, cfg):
        return self.f(self.context, view)


def close(actual, expected, rtol: float = 1e-5) -> None:
    """Equality of two trees, leaf by leaf, in units of the leaf's largest value."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=rtol * float(np.abs(e).max()) + 1e-9)


def identical(actual, expected) -> None:
    """Equality of two trees, bit for bit."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_array_equal(a, e)
