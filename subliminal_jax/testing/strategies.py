"""Hypothesis strategies for vectors, batches and probes: what the checks of alignment take.

    @given(st.data())
    def test_gradients(data):
        batch = data.draw(token_batches(model.cfg))
        check_activation_gradients(model.params, model.cfg, batch, vector, layer=1)

Examples of one strategy have one shape, so that they share their compiled programs. Importing this
module without hypothesis raises InputError.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.diagnostics.alignment import Probe
from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.steering.vectors import random_vector
from subliminal_jax.training.batch import Batch

try:
    from hypothesis import strategies as st
except ModuleNotFoundError as error:
    raise InputError(
        f"{__name__} needs hypothesis, which is not installed: install the extra `test` "
        "(pip install 'subliminal-jax[test]')"
    ) from error

SEEDS = st.integers(0, 2**31 - 1)


def vectors(
    dim: int, least: float = 1e-3, most: float = 1e3
) -> st.SearchStrategy[Float[Array, " dim"]]:
    """Vectors of uniformly random directions, with norms from `least` to `most`."""
    return st.builds(
        lambda seed, norm: random_vector(jax.random.key(seed), dim, norm),
        SEEDS,
        st.floats(least, most),
    )


def token_batches(cfg: ModelConfig, rows: int = 4, time: int = 12) -> st.SearchStrategy[Batch]:
    """Prompts with completions of random tokens and lengths, a pair a row, padded to `time`.

    Raises InputError for fewer than two tokens a row, or more than the model's context.
    """
    _check_time(cfg, time, least=2)

    def make_batch(tokens: np.ndarray, cuts: list[tuple[int, int]]) -> Batch:
        pairs = list(zip(tokens.tolist(), cuts, strict=True))
        prompts = [row[:start] for row, (start, _) in pairs]
        return pad_pairs(prompts, [row[start:end] for row, (start, end) in pairs], time)

    cut = st.integers(2, time).flatmap(lambda end: st.tuples(st.integers(1, end - 1), st.just(end)))
    cuts = st.lists(cut, min_size=rows, max_size=rows)
    return st.builds(make_batch, _random_tokens(cfg, rows, time), cuts)


def probes(cfg: ModelConfig, prompts: int = 4, time: int = 8) -> st.SearchStrategy[Probe]:
    """Probes of random prompts of 1 to `time` tokens, a prompt a row.

    Raises InputError for no token a row, or more than the model's context.
    """
    _check_time(cfg, time, least=1)
    return st.builds(
        lambda tokens, lengths: Probe(jnp.asarray(tokens), jnp.asarray(lengths, jnp.int32)),
        _random_tokens(cfg, prompts, time),
        st.lists(st.integers(1, time), min_size=prompts, max_size=prompts),
    )


def _random_tokens(cfg: ModelConfig, rows: int, time: int) -> st.SearchStrategy[np.ndarray]:
    return SEEDS.map(
        lambda seed: np.random.default_rng(seed).integers(0, cfg.vocab, (rows, time), np.int32)
    )


def _check_time(cfg: ModelConfig, time: int, least: int) -> None:
    if not least <= time <= cfg.context:
        raise InputError(f"time={time}: give {least} to {cfg.context}, the model's context")
