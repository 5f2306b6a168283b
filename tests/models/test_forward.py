"""Properties of the forward pass: what may depend on what, and two ways to compute one thing."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subliminal_jax.errors import InputError
from subliminal_jax.models import linear as linear_module
from subliminal_jax.models import stack as module
from subliminal_jax.models.attention import empty_cache
from subliminal_jax.models.forward import Capture, forward, hidden_states, unembed
from subliminal_jax.models.linear import LoraWeight, linear
from subliminal_jax.models.spec import init_params, parameter_count
from subliminal_jax.models.steered import Steering, no_steering, steer
from tests.models.families import ALL, FAMILIES, GEMMA2, GEMMA3, LLAMA, QWEN2, QWEN3, noisy_params

B, T = 2, 12
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 67, (B, T)), jnp.int32)
VECTOR = jax.random.normal(jax.random.key(3), (32,))
# One compiled program a combination of shapes and settings, shared by the tests.
run = jax.jit(forward, static_argnames=("cfg", "remat"))
PARAMS = {name: noisy_params(ALL[name]) for name in (*FAMILIES, "gpt_neox", "smollm3")}


def close(actual, expected, tolerance=2e-5):
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def close_leaves(actual, expected):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        close(a, b)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3"])
def test_a_token_influences_itself_and_the_later_ones_only(name):
    """By gradient: exactly zero before the token, non-zero from it on."""
    cfg, params = FAMILIES[name], PARAMS[name]

    def moved(nudge):  # a vector per token after block 0
        steering = Steering(nudge[None], jnp.ones(()), (0,))
        return forward(params, TOKENS, cfg, steering)[0]

    weights = jax.random.normal(jax.random.key(5), (B, T, cfg.vocab))

    @jax.jit
    def influence(nudge):  # [time of the logits] x [batch, time of the nudge, dim]
        _, vjp = jax.vjp(moved, nudge)
        one_time = weights[None] * jnp.eye(T)[:, None, :, None]
        return jax.vmap(lambda w: vjp(w)[0])(one_time)

    size = np.abs(influence(jnp.zeros((B, T, cfg.dim)))).sum(axis=(1, 3))
    read, nudged = np.indices(size.shape)
    assert (size[nudged > read] == 0).all()
    reach = np.inf
    if cfg.has_sliding_layers:  # full layers after block 0 reach back to the start
        reach = T if not all(cfg.sliding[1:]) else (cfg.window - 1) * (cfg.layers - 1) + 1
    assert (size[(nudged <= read) & (read - nudged < reach)] > 0).all()


def test_a_window_ends_the_influence_of_a_token():
    cfg = replace(GEMMA2, layers=2, window=3, sliding=(False, True))
    params = noisy_params(cfg)

    @jax.jit
    @jax.grad
    def gradient(nudge):
        steering = Steering(nudge[None], jnp.ones(()), (0,))
        return forward(params, TOKENS, cfg, steering)[0][:, -1].sum()

    reached = np.abs(gradient(jnp.zeros((B, T, cfg.dim)))).sum(axis=(0, 2)) > 0
    assert reached.tolist() == [False] * (T - 3) + [True] * 3


@pytest.mark.parametrize(("name", "operation"), [("gemma3", "add"), ("llama", "replace")])
def test_the_split_scan_and_the_dense_scan_agree(name, operation, monkeypatch):
    cfg, params = FAMILIES[name], PARAMS[name]
    layers = (0, 2)
    vectors = jax.random.normal(jax.random.key(4), (2, cfg.dim))
    target = jax.random.normal(jax.random.key(6), (2, B, T)) if operation == "replace" else None
    mask = jnp.arange(T)[None] % 3 != jnp.arange(B)[:, None]
    capture = Capture((2, 1), jnp.asarray([[1, 5], [11, 0]]))

    def outputs(vectors):
        steering = Steering(vectors, jnp.asarray(0.7), layers, operation, mask, target)
        logits, kept = forward(params, TOKENS, cfg, steering, capture=capture)
        return (logits * jnp.cos(jnp.arange(cfg.vocab))[None, None]).sum(), (logits, kept)

    def compute():  # a new function each time: the limit is read while tracing
        return jax.jit(jax.value_and_grad(lambda v: outputs(v), has_aux=True))(vectors)

    (_, (logits, kept)), gradient = compute()
    monkeypatch.setattr(module, "MAX_SPLITS", 0)
    (_, (dense_logits, dense_kept)), dense_gradient = compute()
    assert kept.shape == (2, B, 2, cfg.dim)
    close(logits, dense_logits)
    close(kept, dense_kept)
    close(gradient, dense_gradient)


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("remat", ["none", "narrow"])
def test_one_array_is_kept_of_each_product_with_a_lora_weight(remat, merged, monkeypatch):
    """Whether the weight is merged or not: not the parts of a sum too."""
    monkeypatch.setattr(linear_module, "MERGED_WIDTH_PER_RANK", 1000 if merged else 0)
    params, tokens = PARAMS["llama"], jnp.tile(TOKENS, (4, 4))
    names = ("q", "k", "v", "o", "gate", "up", "down")
    factors = {
        name: (
            jnp.ones((*params["layers"][name].shape[:2], 2)),
            jnp.ones((LLAMA.layers, 2, params["layers"][name].shape[2])),
        )
        for name in names
    }

    def kept(remat):
        def hidden(factors):
            lora = {
                name: LoraWeight(params["layers"][name], a, b, jnp.ones(LLAMA.layers))
                for name, (a, b) in factors.items()
            }
            changed = {**params, "layers": {**params["layers"], **lora}}
            return hidden_states(changed, tokens, LLAMA, remat=remat).hidden

        pull = jax.eval_shape(lambda x: jax.vjp(hidden, x)[1], factors)  # nothing is computed
        held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pull))
        return held / (4 * tokens.size)

    heads = (LLAMA.heads + 2 * LLAMA.kv_heads) * LLAMA.head_dim
    wide = 2 * LLAMA.mlp_dim if remat == "none" else 0
    a_token = LLAMA.layers * (heads + LLAMA.dim + LLAMA.dim + wide)
    assert 0.5 * a_token < kept(remat) - kept("block") <= a_token + 1


def test_remat_changes_no_value_and_no_gradient():
    params = PARAMS["gemma2"]

    @partial(jax.jit, static_argnames="remat")
    @partial(jax.value_and_grad, argnums=(0, 1))
    def loss(params, vector, remat):
        logits, _ = forward(params, TOKENS, GEMMA2, steer(vector, 1), remat=remat)
        return jax.nn.log_softmax(logits)[..., 0].mean()

    value, gradients = loss(params, VECTOR, remat="none")
    for remat in ("narrow", "block"):
        again, gradients_again = loss(params, VECTOR, remat=remat)
        close(again, value, 1e-6)
        jax.tree.map(partial(close, tolerance=1e-5), gradients_again, gradients)


def test_weights_that_are_trained_have_the_same_gradients():
    """Read from slices or at their index; with a steered layer and a last block on its own."""

    @partial(jax.jit, static_argnames="trained")
    @jax.value_and_grad
    def loss(params, trained):
        out = hidden_states(
            params, TOKENS, GEMMA3, steer(VECTOR, 0), time_indices=AT, trained=trained
        )
        return jax.nn.log_softmax(unembed(params, out.hidden, GEMMA3))[..., 0].mean()

    params = PARAMS["gemma3"]
    value, gradients = loss(params, trained=False)
    again, gradients_again = loss(params, trained=True)
    close(again, value, 1e-6)
    jax.tree.map(partial(close, tolerance=1e-5), gradients_again, gradients)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3"])
def test_packed_documents_do_not_see_each_other(name):
    cfg, params = FAMILIES[name], PARAMS[name]
    lengths = (7, 5)
    segments = jnp.asarray([[0] * 7 + [1] * 5, [3] * 5 + [2] * 7])
    positions = jnp.asarray([[*range(7), *range(5)], [*range(5), *range(7)]])
    packed, _ = run(params, TOKENS, cfg=cfg, positions=positions, segment_ids=segments)
    for row, parts in [(0, lengths), (1, lengths[::-1])]:
        start = 0
        for length in parts:
            document = jnp.zeros((B, T), jnp.int32)
            document = document.at[0, :length].set(TOKENS[row, start : start + length])
            alone, _ = run(params, document, cfg=cfg)
            close(packed[row, start : start + length], alone[0, :length])
            start += length


@given(seed=st.integers(0, 99), length=st.integers(1, T - 1))
def test_what_stands_in_the_padding_does_not_matter(seed, length):
    params = PARAMS["gemma2"]
    junk = jnp.asarray(np.random.default_rng(seed).integers(0, 67, (B, T)), jnp.int32)
    padded = jnp.where(jnp.arange(T)[None] < length, TOKENS, junk)
    actual, _ = run(params, padded, cfg=GEMMA2)
    whole, _ = run(params, TOKENS, cfg=GEMMA2)
    assert np.array_equal(actual[:, :length], whole[:, :length])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_is_its_rows(name):
    cfg, params = FAMILIES[name], PARAMS[name]
    both, _ = run(params, TOKENS, cfg=cfg)
    for row in range(B):
        one, _ = run(params, jnp.broadcast_to(TOKENS[row], (B, T)), cfg=cfg)
        close(both[row], one[0], 1e-6)


@partial(jax.jit, static_argnames="cfg")
def continued(params, tokens, cache, steering, cfg):
    """Logits of the tokens that come after what the cache holds, and the cache after them."""
    out = hidden_states(params, tokens, cfg, steering, cache=cache)
    return unembed(params, out.hidden, cfg), out.cache


@pytest.mark.parametrize("name", ["gpt_neox", "smollm3", "gemma2", "gemma3"])
@given(order=st.permutations([1, 1, 1, 1, 4, 4]))
def test_cached_is_uncached_at_any_split(name, order):
    cfg, params = ALL[name], PARAMS[name]
    steering = steer(VECTOR, 1, scale=0.5)
    whole, _ = run(params, TOKENS, steering=steering, cfg=cfg)
    cache = empty_cache(cfg, B, T + 3)
    pieces = []
    for start, stop in pairwise(np.cumsum([0, *order])):
        logits, cache = continued(params, TOKENS[:, start:stop], cache, steering, cfg)
        pieces.append(logits)
    close(jnp.concatenate(pieces, axis=1), whole)
    assert int(cache.index) == T


def test_rows_of_different_lengths_share_a_cache():
    """A prompt padded on the right, then one more token: as if each row stood alone."""
    params, lengths = PARAMS["gemma3"], np.array([T - 1, 4])
    index = np.arange(T - 1)[None]
    positions = jnp.asarray(np.where(index < lengths[:, None], index, -1), jnp.int32)
    prefill = jax.jit(partial(hidden_states, cfg=GEMMA3, cache_slots=T + 3))
    filled = prefill(params, TOKENS[:, :-1], positions=positions).cache
    steering = steer(VECTOR, 1, scale=0.0)
    logits, cache = continued(params, TOKENS[:, -1:], filled, steering, GEMMA3)
    assert cache.positions[:, T - 1].tolist() == lengths.tolist()
    for row, length in enumerate(lengths):
        alone = TOKENS.at[0, :length].set(TOKENS[row, :length]).at[0, length].set(TOKENS[row, -1])
        expected, _ = run(params, alone, cfg=GEMMA3)
        close(logits[row, 0], expected[0, length])


def test_continuations_side_by_side_are_continuations_one_at_a_time():
    """Of one prompt, in one row: none sees another. With a window, which some keys leave."""
    params, split = PARAMS["gemma3"], 7
    fill = jax.jit(partial(hidden_states, cfg=GEMMA3, cache_slots=split + 6))
    cache = fill(params, TOKENS[:, :split]).cache
    tokens = jnp.concatenate([TOKENS[:, split : split + 3], TOKENS[:, :3]], axis=1)
    ahead = jnp.tile(split + jnp.arange(3), 2)
    read = jax.jit(partial(hidden_states, cfg=GEMMA3))
    both = read(
        params,
        tokens,
        cache=cache,
        positions=jnp.broadcast_to(ahead, tokens.shape),
        segment_ids=jnp.broadcast_to(jnp.repeat(jnp.arange(2), 3), tokens.shape),
    )
    for i in range(2):
        alone = read(params, tokens[:, 3 * i : 3 * i + 3], cache=cache)
        close(both.hidden[:, 3 * i : 3 * i + 3], alone.hidden)


AT = jnp.asarray([[11, 2, 2], [0, 7, 10]])  # in any order, and twice


@pytest.mark.parametrize(
    ("name", "edit", "cached"),
    [
        *((name, "last", cached) for name, cached in [("llama", True), ("qwen2", False)]),
        *(("gemma3", edit, edit == "early") for edit in ("early", "masked", "captured")),
        ("gemma2", "none", False),
    ],
)
def test_the_states_that_are_asked_for_are_those_of_the_whole_pass(name, edit, cached):
    """Values, gradients and the cache, whether or not the last block can leave tokens out."""
    cfg, params = FAMILIES[name], PARAMS[name]
    last = cfg.layers - 1
    capture = Capture((last,)) if edit == "captured" else None
    segments = None if cached else jnp.asarray([[0] * 7 + [1] * 5, [1] * T])

    @jax.jit
    @partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def run(params, vector, at):
        steering = None if edit == "none" else steer(vector, 0 if edit == "early" else last)
        if edit == "masked":
            steering = steering.masked(jnp.arange(T)[None] % 2 == jnp.arange(B)[:, None])
        out = hidden_states(
            params,
            TOKENS,
            cfg,
            steering,
            time_indices=at,
            capture=capture,
            segment_ids=segments,
            cache_slots=T if cached else None,
        )
        chosen = out.hidden
        if at is None:
            chosen = jnp.take_along_axis(chosen, AT[:, :, None], axis=1)
        weights = jnp.cos(jnp.arange(chosen.size, dtype=jnp.float32)).reshape(chosen.shape)
        return (chosen * weights).sum(), (chosen, out.cache, out.activations)

    whole, cut = run(params, VECTOR, None), run(params, VECTOR, AT)
    close_leaves(cut[0][1], whole[0][1])
    for actual, expected in zip(jax.tree.leaves(cut[1]), jax.tree.leaves(whole[1]), strict=True):
        np.testing.assert_allclose(
            actual, expected, rtol=0, atol=2e-4 * max(1, np.abs(expected).max())
        )


def test_tokens_after_a_cache_may_be_left_out_too():
    cfg, params = FAMILIES["gemma3"], PARAMS["gemma3"]
    head, tail = TOKENS[:, :5], TOKENS[:, 5:]
    time_indices = jnp.asarray([[6, 3], [0, 5]])

    @jax.jit
    def run(time_indices):
        cache = hidden_states(params, head, cfg, cache_slots=T).cache
        return hidden_states(params, tail, cfg, cache=cache, time_indices=time_indices)

    whole, cut = run(None), run(time_indices)
    close(cut.hidden, jnp.take_along_axis(whole.hidden, time_indices[:, :, None], axis=1))
    close_leaves(cut.cache, whole.cache)


@pytest.mark.parametrize("layer", [0, 1])
def test_several_tokens_that_continue_a_cache_are_scanned_and_give_the_same(layer, monkeypatch):
    cfg, params = FAMILIES["gemma3"], PARAMS["gemma3"]
    cache = jax.jit(partial(hidden_states, cfg=cfg, cache_slots=T))(params, TOKENS[:, :5]).cache

    def run():
        def read(params, tokens):
            return hidden_states(
                params,
                tokens,
                cfg,
                steer(VECTOR, layer),
                cache=cache,
                capture=Capture((layer,)),
                time_indices=jnp.asarray([[6, 3], [0, 5]]),
            )

        program = jax.jit(read).lower(params, TOKENS[:, 5:])
        return program.as_text().count("stablehlo.while"), program.compile()(params, TOKENS[:, 5:])

    loops, scanned = run()
    monkeypatch.setattr(module.StackRunner, "_scans_cache", lambda self, h: False)
    none, unrolled = run()
    assert loops > none == 0
    close_leaves(scanned, unrolled)


def test_the_last_block_works_only_for_the_tokens_that_are_asked_for():
    """By the FLOPs of the compiled program."""
    params, tokens = PARAMS["llama"], jnp.zeros((4, 64), jnp.int32)

    def flops(time_indices):
        run = jax.jit(
            lambda time_indices: (
                hidden_states(params, tokens, LLAMA, time_indices=time_indices).hidden
            )
        )
        return run.lower(time_indices).compile().cost_analysis()["flops"]

    few = flops(jnp.zeros((4, 1), jnp.int32))
    assert few < flops(jnp.zeros((4, 64), jnp.int32)) - 2 * 4 * 60 * 3 * LLAMA.dim * LLAMA.mlp_dim


@pytest.mark.parametrize("layers", [(1,), (2, 0)])
def test_capture_at_positions_is_a_slice_of_the_full_capture(layers):
    params, positions = PARAMS["qwen3"], jnp.asarray([[0, 3, 3], [11, 7, 0]])
    steering = steer(VECTOR, 1)
    _, full = run(params, TOKENS, cfg=QWEN3, steering=steering, capture=Capture(layers))
    _, some = run(params, TOKENS, cfg=QWEN3, steering=steering, capture=Capture(layers, positions))
    assert full.shape == (len(layers), B, T, QWEN3.dim)
    for row in range(B):
        assert np.array_equal(some[:, row], full[:, row, positions[row]])


def captured(params, cfg, steering, layer):
    return run(params, TOKENS, cfg=cfg, steering=steering, capture=Capture((layer,)))[1][0]


def test_steering_adds_the_vector_after_its_block_and_nowhere_before():
    params = PARAMS["llama"]
    base = captured(params, LLAMA, no_steering(LLAMA.dim, 1), 1)
    mask = jnp.arange(T)[None] >= jnp.asarray([[4], [9]])
    steered = captured(params, LLAMA, steer(VECTOR, 1, scale=-2.5).masked(mask), 1)
    close(steered - base, -2.5 * mask[:, :, None] * VECTOR[None, None], 1e-5)
    before = captured(params, LLAMA, no_steering(LLAMA.dim, 1), 0)
    assert np.array_equal(captured(params, LLAMA, steer(VECTOR, 1), 0), before)


@pytest.mark.parametrize("operation", ["add", "project_out", "replace"])
def test_a_zero_vector_is_no_steering_under_every_operation(operation):
    params = PARAMS["llama"]
    target = jnp.ones((1, B, T)) if operation == "replace" else None
    zero = replace(no_steering(LLAMA.dim, 1), operation=operation, target=target)

    def total(vectors):
        logits, _ = forward(params, TOKENS, LLAMA, replace(zero, vectors=vectors))
        return logits.sum(), logits

    (_, steered), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(zero.vectors)
    close(steered, run(params, TOKENS, cfg=LLAMA)[0], 1e-6)
    assert np.isfinite(gradient).all()


# At a scale of 1 nothing is left to compare but rounding.
@given(scale=st.floats(-1, 3, allow_subnormal=False, width=32).filter(lambda s: abs(s - 1) > 1e-3))
def test_project_out_leaves_its_share_of_the_component_and_all_of_the_rest(scale):
    params, u = PARAMS["llama"], VECTOR / jnp.linalg.norm(VECTOR)
    base = captured(params, LLAMA, no_steering(LLAMA.dim, 1), 1)
    out = captured(params, LLAMA, steer(VECTOR, 1, scale, "project_out"), 1)
    close(out @ u, (1 - scale) * (base @ u), 1e-5 / max(abs(1 - scale), 1e-5))
    rest = partial(lambda h: h - (h @ u)[..., None] * u[None, None])
    close(rest(out), rest(base), 1e-5)


def test_replacing_by_the_own_component_changes_nothing_and_by_another_sets_it():
    params, u = PARAMS["llama"], VECTOR / jnp.linalg.norm(VECTOR)
    base = captured(params, LLAMA, no_steering(LLAMA.dim, 1), 1)
    same = replace(steer(VECTOR, 1, operation="replace"), target=(base @ u)[None])
    close(captured(params, LLAMA, same, 1), base, 1e-6)
    other = replace(same, target=jnp.full((1, B, T), 0.25))
    close(captured(params, LLAMA, other, 1) @ u, jnp.full((B, T), 0.25), 1e-4)


def test_one_vector_for_all_is_the_same_vector_for_each_token():
    params = PARAMS["gemma2"]
    one, _ = run(params, TOKENS, cfg=GEMMA2, steering=steer(VECTOR, 2))
    each = Steering(jnp.broadcast_to(VECTOR, (1, B, T, 32)), jnp.ones((B, T)), (2,))
    close(run(params, TOKENS, cfg=GEMMA2, steering=each)[0], one, 1e-6)


def adapted(params, key, b_scale):
    """The params with LoRA of rank 2 on two projections."""
    layers = dict(params["layers"])
    for i, name in enumerate(("q", "down")):
        L, n_in, n_out = layers[name].shape
        a = jax.random.normal(jax.random.fold_in(key, i), (L, n_in, 2))
        b = b_scale * jax.random.normal(jax.random.fold_in(key, i + 9), (L, 2, n_out))
        layers[name] = LoraWeight(layers[name], a, b, jnp.linspace(0.1, 0.5, L))
    return {**params, "layers": layers}


def test_lora_at_zero_is_the_base_and_merged_is_unmerged():
    params, steering = PARAMS["qwen2"], steer(VECTOR, 1)
    base, _ = run(params, TOKENS, cfg=QWEN2, steering=steering)
    zero = adapted(params, jax.random.key(8), 0.0)
    close(run(zero, TOKENS, cfg=QWEN2, steering=steering)[0], base, 1e-6)
    lora = adapted(params, jax.random.key(8), 0.3)
    unmerged, _ = run(lora, TOKENS, cfg=QWEN2, steering=steering)
    merged = jax.tree.map(
        lambda w: w.merge() if isinstance(w, LoraWeight) else w,
        lora,
        is_leaf=lambda w: isinstance(w, LoraWeight),
    )
    close(run(merged, TOKENS, cfg=QWEN2, steering=steering)[0], unmerged)
    assert np.abs(np.asarray(unmerged - base)).max() > 0.1  # the adapter does something


def test_a_lora_projection_is_the_sum_of_its_two_paths():
    key = jax.random.key(0)
    x, w = jax.random.normal(key, (3, 4)), jax.random.normal(key, (4, 5))
    a, b = jax.random.normal(key, (4, 2)), jax.random.normal(key, (2, 5))
    actual = linear(x, LoraWeight(w, a, b, jnp.asarray(0.5)))
    close(actual, x @ w + 0.5 * (x @ a @ b), 1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_bfloat16_is_close_to_float32(name):
    cfg, params = FAMILIES[name], PARAMS[name]
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    # The same rounded weights, so that only the arithmetic differs.
    rounded = jax.tree.map(lambda x: x.astype(jnp.float32), half)
    actual, _ = run(half, TOKENS, cfg=cfg)
    exact, _ = run(rounded, TOKENS, cfg=cfg)
    assert actual.dtype == jnp.float32
    error = np.sqrt(np.mean(np.square(actual - exact)) / np.mean(np.square(exact)))
    assert error < 0.05


def test_initial_parameters_do_not_depend_on_the_order_of_the_tree():
    params = init_params(jax.random.key(0), LLAMA)
    biased = init_params(jax.random.key(0), replace(LLAMA, qkv_bias=True))
    for name, leaf in params["layers"].items():
        assert np.array_equal(biased["layers"][name], leaf)
    assert parameter_count(LLAMA) == sum(leaf.size for leaf in jax.tree.leaves(params))
    matrix = np.asarray(params["layers"]["gate"])
    assert abs(matrix.std() - 0.02) < 0.001
    assert not np.array_equal(params["layers"]["gate"], params["layers"]["up"])


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_that_does_not_exist_is_refused(layer):
    with pytest.raises(InputError, match=f"layer[ =]{layer} is (out of range|not valid)"):
        forward(PARAMS["llama"], TOKENS, LLAMA, steer(VECTOR, layer))
    with pytest.raises(InputError, match=f"layer {layer} is out of range"):
        forward(PARAMS["llama"], TOKENS, LLAMA, capture=Capture((layer,)))


def test_no_pass_copies_the_weights():
    """Scratch memory of the compiled programs, against the size of the weights they read."""
    cfg = replace(LLAMA, dim=128, layers=8, mlp_dim=512)
    params = jax.eval_shape(partial(init_params, cfg=cfg), jax.random.key(0))  # shapes suffice
    size = 4 * parameter_count(cfg)

    def logits(vector, params):
        return forward(params, TOKENS[:1, :4], cfg, steer(vector, 3))[0]

    for program in (logits, jax.grad(lambda v, p: logits(v, p).sum())):
        compiled = jax.jit(program).lower(jnp.zeros(cfg.dim), params).compile()
        assert compiled.memory_analysis().temp_size_in_bytes < size / 4
