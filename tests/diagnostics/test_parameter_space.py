import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from subliminal_jax.diagnostics.activation_gradients import CompletionLoss
from subliminal_jax.diagnostics.alignment import activation_shift, mean_activation
from subliminal_jax.diagnostics.parameter_space import (
    TIE,
    TOP,
    anatomy,
    per_example_components,
    score_gradient,
    steering_score,
)
from subliminal_jax.models.steered import no_steering
from subliminal_jax.steering.vectors import component
from subliminal_jax.training.adapters import Vector, attach, init_trainable

LAYER = 1


@pytest.fixture(scope="module")
def student(params, cfg, adapter):
    return lambda trainable: attach(params, trainable, cfg, adapter)


@pytest.fixture(scope="module")
def score(student, trainable, probe, cfg, vector):
    gradient = jax.jit(lambda t: score_gradient(student, t, probe, cfg, vector, LAYER))
    return gradient(trainable)


@pytest.fixture(scope="module")
def example_loss(cfg, student):
    def loss(trainable, batch):
        params, steering = student(trainable)
        return CompletionLoss(cfg)(params, batch, steering or no_steering(cfg.dim))

    return loss


def test_score_gradient_predicts_the_change_of_the_score(
    student, trainable, probe, cfg, vector, score
):
    S = jax.jit(lambda t: steering_score(student(t)[0], probe, cfg, vector, LAYER))
    for seed in range(3):
        flat, unravel = ravel_pytree(trainable)
        step = unravel(jax.random.normal(jax.random.key(seed), flat.shape))
        eps = 1e-3
        up, down = (
            S(jax.tree.map(lambda t, d, e=e: t + e * d, trainable, step)) for e in (eps, -eps)
        )
        predicted = ravel_pytree(score)[0] @ ravel_pytree(step)[0]
        np.testing.assert_allclose((up - down) / (2 * eps), predicted, rtol=0.01, atol=2e-3)


def test_the_score_is_the_component_of_the_mean_activation(
    params, student, trainable, probe, cfg, vector
):
    @jax.jit
    def both(base, moved):
        before = mean_activation(base, probe, cfg, (LAYER,))
        shift = activation_shift(moved, probe, before, cfg, (LAYER,))[0]
        scores = [steering_score(p, probe, cfg, vector, LAYER) for p in (base, moved)]
        return component(shift, vector), scores[1] - scores[0]

    along, moved = both(params, student(trainable)[0])
    np.testing.assert_allclose(moved, along, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("at", ["last", "mean"])
def test_for_a_vector_student_the_direction_is_the_vectors_own(params, probe, cfg, vector, at):
    adapter = Vector(LAYER)
    start = init_trainable(jax.random.key(0), params, cfg, adapter)

    def student(trainable):
        return attach(params, trainable, cfg, adapter)

    gradient = jax.jit(lambda t: score_gradient(student, t, probe, cfg, vector, LAYER, at))(start)
    np.testing.assert_allclose(gradient["vector"], vector / jnp.linalg.norm(vector), rtol=1e-5)


def test_components_by_jvp_are_dots_with_the_gradients(example_loss, trainable, batch, score):
    got = jax.jit(lambda t: per_example_components(example_loss, t, batch, score))(trainable)
    jacobian = jax.jit(jax.jacrev(lambda t: example_loss(t, batch)))(trainable)
    want = sum(
        jnp.sum(j * s[None], axis=range(1, j.ndim))
        for j, s in zip(jax.tree.leaves(jacobian), jax.tree.leaves(score), strict=True)
    )
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-5)


# -- anatomy ----------------------------------------------------------------------------------

SHAPES = {"layers": {"q": {"a": (2, 9, 3), "b": (2, 3, 7)}, "o": {"a": (2, 5, 3), "b": (2, 3, 9)}}}


