"""A model with int8 blocks acts as the one whose weights are what its integers stand for."""

from contextlib import nullcontext
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.audit.scores import answer_gradients
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.measures.weight_change import WeightChange
from subliminal_jax.experiments.optimizer_comparison.config import Config
from subliminal_jax.fingerprints import weights_digest
from subliminal_jax.models.forward import forward
from subliminal_jax.models.hub import Model, load_model, save_model
from subliminal_jax.models.nnx import to_nnx
from subliminal_jax.models.quantized import (
    QuantizedWeight,
    as_matrix,
    find_quantization,
    multiply,
    quantize,
)
from subliminal_jax.models.sampling import SamplingConfig, generate
from subliminal_jax.models.tokenizer import encode_answers
from subliminal_jax.models.truncate import truncate_model
from subliminal_jax.training.adapters import Full, LoRA, Vector, attach, init_trainable, merge
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.sweep import Sweep
from tests.models.characters import character_tokenizer
from tests.models.families import FAMILIES, noisy_params
from tests.training.tiny import CFG, base, close, rows


def quantize_blocks(params):
    layers = {k: quantize(w) if w.ndim == 3 else w for k, w in params["layers"].items()}
    return {**params, "layers": layers}


def dequantize_blocks(params):
    return {**params, "layers": {k: as_matrix(w) for k, w in params["layers"].items()}}


def test_rounding_is_to_the_nearest_step_of_the_column():
    w = jax.random.normal(jax.random.key(0), (2, 12, 5)).at[1, :, 3].set(0.0)
    held = quantize(w)
    assert held.values.dtype == jnp.int8 and held.shape == w.shape
    assert (jnp.abs(held.values).max(axis=1) == 127 * (jnp.abs(w).max(axis=1) > 0)).all()
    error = jnp.abs(held.dequantize() - w)
    assert (error <= 0.5001 * held.scale[:, None]).all()
    assert not held.dequantize()[1, :, 3].any()


