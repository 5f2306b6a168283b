"""With frozen weights in bfloat16, what is trained, summed and kept is float32."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.models.forward import hidden_states, unembed
from subliminal_jax.models.spec import init_params
from subliminal_jax.training.adapters import Full, LoRA, Vector, init_trainable
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.layout import Layout
from subliminal_jax.training.losses import next_token_log_probs, sequence_log_probs, token_losses
from subliminal_jax.training.objectives import CrossEntropy, Selection
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.student_loss import Source, StudentLoss
from subliminal_jax.training.sweep import Sweep
from tests.training import tiny
from tests.training.tiny import Recorded, rows

CFG = replace(tiny.CFG, family="qwen2", qkv_bias=True)  # every kind of parameter
BASE = jax.tree.map(lambda w: w.astype(jnp.bfloat16), init_params(jax.random.key(0), CFG, std=0.2))
WIDE = jax.tree.map(lambda w: w.astype(jnp.float32), BASE)  # the same numbers
ADAPTERS = [Full(), LoRA(rank=2, alpha=4.0), Vector(0)]
GRADIENT_ERROR = 0.05  # of a gradient's norm, in bfloat16 against float32


def one_token(n: int = 24, time: int = 32) -> Batch:
    """Rows in which a single token stands almost everywhere: its embedding's gradient is a sum over
    hundreds of places, which in bfloat16 would stop growing after some."""
    tokens = np.full((n, time), 5, np.int32)
    tokens[:, ::8] = np.random.default_rng(0).integers(0, CFG.vocab, (n, time // 8))
    positions = np.broadcast_to(np.arange(time, dtype=np.int32), tokens.shape)
    mask = np.ones(tokens.shape, np.float32)
    return Batch(*(jnp.asarray(x) for x in (tokens, positions, mask)))


def gradient(params, adapter, batch, trainable=None):
    """(loss, gradient with respect to the trainable tree) on all rows."""
    if trainable is None:
        trainable = init_trainable(jax.random.key(1), params, CFG, adapter)
    source = Source(params, jax.tree.map(lambda x: x[None], batch), CrossEntropy())
    n, time = batch.tokens.shape
    layout = Layout(None, None, n, time, time - 1, n * (time - 1))
    selection = Selection(jnp.asarray(0), jnp.arange(n), layout)
    return jax.jit(StudentLoss(CFG, adapter).loss_and_gradient)(
        source, trainable, jnp.asarray(2.0), selection
    )


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda a: type(a).__name__)
def test_what_is_trained_and_kept_is_float32(adapter):
    def measure(context, view):
        leaves = jax.tree.leaves((view.gradient, view.update))
        return {str(i): leaf for i, leaf in enumerate(leaves)}

    specs = [OptimizerSpec.parse(text) for text in ("adamw", "momentum", "adafactor")]
    arms = [Arm(spec, 1e-3, 0, "rows") for spec in specs]
    config = TrainConfig(steps=4, batch_size=2, adapter=adapter, log_every=2)
    sweep = Sweep(BASE, CFG, arms, {"rows": rows(8)}, config, measures=[Recorded(measure)])
    state, metrics = jax.eval_shape(lambda: sweep.advance(sweep.init()))
    leaves = jax.tree.leaves((state.trainables, state.optimizer_states, metrics))
    inexact = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    assert len(inexact) > 6
    assert {leaf.dtype for leaf in inexact} == {jnp.dtype(jnp.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(BASE)} == {jnp.dtype(jnp.bfloat16)}


def test_updates_below_the_resolution_of_bfloat16_add_up():
    """A weight of 1 in bfloat16 moves by 1/128 or not at all."""
    rate, steps = 1e-4, 10
    arm = Arm(OptimizerSpec.parse("signum:beta=0"), rate, 0, "rows")
    config = TrainConfig(steps=steps, batch_size=2, adapter=Full(), log_every=steps)
    sweep = Sweep(BASE, CFG, [arm], {"rows": rows(8)}, config)
    before = np.asarray(sweep.students(sweep.init())["final_norm"])
    state, _ = sweep.advance(sweep.init())
    moved = np.abs(np.asarray(sweep.students(state)["final_norm"]) - before)
    assert moved.max() > 0.5 * rate * steps
    assert moved.max() < 1 / 256


def test_log_probabilities_are_summed_in_float32():
    batch = one_token(n=4)
    hidden = hidden_states(BASE, batch.tokens[:, :-1], CFG).hidden
    assert hidden.dtype == jnp.bfloat16
    targets = batch.tokens[:, 1:]
    log_probs = next_token_log_probs(BASE, hidden, targets, CFG)
    logits = np.asarray(hidden, np.float64) @ np.asarray(BASE["lm_head"], np.float64)
    expected = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = np.take_along_axis(expected, np.asarray(targets)[..., None], axis=-1)[..., 0]
    assert log_probs.dtype == unembed(BASE, hidden, CFG).dtype == jnp.float32
    np.testing.assert_allclose(log_probs, expected, rtol=0, atol=1e-5)
    whole = jax.jit(sequence_log_probs, static_argnums=2)(BASE, batch, CFG)
    assert whole.dtype == jnp.float32
    losses, _ = jax.jit(token_losses, static_argnums=2)(BASE, batch, CFG)
    np.testing.assert_allclose(whole, -np.asarray(losses, np.float64).sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda a: type(a).__name__)
def test_gradients_are_those_of_float32(adapter):
    batch = one_token()
    start = init_trainable(jax.random.key(1), WIDE, CFG, adapter)
    noise = jax.tree.map(lambda x: 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), start)
    trainable = start if isinstance(adapter, Full) else jax.tree.map(jnp.add, start, noise)
    (loss, gradients), (wide_loss, expected) = (
        gradient(p, adapter, batch, trainable) for p in (BASE, WIDE)
    )
    assert loss.dtype == jnp.float32
    assert abs(loss - wide_loss) < 0.01 * wide_loss
    paths, leaves = zip(*jax.tree_util.tree_leaves_with_path(gradients), strict=True)
    for path, a, b in zip(paths, leaves, jax.tree.leaves(expected), strict=True):
        assert a.dtype == jnp.float32
        apart = jnp.linalg.norm(a - b) / jnp.linalg.norm(b)
        assert apart < GRADIENT_ERROR, (jax.tree_util.keystr(path), float(apart))
