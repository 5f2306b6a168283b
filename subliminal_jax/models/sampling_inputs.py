"""What sampling is asked: settings, prompts, keys and steering, checked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, PRNGKeyArray

from subliminal_jax.bounds import (
    LARGEST,
    LEAST_NORMAL,
    MANY,
    Count,
    Items,
    Range,
    Rule,
    check_fields,
    check_value,
)
from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering

StepPositions = Literal["all", "prompt", "generated"]
Prompts = (
    Sequence[Sequence[int]]
    | tuple[Int[Array | np.ndarray, "n time"], Int[Array | np.ndarray, " n"]]
)


# 0 takes the likeliest token.
Temperature = Annotated[float, Range(LEAST_NORMAL, LARGEST, also=0)]


@dataclass(frozen=True)
class SamplingConfig:
    """How to sample; hashable, and static under jit but for a temperature that is neither 0 nor 1.

    Args:
      max_new_tokens: generated tokens, the stop token included.
      temperature: divides the logits, before top-k and top-p; 0 takes the likeliest token. A
        positive one is a number of float32, from 1.2e-38.
      top_k: keep the k likeliest tokens.
      top_p: keep the fewest likeliest tokens whose probability is at least this (Holtzman et al.
        2020, section 3.1), after top-k. In both, the lower of two equally likely ids goes first.
      stop_tokens: a request ends with the first of these.
      steer_positions: steer the prompt's tokens, the generated ones (from the first that is fed
        back), or all.
    """

    max_new_tokens: Count
    temperature: Temperature = 1.0
    top_k: Annotated[int | None, Range(1, MANY)] = None
    top_p: Annotated[float | None, Range(above=0, most=1)] = None
    stop_tokens: Annotated[tuple[int, ...], Range(0, 2**31 - 1), Items(distinct=False)] = ()
    steer_positions: StepPositions = "all"

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop_tokens", tuple(self.stop_tokens))
        check_fields(self)


def split_prompts(prompts: Prompts) -> list[np.ndarray]:
    """The token ids of each request."""
    if isinstance(prompts, tuple) and len(prompts) == 2 and np.ndim(prompts[0]) == 2:
        tokens, lengths = (np.asarray(x) for x in prompts)
        if lengths.shape != tokens.shape[:1] or (lengths > tokens.shape[1]).any():
            raise InputError(
                f"prompts of shape {tokens.shape} need one length each, at most "
                f"{tokens.shape[1]}: got {lengths.tolist()}"
            )
        return [row[:length] for row, length in zip(tokens, lengths, strict=True)]
    return [np.asarray(row, None if len(row) else np.int32) for row in prompts]


def check_rows(rows: list[np.ndarray], cfg: ModelConfig, sampling: SamplingConfig) -> None:
    """Raises InputError for prompts and stop tokens that the model cannot read."""
    longest = cfg.context - sampling.max_new_tokens
    for request, row in enumerate(rows):
        if len(row) == 0:
            raise InputError(f"prompt {request} is empty: give at least one token, such as BOS")
        if len(row) > longest:
            raise InputError(
                f"prompt {request} has {len(row)} tokens: with max_new_tokens="
                f"{sampling.max_new_tokens} the context of {cfg.context} leaves room for {longest}"
            )
        if row.dtype.kind not in "iu":
            raise InputError(f"prompt {request} holds {row.dtype} values: give token ids")
        if row.min() < 0 or row.max() >= cfg.vocab:
            wrong = next(int(token) for token in row if not 0 <= token < cfg.vocab)
            raise InputError(
                f"prompt {request} holds the token id {wrong}, outside the vocabulary of "
                f"{cfg.vocab}: is this another model's tokenizer?"
            )
    for token in sampling.stop_tokens:
        if not 0 <= token < cfg.vocab:
            raise InputError(f"stop token {token} is outside the vocabulary of {cfg.vocab}")


def prepare_steering(
    steering: Steering | None, cfg: ModelConfig, reference_params: Params | None
) -> Steering | None:
    """`steering` in float32, or InputError where it does not fit the model or this purpose."""
    if reference_params is not None and (steering is None or steering.operation != "replace"):
        operation = "none" if steering is None else steering.operation
        raise InputError(
            f"reference_params serve operation 'replace' only, and the operation is {operation!r}: "
            "leave them out"
        )
    if steering is None:
        return None
    for layer in steering.layers:
        cfg.check_layer(layer)
    vectors, scale = (jnp.asarray(x, jnp.float32) for x in (steering.vectors, steering.scale))
    if vectors.shape != (len(steering.layers), cfg.dim):
        raise InputError(
            f"steering vectors have the shape {vectors.shape}: sampling needs "
            f"{(len(steering.layers), cfg.dim)}, one of the model's width for each layer"
        )
    if scale.ndim:
        raise InputError(f"steering.scale has the shape {scale.shape}: sampling needs one number")
    if steering.mask is not None or steering.target is not None:
        raise InputError(
            "steering.mask and steering.target are set while sampling: leave them None, and choose "
            "the positions by SamplingConfig.steer_positions"
        )
    if steering.operation == "replace" and reference_params is None:
        raise InputError("operation 'replace' needs reference_params, the base model's parameters")
    return replace(steering, vectors=vectors, scale=scale)


def make_key_selector(
    key: int | PRNGKeyArray | Key[Array, " n"], n: int
) -> Callable[[Int[np.ndarray, " batch"]], Key[Array, " batch"]]:
    """A function from the numbers of some requests, of n, to their keys."""
    if isinstance(key, int):
        check_value("key", key, Rule(int, Range(0, 2**32 - 1)))  # JAX takes larger ones for others
        key = jax.random.key(key)
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise InputError(f"the key is an array of {key.dtype}: make it with jax.random.key(seed)")
    if key.ndim == 0:
        return partial(_fold_in_each, key)
    if key.shape != (n,):
        raise InputError(f"keys have the shape {key.shape} for {n} prompts: give one each")
    return lambda chosen: key[chosen]


@jax.jit
def _fold_in_each(key: PRNGKeyArray, chosen: Int[Array, " batch"]) -> Key[Array, " batch"]:
    """The key folded with each number."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, chosen)