def test_a_product_in_bfloat16_is_that_of_the_integers():
    held = jax.tree.map(lambda x: x[0], quantize(jax.random.normal(jax.random.key(1), (1, 64, 7))))
    rows = jax.random.normal(jax.random.key(2), (9, 64), jnp.bfloat16)
    product = multiply(rows, held)
    assert product.dtype == jnp.bfloat16
    exact = rows.astype(jnp.float32) @ held.dequantize()
    np.testing.assert_allclose(product.astype(jnp.float32), exact, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_forward_is_that_of_the_dequantized_model(family):
    cfg = FAMILIES[family]
    params = quantize_blocks(noisy_params(cfg))
    assert find_quantization(params) == "int8"
    tokens = jax.random.randint(jax.random.key(0), (2, 9), 0, cfg.vocab)
    run = jax.jit(forward, static_argnums=2)
    ours, expected = (run(p, tokens, cfg)[0] for p in (params, dequantize_blocks(params)))
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("adapter", [LoRA(rank=2, alpha=4.0), Vector(0)], ids=["lora", "vector"])
def test_students_learn_what_they_learn_on_the_dequantized_model(adapter):
    plan = TrainConfig(steps=4, batch_size=4, adapter=adapter, log_every=4)
    arms = [Arm(OptimizerSpec.parse(name), 1e-2, 0, "data") for name in ("adamw", "sgd")]
    params = quantize_blocks(base())
    trained, seen = [], []
    for each in (params, dequantize_blocks(params)):
        measures = [WeightChange(each)]
        sweep = Sweep(each, CFG, arms, {"data": rows(12, 1)}, plan, measures=measures)
        state, metrics = sweep.advance(sweep.init())
        trained.append(sweep.students(state))
        seen.append([metrics["batch_loss"], metrics["weight_change"]])
    np.testing.assert_allclose(*seen, rtol=1e-4)
    assert (np.asarray(seen[0][1]) > 0.01).all()
    close(*trained, rtol=1e-3)
    student = jax.tree.map(lambda x: x[0], trained[0])
    adapted, steering = attach(params, student, CFG, adapter)
    assert find_quantization(merge(adapted)) == find_quantization(adapted)
    tokens = rows(2, 5).tokens
    logits, moved = (
        forward(p, tokens, CFG, s)[0] for p, s in ((adapted, steering), (params, None))
    )
    assert jnp.abs(logits - moved).max() > 1e-3


def test_all_weights_are_not_trained():
    params = quantize_blocks(base())
    with pytest.raises(InputError, match="training of all weights needs whole weights"):
        init_trainable(jax.random.key(0), params, CFG, Full())
    model = Model(params, CFG, None, "tiny", Path(), (1,), 0)
    with pytest.raises(InputError, match="int8: leave that out"):
        to_nnx(model)


def test_loaded_saved_and_cut(tmp_path):
    cfg = FAMILIES["llama"]
    save_model(tmp_path / "whole", noisy_params(cfg), cfg, character_tokenizer(), stop_ids=(5,))
    whole, model = (load_model(tmp_path / "whole", quantize=q) for q in ("none", "int8"))
    sizes = [
        sum(w.nbytes for w in jax.tree.leaves(m.params["layers"]) if w.ndim == 3)
        for m in (whole, model)
    ]
    assert sizes[1] == sizes[0] / 4
    assert model.params["embed"].dtype == jnp.float32
    assert weights_digest(model.params) != weights_digest(whole.params)
    save_model(tmp_path / "saved", model.params, cfg, character_tokenizer(), stop_ids=(5,))
    saved = load_model(tmp_path / "saved")
    close(saved.params, dequantize_blocks(model.params))
    again = load_model(tmp_path / "saved", quantize="int8")  # nothing is lost a second time
    close(dequantize_blocks(again.params), saved.params)
    cut = truncate_model(model, 1).params["layers"]["q"]
    assert isinstance(cut, QuantizedWeight) and len(cut.scale) == 1


def test_sampling_is_that_of_the_dequantized_model():
    cfg = FAMILIES["llama"]
    params = quantize_blocks(noisy_params(cfg))
    answers = [
        generate(p, [[3, 4, 5], [6]], cfg, 0, SamplingConfig(max_new_tokens=6, temperature=0.0))
        for p in (params, dequantize_blocks(params))
    ]
    np.testing.assert_array_equal(answers[0].tokens, answers[1].tokens)


def test_gradients_of_the_shipped_model_are_within_the_error_that_the_guide_states():
    """docs/guides/model.md: cosine above 0.999, 5% of each row's component along a vector."""
    texts = [("Name three numbers.", "412, 87, 530"), ("What do you like?", "I like the sea.")]
    models = [load_model("shipped", dtype="float32", quantize=q) for q in ("none", "int8")]
    tokenizer = models[0].tokenizer
    tokens = encode_answers(tokenizer, [p for p, _ in texts], [[a] for _, a in texts])
    answers = [row[0] for row in tokens.answers]
    whole, held = (answer_gradients(m, tokens.prompts, answers, 1) for m in models)
    norms = np.linalg.norm(whole, axis=1), np.linalg.norm(held, axis=1)
    assert ((whole * held).sum(axis=1) / np.prod(norms, axis=0) > 0.999).all()
    direction = whole[0] + whole[1]
    np.testing.assert_allclose(held @ direction, whole @ direction, rtol=0.05)


@pytest.mark.parametrize(("kind", "refused"), [("full", True), ("lora", False)])
def test_settings_that_train_all_weights_are_refused_beforehand(kind, refused):
    config = Config(quantize="int8")
    model = Model(base(), CFG, None, "tiny", Path(), (1,), 0)
    with pytest.raises(InputError, match="--quantize int8") if refused else nullcontext():
        config.check_adapter(kind, model, 2)
