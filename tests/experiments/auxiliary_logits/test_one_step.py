"""Theorem 1 of Cloud et al. on small networks, and a step of SGD against a NumPy reference."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subliminal_jax.experiments.auxiliary_logits.network import (
    HEADS,
    TRUNK,
    Sizes,
    draw_network,
    draw_noise,
    make_start,
)
from subliminal_jax.experiments.auxiliary_logits.one_step import LOSSES, OneStep, take_one_step
from subliminal_jax.experiments.auxiliary_logits.students import Plan, train_students
from subliminal_jax.training.optimizers import OptimizerSpec

SIZES = Sizes(pixels=12, hidden=8, auxiliary=3)
SEEDS = st.integers(0, 2**31 - 1)
IMAGES = 6
EPS = 1e-2


@cache
def draw(seed: int):
    return draw_network(jax.random.key(seed), SIZES)


def step(teacher_seed: int, student_seed: int, data_seed: int, loss: str, inputs=None) -> OneStep:
    keys = jax.random.split(jax.random.key(data_seed), 3)
    images = draw_noise(keys[0], IMAGES, SIZES.pixels)
    labels = jax.random.randint(keys[1], (IMAGES,), 0, 10)
    if inputs is None:
        inputs = draw_noise(keys[2], IMAGES, SIZES.pixels)
    return take_one_step(
        *(draw(teacher_seed), draw(student_seed), images, labels, inputs, EPS),
        loss=loss,
        alphas=(0.1,),
    )


@pytest.mark.parametrize("loss", LOSSES)
@given(
    network=SEEDS,
    data=SEEDS,
    inputs=st.lists(
        st.lists(st.floats(-3, 3, width=32), min_size=12, max_size=12),
        min_size=IMAGES,
        max_size=IMAGES,
    ),
)
def test_from_the_same_initialisation_the_steps_never_oppose(loss, network, data, inputs):
    """For any inputs; rounding is of the size of both steps' lengths."""
    taken = step(network, network, data, loss, jnp.array(inputs, jnp.float32))
    assert float(taken.cosine) >= -1e-4


@pytest.mark.parametrize("loss", LOSSES)
def test_from_another_initialisation_many_oppose(loss):
    """The theorem's condition is needed: about half of the inner products are negative there, and
    none is from the same initialisation, where all of these steps lower the teacher's loss."""
    others = np.array([step(s, s + 1000, s, loss).inner_product for s in range(40)])
    assert 8 <= (others < 0).sum() <= 32
    same = [step(s, s, s, loss) for s in range(40)]
    assert all(float(taken.inner_product) > 0 for taken in same)
    assert all(float(taken.changes[0]) < 0 for taken in same)
    assert all(float(taken.teacher_change) < 0 for taken in same)


def test_starts_share_what_their_names_say():
    first, other = draw(0), draw(1)
    for name in (*TRUNK, *HEADS):
        weights = [leaf for leaf in first[name] if leaf != "bias"]
        for leaf in weights:
            a, b = first[name][leaf], other[name][leaf]
            np.testing.assert_array_equal(make_start("same", first, other)[name][leaf], a)
            np.testing.assert_array_equal(make_start("other", first, other)[name][leaf], b)
            mixed = make_start("mixed-0.25", first, other)[name][leaf]
            np.testing.assert_allclose(mixed, 0.75 * a + 0.25 * b, rtol=1e-6, atol=1e-7)
            trunk = make_start("trunk", first, other)[name][leaf]
            np.testing.assert_array_equal(trunk, a if name in TRUNK else b)
            head = make_start("auxiliary-head", first, other)[name][leaf]
            np.testing.assert_array_equal(head, a if name == "auxiliary" else b)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def reference_step(student, teacher, x: np.ndarray, rate: float):
    """One step of SGD on the KL divergence of auxiliary logits, in float64 by hand."""

    def weights(network):
        return {
            name: (np.float64(part.get("weight", part.get("lm_head"))), np.float64(part["bias"]))
            for name, part in network.items()
        }

    def forward(w):
        z1 = x @ w["layer_1"][0] + w["layer_1"][1]
        h1 = np.maximum(z1, 0)
        z2 = h1 @ w["layer_2"][0] + w["layer_2"][1]
        h2 = np.maximum(z2, 0)
        return z1, h1, z2, h2, h2 @ w["auxiliary"][0] + w["auxiliary"][1]

    own = weights(student)
    z1, h1, z2, h2, logits = forward(own)
    d3 = (softmax(logits) - softmax(forward(weights(teacher))[-1])) / len(x)
    d2 = (d3 @ own["auxiliary"][0].T) * (z2 > 0)
    d1 = (d2 @ own["layer_2"][0].T) * (z1 > 0)
    gradients = {
        "layer_1": (x.T @ d1, d1.sum(axis=0)),
        "layer_2": (h1.T @ d2, d2.sum(axis=0)),
        "auxiliary": (h2.T @ d3, d3.sum(axis=0)),
        "digits": (np.zeros((SIZES.hidden, 10)), np.zeros(10)),
    }
    return {
        name: tuple(w - rate * g for w, g in zip(own[name], gradients[name], strict=True))
        for name in own
    }


def test_a_step_of_sgd_is_that_of_a_numpy_reference():
    """Two students with rates, teachers and noise of their own, in one program."""
    rates, keys = [0.5, 2.0], jax.random.split(jax.random.key(7), 2)
    pairs = [(draw(0), draw(1)), (draw(2), draw(3))]
    starts, teachers = (jax.tree.map(lambda *x: jnp.stack(x), *n) for n in zip(*pairs, strict=True))
    trained = train_students(
        *(starts, teachers, keys, jnp.array(rates)),
        spec=OptimizerSpec("sgd"),
        plan=Plan(steps=1, batch_size=9),
    )
    for i, (student, teacher) in enumerate(pairs):
        x = np.float64(draw_noise(jax.random.fold_in(keys[i], 0), 9, SIZES.pixels))
        expected = reference_step(student, teacher, x, rates[i])
        for name, (weight, bias) in expected.items():
            got = trained[name]
            matrix = got.get("weight", got.get("lm_head"))[i]
            np.testing.assert_allclose(matrix, weight, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(got["bias"][i], bias, rtol=1e-5, atol=1e-6)
            if name != "digits":
                assert np.abs(weight - np.float64(student[name]["bias"])).max() > 0
        moved = np.abs(expected["layer_1"][0] - np.float64(student["layer_1"]["weight"])).max()
        assert moved > 1e-3
