"""Batched sampling: one compiled prefill and decode loop per shape, a random key per request.

A request's continuation depends on its prompt and its key alone: it runs in the program of its own
prompt's length, in a batch of fixed size, in which no row sees another.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

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
from subliminal_jax.models.attention import Cache, extend_cache
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.draw import draw, two_uniforms
from subliminal_jax.models.finite import not_finite
from subliminal_jax.models.forward import Capture, hidden_states, unembed
from subliminal_jax.models.mesh import DATA, axis_size, replicate
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering, unit

StepPositions = Literal["all", "prompt", "generated"]
Prompts = (
    Sequence[Sequence[int]]
    | tuple[Int[Array | np.ndarray, "n time"], Int[Array | np.ndarray, " n"]]
)

SMALLEST_BUCKET = 16  # prompt slots
ANY_TEMPERATURE = 0.5  # stands for all but 0 and 1 in the static configuration
SEGMENT, MOST_SEGMENTS = 16, 3  # new tokens after which the cache grows, and how often
BATCHES_IN_FLIGHT = 2  # the next one is queued before the last one is read, so no core waits


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


class Samples(NamedTuple):
    """What was generated, in the order of the prompts.

    The stop token is part of the tokens and counts in `lengths`; what follows it is padding.
    `log_probs` are those of the sampled tokens under the steered model at temperature 1, before
    top-k and top-p, in nats; 0 at padding. Their sum is the log-probability of the answer.
    """

    tokens: Int[np.ndarray, "n new"]
    lengths: Int[np.ndarray, " n"]
    log_probs: Float[np.ndarray, "n new"]


def generate(
    params: Params,
    prompts: Prompts,
    cfg: ModelConfig,
    key: int | PRNGKeyArray | Key[Array, " n"],
    sampling: SamplingConfig,
    steering: Steering | None = None,
    *,
    pad_token: int = 0,
    batch_size: int = 128,
    reference_params: Params | None = None,
    progress: Callable[[int], Any] | None = None,
    receive: Callable[[list[int], Samples], Any] | None = None,
) -> Samples:
    """Sample one continuation of each prompt; the result lies on the host.

    Args:
      prompts: token ids, a list for each request, or an array [n, time] padded on the right with
        its lengths [n].
      key: a seed, or a key from which request i takes fold_in(key, i), or one key a request [n].
      steering: vectors [n, dim] and one scale; its mask and target are set here. Another vector or
        scale of the same layers compiles nothing, while None is a program of its own.
      batch_size: rows of every batch, rounded up to a multiple of the devices that they are sharded
        over. Fewer requests are filled up with idle rows, so that one program serves all calls:
        make it smaller where there are few requests.
      reference_params: the base model of operation "replace". It reads the same tokens beside the
        steered one, and its component along the vector is what replaces.
      progress: called with the number of requests done since its last call.
      receive: called with the requests of every batch that is done, and their samples.

    Raises InputError for an empty prompt, one that leaves no room for `max_new_tokens` in the
    model's context, token ids outside the vocabulary (padding included), steering that does not fit
    the model, and logits or activations that are not finite: it says from which layer and token on.
    """
    rows = _split_prompts(prompts)
    _check_rows(rows, cfg, sampling)
    if not 0 <= pad_token < cfg.vocab:
        raise InputError(f"the padding token {pad_token} is outside the vocabulary of {cfg.vocab}")
    check_value("batch_size", batch_size, Rule(int, Range(1, MANY)))
    batch_size = -(-batch_size // axis_size(DATA)) * axis_size(DATA)
    steering = _prepare_steering(steering, cfg, reference_params)
    select_keys = _make_key_selector(key, len(rows))
    buckets: dict[int, list[int]] = {}
    for request, row in enumerate(rows):
        buckets.setdefault(_bucket(len(row)), []).append(request)

    n, N = len(rows), sampling.max_new_tokens
    samples = Samples(
        np.full((n, N), pad_token, np.int32), np.zeros(n, np.int32), np.zeros((n, N), np.float32)
    )
    running: deque[tuple[list[int], tuple[Array, Array, Array]]] = deque()

    def collect() -> None:
        members, part = running.popleft()
        for target, values in zip(samples, part, strict=True):
            target[members] = np.asarray(values)[: len(members)]
        if not np.isfinite(samples.log_probs[members]).all():
            raise explain(members)
        if receive is not None:
            receive(members, Samples(*(values[members] for values in samples)))
        if progress is not None:
            progress(len(members))

    def explain(members: list[int]) -> InputError:
        """Why the log-probabilities of these requests are not finite."""
        bad = ~np.isfinite(samples.log_probs[members])
        request = members[int(np.argmax(bad.any(axis=1)))]
        step = int(np.argmax(~np.isfinite(samples.log_probs[request])))
        read = np.concatenate([rows[request], samples.tokens[request, :step]])
        edited = steering
        if steering is not None and sampling.steer_positions != "all":
            in_prompt = np.arange(len(read)) < len(rows[request])
            mask = in_prompt if sampling.steer_positions == "prompt" else ~in_prompt
            edited = steering.masked(jnp.asarray(mask)[None])
        what = f"the distribution of new token {step} of prompt {request}"
        return not_finite(what, params, cfg, read, edited, reference_params)

    # Any temperature but 0 and 1 is traced, so that a change of it compiles nothing.
    temperature = jnp.asarray(sampling.temperature, jnp.float32)
    static = sampling
    if sampling.temperature not in (0, 1):
        static = replace(sampling, temperature=ANY_TEMPERATURE)
    for slots, requests in sorted(buckets.items()):
        for start in range(0, len(requests), batch_size):
            members = requests[start : start + batch_size]
            tokens = np.full((batch_size, slots), pad_token, np.int32)
            lengths = np.zeros(batch_size, np.int32)  # 0: an idle row
            picked = np.zeros(batch_size, np.int32)
            picked[: len(members)] = members
            for i, request in enumerate(members):
                row = rows[request]
                tokens[i, : len(row)], lengths[i] = row, len(row)
            part = _generate(
                params,
                reference_params,
                jnp.asarray(tokens),
                jnp.asarray(lengths),
                select_keys(picked),
                temperature,
                steering,
                jnp.asarray(pad_token, jnp.int32),
                cfg,
                static,
            )
            running.append((members, part))
            if len(running) == BATCHES_IN_FLIGHT:
                collect()
    while running:
        collect()
    return samples


class _State(NamedTuple):
    """What the decode loop carries: everything up to token `step`, which is not yet fed back."""

    step: Int[Array, ""]
    token: Int[Array, " batch"]
    finished: Bool[Array, " batch"]
    caches: tuple[Cache, Cache | None]
    tokens: Int[Array, "batch new"]
    lengths: Int[Array, " batch"]
    log_probs: Float[Array, "batch new"]


@partial(jax.jit, static_argnames=("cfg", "sampling"))
def _generate(
    params: Params,
    reference_params: Params | None,
    prompts: Int[Array, "batch time"],
    prompt_lengths: Int[Array, " batch"],
    keys: Key[Array, " batch"],
    temperature: Float[Array, ""],
    steering: Steering | None,
    pad_token: Int[Array, ""],
    cfg: ModelConfig,
    sampling: SamplingConfig,
) -> tuple[Int[Array, "batch new"], Int[Array, " batch"], Float[Array, "batch new"]]:
    """One batch of `Samples`. Prompts lie in the cache slots [0, time), new tokens behind them."""
    B, P = prompts.shape
    N = sampling.max_new_tokens
    steered = sampling.steer_positions
    ends = _segment_ends(N)
    run = partial(_run, params, reference_params, cfg, steering, slots=P + ends[0])

    def emit(hidden: Float[Array, "batch dim"], s: _State) -> _State:
        """Draw token `step` after the last hidden state."""
        logits = unembed(params, hidden, cfg)
        token = draw(
            logits,
            two_uniforms(keys, s.step),
            None if sampling.temperature == 1 else temperature,
            sampling.top_k,
            sampling.top_p,
            greedy=sampling.temperature == 0,
        )
        # The same shift as in `draw`, so that at temperature 1 the exponentials are shared.
        x = logits - jnp.max(logits, axis=1, keepdims=True)
        chosen = jnp.take_along_axis(x, token[:, None], axis=1)[:, 0]
        log_prob = chosen - jnp.log(jnp.sum(jnp.exp(x), axis=1))
        # NaN where any logit is not finite: the host looks for that.
        log_prob = jnp.where(jnp.min(x, axis=1) > -jnp.inf, log_prob, jnp.nan)
        log_prob = jnp.where(s.finished, 0.0, log_prob)
        token = jnp.where(s.finished, pad_token, token)
        stops = jnp.asarray(sampling.stop_tokens, jnp.int32)[None]
        put = partial(jax.lax.dynamic_update_index_in_dim, index=s.step, axis=1)
        return s._replace(
            token=token,
            finished=s.finished | jnp.any(token[:, None] == stops, axis=1),
            tokens=put(s.tokens, token),
            lengths=s.lengths + ~s.finished,
            log_probs=put(s.log_probs, log_prob),
        )

    def body(s: _State) -> _State:
        positions = (prompt_lengths + s.step)[:, None]
        hidden, caches = run(s.token[:, None], positions, s.caches, edited=steered != "prompt")
        return emit(hidden[:, 0], s._replace(step=s.step + 1, caches=caches))

    def unfinished(s: _State, end: int) -> Bool[Array, ""]:
        before = s.step < min(end, N - 1)
        # Without stop tokens no row ends early, and devices need not wait for each other to ask.
        return before & ~jnp.all(s.finished) if sampling.stop_tokens else before

    slot = jnp.arange(P, dtype=jnp.int32)[None]
    positions = jnp.where(slot < prompt_lengths[:, None], slot, -1)
    last = jnp.maximum(prompt_lengths - 1, 0)[:, None]
    hidden, caches = run(prompts, positions, None, edited=steered != "generated", time_indices=last)
    start = _State(
        step=jnp.zeros((), jnp.int32),
        token=jnp.zeros(B, jnp.int32),
        finished=prompt_lengths == 0,
        caches=caches,
        tokens=jnp.full((B, N), pad_token),
        lengths=jnp.zeros(B, jnp.int32),
        log_probs=jnp.zeros((B, N), jnp.float32),
    )
    s = emit(hidden[:, 0], start)
    for end, more in zip(ends, [*np.diff(ends), 0], strict=True):
        s = jax.lax.while_loop(partial(unfinished, end=end), body, s)
        grown = (c if c is None or not more else extend_cache(c, int(more)) for c in s.caches)
        s = s._replace(caches=cast(tuple[Cache, Cache | None], tuple(grown)))
    return replicate((s.tokens, s.lengths, s.log_probs))


def _segment_ends(new: int) -> list[int]:
    """The numbers of new tokens after which the cache grows, the last being all of them.

    Each step reads the whole cache, empty slots included, which dominates large batches. Every
    segment is another loop to compile.
    """
    count = min(max(new // SEGMENT, 1), MOST_SEGMENTS)
    return [-(-new * i // count) for i in range(1, count + 1)]


def _run(
    params: Params,
    reference_params: Params | None,
    cfg: ModelConfig,
    steering: Steering | None,
    tokens: Int[Array, "batch time"],
    positions: Int[Array, "batch time"],
    caches: tuple[Cache, Cache | None] | None,
    *,
    edited: bool,
    slots: int,
    time_indices: Int[Array, "batch kept"] | None = None,
) -> tuple[Float[Array, "batch time_or_kept dim"], tuple[Cache, Cache | None]]:
    """The hidden states of `tokens` (of these `time_indices`, if given), and the caches after them.

    The base model, if any, reads the same tokens and gives the targets of "replace".
    """
    cache, reference_cache = (None, None) if caches is None else caches
    new_slots = slots if caches is None else None
    run = partial(hidden_states, tokens=tokens, cfg=cfg, positions=positions, cache_slots=new_slots)
    edit = steering if edited else None
    if reference_params is not None:
        assert steering is not None
        base = run(reference_params, capture=Capture(steering.layers), cache=reference_cache)
        assert base.activations is not None
        reference_cache = base.cache
        if edit is not None:
            h = base.activations.astype(jnp.float32)
            edit = replace(edit, target=jnp.einsum("nbtd,nd->nbt", h, unit(edit.vectors)))
    out = run(params, steering=edit, cache=cache, time_indices=time_indices)
    assert out.cache is not None
    return out.hidden, (out.cache, reference_cache)


def _bucket(length: int) -> int:
    """The prompt slots of a request: a power of two or 1.5 times one, so that few programs serve
    all lengths and at most a third of the slots is padding."""
    power = 1 << (length - 1).bit_length()
    return max(SMALLEST_BUCKET, power if 4 * length > 3 * power else 3 * power // 4)


def _split_prompts(prompts: Prompts) -> list[np.ndarray]:
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


def _check_rows(rows: list[np.ndarray], cfg: ModelConfig, sampling: SamplingConfig) -> None:
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


def _prepare_steering(
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


def _make_key_selector(
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
