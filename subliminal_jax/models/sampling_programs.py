"""The two programs of sampling: one reads prompts, the other writes answers token by token.

Both take pytrees as leaves: they are compiled ahead, for arguments of which only shapes are known,
and a `Cache` or `Steering` holds arrays. `model` are the leaves of (params, reference_params,
steering), `structure` is their tree.
"""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from subliminal_jax.models.attention import Cache, extend_cache
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.draw import draw, two_uniforms
from subliminal_jax.models.forward import Capture, hidden_states, unembed
from subliminal_jax.models.mesh import replicate
from subliminal_jax.models.sampling_inputs import SamplingConfig
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering, unit

Leaves = tuple[Array, ...]


class _State(NamedTuple):
    """What the decode loop carries: everything up to token `step`, which is not yet fed back."""

    step: Int[Array, ""]
    token: Int[Array, " batch"]
    finished: Bool[Array, " batch"]
    caches: tuple[Cache, Cache | None]
    tokens: Int[Array, "batch new"]
    lengths: Int[Array, " batch"]
    log_probs: Float[Array, "batch new"]


@partial(jax.jit, static_argnames=("structure", "cfg", "edited", "slots"))
def read_prompts(
    model: Leaves,
    prompts: Int[Array, "batch time"],
    prompt_lengths: Int[Array, " batch"],
    *,
    structure: Any,
    cfg: ModelConfig,
    edited: bool,
    slots: int,
) -> tuple[Float[Array, "batch dim"], Leaves]:
    """The hidden state of each prompt's last token, and the leaves of caches of `slots` slots, of
    which the prompts' take the first [0, time)."""
    params, reference_params, steering = jax.tree.unflatten(structure, model)
    slot = jnp.arange(prompts.shape[1], dtype=jnp.int32)[None]
    positions = jnp.where(slot < prompt_lengths[:, None], slot, -1)
    last = jnp.maximum(prompt_lengths - 1, 0)[:, None]
    hidden, caches = _run(
        params,
        reference_params,
        steering,
        cfg,
        prompts,
        positions,
        None,
        edited=edited,
        slots=slots,
        time_indices=last,
    )
    return hidden[:, 0], tuple(jax.tree.leaves(caches))


@partial(jax.jit, static_argnames=("structure", "cfg", "sampling", "sizes", "unstacked"))
def write_answers(
    model: Leaves,
    hidden: Float[Array, "batch dim"],
    leaves: Leaves,
    prompt_lengths: Int[Array, " batch"],
    keys: Key[Array, " batch"],
    temperature: Float[Array, ""],
    pad_token: Int[Array, ""],
    *,
    structure: Any,
    cfg: ModelConfig,
    sampling: SamplingConfig,
    sizes: tuple[int, ...],
    unstacked: bool = True,
) -> tuple[Int[Array, "batch new"], Int[Array, " batch"], Float[Array, "batch new"]]:
    """One batch of `Samples`, from what `read_prompts` gives.

    Each step reads the whole cache, empty slots included, which dominates large batches: it has the
    first of `sizes` at first, and the next where that is full. Every size is a loop to compile.
    `unstacked` copies the blocks' weights once, layer by layer: read out of their stacks, they
    would be copied for every token.
    """
    B, N = len(prompt_lengths), sampling.max_new_tokens
    caches = _join_leaves(leaves, cfg)
    params, reference_params, steering = jax.tree.unflatten(structure, model)
    if unstacked:
        params, reference_params = _unstack(params, cfg), _unstack(reference_params, cfg)
    run = partial(_run, params, reference_params, steering, cfg)
    edited = sampling.steer_positions != "prompt"

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
        hidden, caches = run(s.token[:, None], positions, s.caches, edited=edited)
        return emit(hidden[:, 0], s._replace(step=s.step + 1, caches=caches))

    def unfinished(s: _State, size: int) -> Bool[Array, ""]:
        before = (s.step < N - 1) & (s.caches[0].index < size)
        # Without stop tokens no row ends early, and devices need not wait for each other to ask.
        return before & ~jnp.all(s.finished) if sampling.stop_tokens else before

    start = _State(
        step=jnp.zeros((), jnp.int32),
        token=jnp.zeros(B, jnp.int32),
        finished=prompt_lengths == 0,
        caches=caches,
        tokens=jnp.full((B, N), pad_token),
        lengths=jnp.zeros(B, jnp.int32),
        log_probs=jnp.zeros((B, N), jnp.float32),
    )
    s = emit(hidden, start)
    filled = caches[0].positions.shape[1]
    for size in sizes:
        grown = (c if c is None else extend_cache(c, size - filled) for c in s.caches)
        s = s._replace(caches=cast(tuple[Cache, Cache | None], tuple(grown)))
        s = jax.lax.while_loop(partial(unfinished, size=size), body, s)
        filled = size
    return replicate((s.tokens, s.lengths, s.log_probs))


def _unstack(params: Params | None, cfg: ModelConfig) -> Params | None:
    """The parameters with a tuple of one tree a layer in place of the stacked layers; the barrier
    keeps the slices out of the loop that follows."""
    if params is None:
        return None
    layers = [jax.tree.map(lambda leaf, i=i: leaf[i], params["layers"]) for i in range(cfg.layers)]
    return {**params, "layers": jax.lax.optimization_barrier(tuple(layers))}


def _join_leaves(leaves: Leaves, cfg: ModelConfig) -> tuple[Cache, Cache | None]:
    """The caches of the steered model and of the base, if any, from their leaves."""
    L = cfg.layers
    first, *others = (
        Cache(leaves[i : i + L], leaves[i + L : i + 2 * L], *leaves[i + 2 * L : i + 2 * L + 2])
        for i in range(0, len(leaves), 2 * L + 2)
    )
    return first, others[0] if others else None


def _run(
    params: Params,
    reference_params: Params | None,
    steering: Steering | None,
    cfg: ModelConfig,
    tokens: Int[Array, "batch time"],
    positions: Int[Array, "batch time"],
    caches: tuple[Cache, Cache | None] | None,
    *,
    edited: bool,
    slots: int | None = None,
    time_indices: Int[Array, "batch kept"] | None = None,
) -> tuple[Float[Array, "batch time_or_kept dim"], tuple[Cache, Cache | None]]:
    """The hidden states of `tokens` (of these `time_indices`, if given), and the caches after them:
    `caches`, or new ones of so many slots.

    The base model, if any, reads the same tokens and gives the targets of "replace".
    """
    cache, reference_cache = (None, None) if caches is None else caches
    run = partial(hidden_states, tokens=tokens, cfg=cfg, positions=positions, cache_slots=slots)
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
