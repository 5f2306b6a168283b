from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subliminal_jax.compilation import count_compilations
from subliminal_jax.diagnostics.activation_gradients import (
    CompletionLoss,
    GradientTable,
    cosine_against_n,
    doubling,
    example_components,
    example_gradients,
    gradient_table,
    layer_gradients,
    predicting,
    prompt_ends,
    tail_shares,
    target_table,
    token_gradients,
)
from subliminal_jax.models.steered import steer
from subliminal_jax.steering.vectors import component
from subliminal_jax.testing import alignment as checks
from subliminal_jax.testing import check_activation_gradients
from subliminal_jax.testing.strategies import token_batches, vectors
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.losses import mean_loss, token_losses

LAYER = 1


@pytest.fixture(scope="module")
def loss(cfg):
    return CompletionLoss(cfg)


@pytest.fixture(scope="module")
def per_token(loss, params, batch):
    return jax.jit(lambda p, b: token_gradients(loss, p, b, LAYER))(params, batch)


@pytest.fixture(scope="module")
def per_example(loss, params, batch):
    return jax.jit(lambda p, b: example_gradients(loss, p, b, LAYER))(params, batch)


@given(data=st.data())
def test_gradients_are_the_same_in_every_way_to_compute_them(cfg, params, data):
    batch, vector = data.draw(token_batches(cfg)), data.draw(vectors(cfg.dim))
    check_activation_gradients(params, cfg, batch, vector, LAYER)


def test_a_gradient_that_is_wrong_fails_the_check(cfg, params, batch, vector, monkeypatch):
    """A component along the whole vector in place of its direction."""

    def along(*arguments):
        return example_components(*arguments) * jnp.linalg.norm(vector)

    monkeypatch.setattr(checks, "example_components", along)
    with pytest.raises(AssertionError, match="components by forward mode: .* apart"):
        check_activation_gradients(params, cfg, batch, vector, LAYER)


def test_one_pass_over_layers_and_masks_is_a_pass_for_each(cfg, loss, params, batch):
    masks = [prompt_ends(batch), predicting(batch), jnp.ones_like(predicting(batch))]
    layers = (0, 2)
    together = jax.jit(lambda p, m: layer_gradients(loss, p, batch, layers, m))(
        params, jnp.stack(masks)
    )
    assert together.shape == (3, 2, len(batch.tokens), cfg.dim)
    for m, mask in enumerate(masks):
        for i, layer in enumerate(layers):
            alone = jax.jit(lambda p, k, at=layer: example_gradients(loss, p, batch, at, k))
            np.testing.assert_allclose(together[m, i], alone(params, mask), rtol=1e-4, atol=1e-6)


def test_rows_of_a_scalar_loss_sum_to_its_gradient(cfg, params, batch, per_example):
    """A mean over predicted tokens weighs the examples' own means by their token numbers."""

    def loss(params, batch, steering):
        return mean_loss(*token_losses(params, batch, cfg, steering))

    rows = jax.jit(lambda p: example_gradients(loss, p, batch, LAYER))(params)
    tokens = batch.loss_mask.sum(axis=1)
    np.testing.assert_allclose(
        rows, per_example * (tokens / tokens.sum())[:, None], rtol=1e-4, atol=1e-6
    )


def test_sum_and_mean_differ_by_the_number_of_predicted_tokens(cfg, params, batch):
    none = steer(jnp.zeros(cfg.dim), LAYER)
    tokens = batch.loss_mask.sum(axis=1)

    @jax.jit
    def losses(params):
        return [CompletionLoss(cfg, reduction=r)(params, batch, none) for r in ("mean", "sum")]

    mean, total = losses(params)
    np.testing.assert_allclose(total, mean * tokens, rtol=1e-5)


def test_a_token_gradient_counts_what_it_does_to_later_tokens_and_nothing_else(batch, per_token):
    sizes = np.linalg.norm(per_token, axis=-1)
    lengths = np.asarray((batch.positions >= 0).sum(axis=1))
    for row, n in zip(sizes, lengths, strict=True):
        # The last token of a completion is predicted but predicts nothing; prompts act on what
        # follows though they predict nothing themselves.
        assert (row[: n - 1] > 1e-6).all()
        assert (row[n - 1 :] == 0).all()