def trees(seed: int, scale: float = 1.0) -> list:
    """A gradient with a heavy tail, an update, and a score gradient of one structure."""
    leaves, treedef = jax.tree.flatten(SHAPES, is_leaf=lambda x: isinstance(x, tuple))
    rng = np.random.default_rng(seed)

    def tree(power: float):
        values = [np.sign(z) * np.abs(z) ** power for z in (rng.normal(size=s) for s in leaves)]
        return jax.tree.unflatten(treedef, [jnp.asarray(scale * v, jnp.float32) for v in values])

    return [tree(3.0), tree(1.0), tree(1.0)]


def flat64(tree) -> np.ndarray:
    return np.concatenate([np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)])


measure = jax.jit(anatomy)


@given(seed=st.integers(0, 1000), scale=st.sampled_from([1.0, 1e-25, 1e12]))
def test_anatomy_equals_sorting_in_float64(seed, scale):
    """At 1e-25 squares underflow in float32; the shares must not."""
    gradient, update, score = trees(seed)
    out = measure(jax.tree.map(lambda x: scale * x, gradient), update, score)
    g, u, s = -flat64(gradient), flat64(update), flat64(score)
    np.testing.assert_allclose(out["gradient_component"], scale * (g @ s), rtol=1e-3)
    np.testing.assert_allclose(out["update_norm"], np.linalg.norm(u), rtol=1e-5)
    np.testing.assert_allclose(
        out["update_cosine"], u @ s / np.linalg.norm(u) / np.linalg.norm(s), rtol=1e-4, atol=1e-6
    )
    tenths = np.diff([_largest(g, t) for t in np.arange(11) / 10], axis=0)
    for name, x in (("gradient", g), ("update", u)):
        parts = {"mass": x * x, "component": x * s}
        for kind, part in parts.items():
            close = {"rtol": 1e-3, "atol": 1e-3 * np.abs(part).sum() / abs(part.sum())}
            by_decile = tenths @ part / part.sum()
            np.testing.assert_allclose(out[f"{name}_decile_{kind}"], by_decile, **close)
            # 0.1% and 1% of 180 coordinates are parts of one or two.
            tops = [_largest(x, t) @ part / part.sum() for t in TOP]
            np.testing.assert_allclose(out[f"{name}_top_{kind}"], tops, **close)
            np.testing.assert_allclose(out[f"{name}_decile_{kind}"].sum(), 1, **close)
            both = out[f"{name}_a_{kind}"] + out[f"{name}_b_{kind}"]
            np.testing.assert_allclose(both, 1, **close)
        a = np.concatenate(
            [np.asarray(x[k]).ravel() ** 2 for x in (_factors(gradient, update, name)) for k in "a"]
        )
        np.testing.assert_allclose(out[f"{name}_a_mass"], a.sum() / (x @ x), rtol=1e-3)


def _largest(x, fraction):
    """How far each coordinate is among the largest: those near the cut have equal parts of it."""
    size, count = np.abs(x), fraction * len(x)
    cut = np.sort(size)[::-1][max(int(np.ceil(count - 1e-9)), 1) - 1]
    near = np.abs(size / cut - 1) <= TIE
    above = (size > cut) & ~near
    return above + near * np.clip((count - above.sum()) / near.sum(), 0, 1)


def _factors(gradient, update, name):
    return (gradient if name == "gradient" else update)["layers"].values()


def test_the_sign_of_both_is_that_of_a_step():
    gradient, update, score = trees(0)
    along = measure(jax.tree.map(jnp.negative, score), score, score)
    for name in ("gradient", "update"):
        np.testing.assert_allclose(along[f"{name}_cosine"], 1, rtol=1e-5)
        np.testing.assert_allclose(along[f"{name}_component"], along["score_norm"] ** 2, rtol=1e-5)
    turned = measure(jax.tree.map(jnp.negative, gradient), update, score)
    straight = measure(gradient, update, score)
    np.testing.assert_allclose(turned["gradient_cosine"], -straight["gradient_cosine"], rtol=1e-5)
    np.testing.assert_allclose(
        turned["gradient_decile_component"], straight["gradient_decile_component"], rtol=1e-4
    )


