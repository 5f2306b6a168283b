"""Trainable trees: nothing at the start, the same as merged or steered, and nowhere else."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.models.forward import Capture, forward
from subliminal_jax.models.steered import steer
from subliminal_jax.training.adapters import (
    PROJECTIONS,
    Full,
    LoRA,
    Vector,
    attach,
    init_trainable,
    merge,
    pad_rank,
    unpad_rank,
)
from tests.training.tiny import CFG, base, close, identical, rows

ADAPTERS = {
    "full": Full(),
    "lora": LoRA(rank=3, alpha=5.0),
    "lora on two projections of one layer": LoRA(rank=2, targets=("up", "q"), layers=(1,)),
    "vector": Vector(layer=0),
}
SUBSET = ADAPTERS["lora on two projections of one layer"]
BASE, TOKENS = base(), rows(3).tokens


@jax.jit
def run(params, steering=None):
    """(logits, residual stream after block 0)."""
    return forward(params, TOKENS, CFG, steering, capture=Capture((0,)))


@functools.partial(jax.jit, static_argnums=1)
def loss_and_gradient(trainable, adapter):
    def loss(trainable):
        params, steering = attach(BASE, trainable, CFG, adapter)
        return jnp.sum(forward(params, TOKENS, CFG, steering)[0] ** 2)

    return jax.value_and_grad(loss)(trainable)


@functools.partial(jax.jit, static_argnums=1)
def merged(trainable, adapter):
    return merge(attach(BASE, trainable, CFG, adapter)[0])


def start(adapter, seed=0, params=None):
    return init_trainable(jax.random.key(seed), BASE if params is None else params, CFG, adapter)


def moved(adapter, seed=5):
    """A trainable tree with every coordinate away from its start."""
    tree = start(adapter)
    flat, treedef = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(seed), len(flat))
    noisy = [x + 0.2 * jax.random.normal(k, x.shape) for k, x in zip(keys, flat, strict=True)]
    return treedef.unflatten(noisy)


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, "float32") for name in ADAPTERS), ("lora", "bfloat16")]
)
def test_at_the_start_a_student_is_the_base(name, dtype):
    params = base(jnp.dtype(dtype))
    trainable = start(ADAPTERS[name], params=params)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(trainable))
    student, alone = run(*attach(params, trainable, CFG, ADAPTERS[name])), run(params)
    if dtype == "float32" and "lora" in name:  # merged weights may go through other products
        np.testing.assert_allclose(student[0], alone[0], rtol=0, atol=5e-6)
    else:
        identical(student, alone)


def test_every_trainable_coordinate_counts():
    adapter = ADAPTERS["vector"]
    _, gradient = loss_and_gradient(moved(adapter), adapter)
    assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, start(adapter))
    for leaf in jax.tree.leaves(gradient):
        assert leaf.dtype == jnp.float32
        assert (leaf != 0).all()


@pytest.mark.parametrize("adapter", [ADAPTERS["lora"], SUBSET], ids=["all", "subset"])
def test_merged_weights_act_as_the_adapter(adapter):
    params, steering = attach(BASE, moved(adapter), CFG, adapter)
    assert steering is None
    close(run(merged(moved(adapter), adapter))[0], run(params)[0], rtol=1e-5)
    assert float(jnp.abs(run(params)[0] - run(BASE)[0]).max()) > 0.1
    low = jax.eval_shape(merge, attach(base(jnp.bfloat16), moved(adapter), CFG, adapter)[0])
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(low))


def test_merged_weights_are_the_formula():
    adapter = ADAPTERS["lora"]
    factors = moved(adapter)["layers"]
    params = merged({"layers": factors}, adapter)
    for name in PROJECTIONS:
        product = np.einsum("lir,lro->lio", factors[name]["a"], factors[name]["b"])
        close(params["layers"][name], BASE["layers"][name] + 5.0 / 3 * product)


def test_other_layers_and_projections_stay_untouched():
    params, dense = attach(BASE, moved(SUBSET), CFG, SUBSET)[0], merged(moved(SUBSET), SUBSET)
    for name, weight in BASE["layers"].items():
        identical(dense["layers"][name][0], weight[0])
        changed = bool((dense["layers"][name][1] != weight[1]).any())
        assert changed == (name in SUBSET.targets)
    (logits, after_0), (plain_logits, plain_after_0) = run(params), run(BASE)
    identical(after_0, plain_after_0)
    assert float(jnp.abs(logits - plain_logits).max()) > 0.1


def test_layers_count_in_ascending_order_whatever_order_is_given():
    everywhere = LoRA(rank=2, targets=("q",))
    tree = moved(everywhere)
    expected, _ = attach(BASE, tree, CFG, everywhere)
    for layers in ((0, 1), (1, 0)):
        identical(attach(BASE, tree, CFG, replace(everywhere, layers=layers))[0], expected)


def test_a_vector_is_the_steering_of_its_layer():
    trainable = moved(ADAPTERS["vector"])
    params, steering = attach(BASE, trainable, CFG, ADAPTERS["vector"])
    identical(params, BASE)
    identical(run(params, steering), run(BASE, steer(trainable["vector"], 0)))


def test_full_weights_go_round():
    for dtype in (jnp.float32, jnp.bfloat16):
        params = base(dtype)
        identical(attach(params, start(Full(), params=params), CFG, Full())[0], params)
    student = jax.tree.map(lambda x: x.astype(jnp.float32), base(jnp.bfloat16))
    identical(start(Full(), params=base(jnp.bfloat16)), student)


def test_scale_overrides_alpha_over_rank():
    adapter, double = LoRA(rank=2, alpha=3.0), LoRA(rank=2, alpha=6.0)
    tree = moved(adapter)
    identical(attach(BASE, tree, CFG, adapter, 3.0)[0], attach(BASE, tree, CFG, double)[0])


def test_rank_stabilised_scale():
    """alpha/sqrt(rank): a rank-stabilised student is a plain one of a larger alpha."""
    stabilised, plain = LoRA(rank=4, alpha=3.0, rslora=True), LoRA(rank=4, alpha=6.0)
    tree = moved(stabilised)
    identical(attach(BASE, tree, CFG, stabilised)[0], attach(BASE, tree, CFG, plain)[0])
    assert [stabilised.scale_of(rank) for rank in (1, 9)] == [3.0, 1.0]
    assert [plain.scale_of(rank) for rank in (1, 3)] == [6.0, 2.0]


def test_start_of_the_factors():
    """a is uniform in +-1/sqrt(in), b zero; a depends on the seed and not on the other targets."""
    tree = start(LoRA(rank=64))["layers"]
    for factors in tree.values():
        bound = factors["a"].shape[1] ** -0.5
        assert 0.98 * bound < float(factors["a"].max()) <= bound
        assert -bound <= float(factors["a"].min()) < -0.98 * bound
        assert abs(float(factors["a"].mean())) < 0.05 * bound
        assert not factors["b"].any()
    few = start(LoRA(rank=64, targets=("v", "k")))["layers"]
    identical(few, {name: tree[name] for name in ("v", "k")})
    assert not np.array_equal(few["v"]["a"], few["k"]["a"])
    assert not np.array_equal(few["v"]["a"], start(LoRA(rank=64), seed=1)["layers"]["v"]["a"])


def test_padding_the_rank_changes_nothing():
    small = LoRA(rank=2, alpha=4.0, targets=("v", "down"))
    large = replace(small, rank=5, alpha=10.0)  # the same alpha/rank
    tree = moved(small)
    padded = pad_rank(tree, 5)
    assert jax.tree.map(jnp.shape, padded) == jax.tree.map(jnp.shape, start(large))
    identical(unpad_rank(padded, tree), tree)

    close(merged(padded, large), merged(tree, small))
    _, gradient = loss_and_gradient(padded, large)
    inside = unpad_rank(gradient, tree)
    assert all((leaf != 0).all() for leaf in jax.tree.leaves(inside))
    identical(pad_rank(inside, 5), gradient)  # zero in the padding


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LoRA(targets=("q", "mlp")), "targets='mlp' .*choose from q, k, v, o, gate"),
        (lambda: LoRA(targets=()), "targets is empty; give at least 1"),
        (lambda: LoRA(rank=0), "rank=0 .*from 1 to 65,536"),
        (lambda: LoRA(alpha=0.0), "alpha=0.0 .*more than 0"),
        (lambda: LoRA(alpha=float("nan")), "alpha=nan .*finite"),
        (lambda: LoRA(layers=()), "layers is empty"),
        (lambda: start(LoRA(layers=(0, 2))), "layer 2 .*2 layers; choose 0 to 1"),
        (lambda: start(LoRA(layers=(-1,))), "layers=-1 .*from 0"),
        (lambda: start(Vector(layer=7)), "layer 7 .*choose 0 to 1"),
    ],
)
def test_bad_input_is_one_clear_line(make, message):
    with pytest.raises(InputError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