def test_one_position_alone(loss, params, batch, per_token):
    ends = prompt_ends(batch)
    np.testing.assert_array_equal(np.argmax(ends, axis=1), [2, 1, 5, 0, 3])
    np.testing.assert_array_equal(ends.sum(axis=1), np.ones(5))
    at_end = jax.jit(lambda p: example_gradients(loss, p, batch, LAYER, ends))(params)
    np.testing.assert_allclose(at_end, per_token[np.asarray(ends)], rtol=1e-4, atol=1e-6)


def test_the_component_vanishes_for_an_orthogonal_probe(per_token, vector):
    g = per_token[2, 3]
    probe = vector - component(vector, g) * g / jnp.linalg.norm(g)
    assert float(jnp.linalg.norm(probe)) > 0.1
    assert abs(float(component(g, probe))) < 1e-6 * float(jnp.linalg.norm(g)) + 1e-7


def test_table_equals_the_gradients_whatever_the_batch(
    loss, params, batch, vector, per_token, per_example
):
    with count_compilations() as compiled:
        table = gradient_table(loss, params, batch, vector, LAYER, batch_size=2)
        gradient_table(CompletionLoss(loss.cfg), params, batch, 2 * vector, LAYER, batch_size=2)
    assert compiled.count("gradient_table") == 1
    np.testing.assert_allclose(table.example, per_example, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(table.norm, jnp.linalg.norm(per_token, axis=-1), rtol=1e-4)
    np.testing.assert_allclose(table.component, component(per_token, vector), rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(table.real.sum(axis=1), [8, 4, 11, 8, 7])


def planted_table(seed: int, top: int) -> tuple[GradientTable, float, float]:
    """A table whose `top` largest tokens hold known shares; padding holds garbage."""
    rng = np.random.default_rng(seed)
    norm, along = rng.uniform(0.1, 1.0, (20, 10)), rng.normal(1.0, 1.0, (20, 10))
    real = rng.random((20, 10)) < 0.8
    norm[~real] = 1e3
    flat = np.argsort(np.where(real, -norm, np.inf), axis=None)[:top]
    held = np.zeros(200, bool)
    held[flat] = True
    held = held.reshape(20, 10)
    shares = [(x * held).sum() / (x * real).sum() for x in (norm**2, along)]
    table = GradientTable(
        jnp.zeros((20, 3)),
        *(jnp.asarray(x, jnp.float32) for x in (norm, along)),
        jnp.asarray(real),
    )
    return table, *shares


@given(seed=st.integers(0, 1000))
def test_tail_shares(seed):
    table, *_ = planted_table(seed, 1)
    real = int(table.real.sum())
    for top in (0.01, 0.25, 1.0):
        table, norm, along = planted_table(seed, int(np.ceil(top * real)))
        got = tail_shares(table, top)
        np.testing.assert_allclose(got, [norm, along], rtol=1e-4)


# -- cosines against the number of averaged gradients -----------------------------------------


def sample(seed: int, examples: int, dim: int, signal: float) -> tuple[jax.Array, jax.Array]:
    """Gradients of mean -signal along the vector, in noise of unit variance a coordinate."""
    v = jax.random.normal(jax.random.key(seed), (dim,))
    noise = jax.random.normal(jax.random.key(seed + 1), (examples, dim))
    return noise - (signal * v / jnp.linalg.norm(v))[None], v


def test_the_cosine_of_a_planted_signal_rises_with_n_as_theory_says():
    """Signal s in noise of total variance D: cos = s / sqrt(s² + D / n), about."""
    g, v = sample(0, 1024, 64, signal=1.0)
    curve = cosine_against_n(g, v, doubling(1024), jax.random.key(1))
    np.testing.assert_array_equal(curve.n, 2 ** np.arange(11))
    theory = 1 / np.sqrt(1 + 64 / np.asarray(curve.n))
    np.testing.assert_allclose(curve.cosine, theory, atol=0.08)
    assert (np.diff(curve.cosine) > 0).all()
    none, v = sample(2, 1024, 64, signal=0.0)
    curve = cosine_against_n(none, v, doubling(1024), jax.random.key(1))
    assert (np.abs(curve.cosine) < 3.5 * np.asarray(curve.stderr)).all()


def test_standard_errors_are_calibrated():
    """Over many data sets, the spread of the estimate is the stated error, at every n."""
    ns = (1, 4, 8, 16, 32, 64)

    def estimate(seed):
        g, v = sample(seed, 64, 48, signal=1.0)
        return cosine_against_n(g, v, ns, jax.random.key(0), repeats=2)[1:]

    cosines, errors = jax.jit(jax.vmap(estimate))(2 * jnp.arange(400))
    ratio = np.sqrt((np.asarray(errors) ** 2).mean(axis=0)) / np.std(cosines, axis=0)
    assert (ratio > 0.8).all(), ratio
    assert (ratio < 1.35).all(), ratio


def test_the_ends_of_the_curve():
    g, v = sample(3, 40, 8, signal=0.5)
    curve = cosine_against_n(g, v, (1, 40), jax.random.key(0))
    cosines = -component(g, v) / jnp.linalg.norm(g, axis=1)
    np.testing.assert_allclose(curve.cosine[0], cosines.mean(), rtol=1e-4)
    np.testing.assert_allclose(curve.stderr[0], cosines.std(ddof=1) / 40**0.5, rtol=1e-4)
    mean = -g.mean(axis=0)
    np.testing.assert_allclose(
        curve.cosine[1], component(mean, v) / jnp.linalg.norm(mean), rtol=1e-4
    )
    leave_one_out = jnp.stack([(g.sum(axis=0) - row) / 39 for row in g])
    jackknife = -component(leave_one_out, v) / jnp.linalg.norm(leave_one_out, axis=1)
    error = jnp.sqrt(39 / 40 * jnp.sum((jackknife - jackknife.mean()) ** 2))
    np.testing.assert_allclose(curve.stderr[1], error, rtol=0.03)
    assert np.isnan(cosine_against_n(g[:1], v, (1,), jax.random.key(0)).stderr[0])
    with pytest.raises(ValueError, match="40 gradients"):
        cosine_against_n(g, v, (41,), jax.random.key(0))


@given(seed=st.integers(0, 1000), scale=st.floats(1e-6, 1e3))
def test_the_curve_sees_directions_alone(seed, scale):
    g, v = sample(seed, 16, 8, signal=0.5)
    a = cosine_against_n(g, v, (1, 4, 16), jax.random.key(0))
    b = cosine_against_n(scale * g, 2 * v, (1, 4, 16), jax.random.key(0))
    c = cosine_against_n(-g, v, (1, 4, 16), jax.random.key(0))
    np.testing.assert_allclose(a.cosine, b.cosine, atol=1e-4)
    np.testing.assert_allclose(a.cosine, -c.cosine, atol=1e-5)
    np.testing.assert_allclose(a.stderr, b.stderr, rtol=1e-3, atol=1e-5)


@given(count=st.integers(1, 5000))
def test_doubling_ends_at_all(count):
    ns = doubling(count)
    assert ns[0] == 1
    assert ns[-1] == count
    assert all(b == 2 * a for a, b in pairwise(ns[:-1]))
    assert all(a < b <= 2 * a for a, b in pairwise(ns))


def test_packed_rows_have_one_prompt_end_a_document():
    mask = jnp.array([[0, 0, 1, 1, 0, 1, 1, 0, 0]], jnp.float32)
    tokens = jnp.zeros((1, 9), jnp.int32)
    ends = prompt_ends(Batch(tokens, tokens, mask))
    np.testing.assert_array_equal(ends, [[False, True, False, False, True, False, False, False]])


@pytest.mark.parametrize("spare", [0, 100])  # targets beyond those that any row predicts
def test_a_targets_gradient_is_that_of_its_loss_alone(cfg, params, batch, vector, spare):
    batch = batch._replace(loss_mask=batch.loss_mask.at[0, 4].set(0.0))  # predicted, not, predicted
    counts = np.asarray((batch.loss_mask != 0).sum(axis=1))
    table = target_table(
        params,
        cfg,
        batch,
        vector,
        LAYER,
        max_targets=int(counts.max()) + spare,
        rows_at_once=2,
    )
    np.testing.assert_array_equal(table.predicted.sum(axis=1), counts)
    assert table.predicted[:, 0].all()
    alone = CompletionLoss(cfg, reduction="sum")
    gradient = jax.jit(lambda p, rows: example_gradients(alone, p, rows, LAYER))
    for row, count in enumerate(counts):
        for number, place in enumerate(np.flatnonzero(batch.loss_mask[row])):
            one = jnp.zeros_like(batch.loss_mask).at[row, place].set(1.0)
            expected = gradient(params, batch._replace(loss_mask=one))[row]
            found = table.squared_norm[row, number], table.component[row, number]
            wanted = jnp.sum(expected**2), component(expected, vector)
            np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-6)
        assert (np.asarray(table.squared_norm)[row, count:] == 0).all()