@given(seed=st.integers(0, 1000))
def test_equal_coordinates_share_their_ranks(seed):
    """A sign update has no largest coordinates, and half the gradient is zero: neither the order
    of the coordinates nor chance may decide what a decile holds."""
    gradient, update, score = trees(seed)
    gradient["layers"]["q"] = jax.tree.map(jnp.zeros_like, gradient["layers"]["q"])
    sign = jax.tree.map(lambda u: 1e-3 * jnp.sign(u), update)
    out = measure(gradient, sign, score)
    np.testing.assert_allclose(out["update_top_mass"], TOP, rtol=1e-4)
    np.testing.assert_allclose(out["update_top_component"], TOP, rtol=1e-3)
    np.testing.assert_allclose(out["update_decile_mass"], np.full(10, 0.1), rtol=1e-4)
    order = np.random.default_rng(seed).permutation(flat64(score).size)

    def permuted(tree):
        flat, unravel = ravel_pytree(tree)
        return unravel(flat[order])

    other = measure(*(permuted(t) for t in (gradient, sign, score)))
    for name in ("gradient_decile_mass", "update_decile_component", "update_top_component"):
        spread = float(jnp.abs(out[name]).max())
        np.testing.assert_allclose(other[name], out[name], atol=1e-3 * spread)


def test_rounding_does_not_decide_what_the_largest_coordinates_hold():
    """All coordinates of Adam's first step have the size of the rate up to rounding, which the
    order of a sum decides: another one on eight devices than on one."""
    gradient, _, score = trees(0, 1e-2)
    scores, shares, ranked = flat64(score), [], []
    for seed in range(2):
        noise = trees(seed + 1)[1]
        rounded = jax.tree.map(lambda g, z: g * (1 + 2e-7 * z), gradient, noise)
        optimizer = optax.adam(1e-3, eps=1e-12)
        update, _ = optimizer.update(rounded, optimizer.init(rounded))
        shares.append(measure(rounded, update, score)["update_top_component"])
        u = flat64(update)
        top = np.argsort(-np.abs(u))[: len(u) // 10]
        ranked.append(u[top] @ scores[top] / (u @ scores))
    assert abs(ranked[0] - ranked[1]) > 0.03  # a plain sort: the premise
    np.testing.assert_allclose(*shares, rtol=1e-3)
    np.testing.assert_allclose(shares[0], TOP, rtol=0.1)  # a few gradients are near epsilon


def test_students_mapped_together_equal_each_alone():
    students = [trees(seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *students)
    together = jax.jit(jax.vmap(anatomy))(*stacked)
    for i, one in enumerate(students):
        for name, value in measure(*one).items():
            np.testing.assert_allclose(together[name][i], value, rtol=1e-3, atol=1e-5)


def test_a_student_that_did_not_step_has_empty_shares():
    gradient, update, score = trees(0)
    out = measure(gradient, jax.tree.map(jnp.zeros_like, update), score)
    for name, value in out.items():
        assert np.isfinite(value).all(), name
        if name.startswith("update"):
            assert (np.asarray(value) == 0).all(), name


@pytest.mark.parametrize("size", [1, 7, 30])
def test_fewer_coordinates_than_deciles_still_partition(size):
    x = {"vector": jnp.arange(1.0, size + 1)}
    out = measure(x, x, x)
    np.testing.assert_allclose(out["gradient_decile_mass"].sum(), 1, rtol=1e-5)
    assert "gradient_a_mass" not in out
    held = np.interp(
        0.1 * size, np.arange(size + 1), np.cumsum([0, *np.arange(size, 0, -1.0) ** 2])
    )
    np.testing.assert_allclose(
        out["gradient_top_mass"][2], held / np.sum(np.arange(size + 1.0) ** 2), rtol=1e-4
    )


def test_at_the_start_of_lora_all_gradient_is_in_b(params, cfg, adapter, probe, vector, student):
    start = init_trainable(jax.random.key(0), params, cfg, adapter)
    gradient = jax.jit(lambda t: score_gradient(student, t, probe, cfg, vector, LAYER))(start)
    out = measure(gradient, gradient, gradient)
    assert float(out["gradient_b_mass"]) == pytest.approx(1.0, abs=1e-6)
    assert float(out["gradient_a_mass"]) == 0.0
