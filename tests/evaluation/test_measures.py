"""What is measured of a student: known for the base, and for the base with the teacher's vector."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.diagnostics.alignment import make_probe
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.elicitation import Questions, word_probs
from subliminal_jax.evaluation.measures import StudentMeasure, check_base_loss, measure_context
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.forward import forward
from subliminal_jax.models.spec import init_params
from subliminal_jax.models.steered import steer
from subliminal_jax.training.adapters import Vector, attach
from subliminal_jax.training.fixed_rows import FixedRows
from subliminal_jax.training.sweep import StudentView

CFG = ModelConfig(
    family="llama", vocab=31, dim=16, layers=3, heads=2, kv_heads=1, head_dim=8, mlp_dim=24,
    context=48,
)  # fmt: skip
LAYER = 1


@pytest.fixture(scope="module")
def params():
    return init_params(jax.random.key(0), CFG, std=0.4)


@pytest.fixture(scope="module")
def vector():
    return jax.random.normal(jax.random.key(5), (CFG.dim,))


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(2)
    lengths = [(3, 5), (2, 2), (6, 6), (1, 7)]
    prompts, completions = ([rng.integers(0, 31, n[i]).tolist() for n in lengths] for i in (0, 1))
    return pad_pairs(prompts, completions, 12)


@pytest.fixture(scope="module")
def context(params, vector, rows):
    rng = np.random.default_rng(1)
    probe = make_probe([rng.integers(0, 31, n).tolist() for n in (3, 7, 5)], CFG)
    questions = Questions(
        prompts=jnp.asarray(rng.integers(0, 31, (2, 6)), jnp.int32),
        last=jnp.asarray([5, 3], jnp.int32),
        single=jnp.asarray([11, 12], jnp.int32),
        single_owner=jnp.asarray([0, 0], jnp.int32),
        rows=jnp.zeros((0, 2, 6), jnp.int32),
        spans=jnp.zeros((0, 2, 2), jnp.int32),
        row_owner=jnp.zeros((0,), jnp.int32),
    )
    both = FixedRows.of([rows, jax.tree.map(lambda x: x[::-1], rows)], CFG)
    return measure_context(
        params, CFG, probe=probe, teacher_probe=probe, teacher=steer(vector, LAYER), layer=LAYER,
        questions=questions, rows=both,
    )  # fmt: skip


@pytest.fixture(scope="module")
def measure():
    return StudentMeasure(CFG, LAYER)


def test_the_teachers_shift_is_its_vector_at_the_layer_and_nothing_before(context, vector):
    np.testing.assert_allclose(context.vector, vector, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(context.teacher_shift[0], 0, atol=1e-6)
    assert float(jnp.linalg.norm(context.teacher_shift[2])) > 0.1


def test_the_base_has_moved_nowhere_and_says_what_elicitation_says(context, measure, params):
    got = measure.of_model(context, params, None)
    for key in ("shift_size", "shift_component", "score"):  # a shift of rounding has a direction
        np.testing.assert_allclose(got[key], 0, atol=1e-6)
    probs = word_probs(params, CFG, context.questions, 1)[:, 0]
    np.testing.assert_allclose(got["trait_rate"], probs.mean(), rtol=1e-6)
    np.testing.assert_allclose(got["trait_log_prob"], jnp.log(probs).mean(), rtol=1e-6)
    logits = forward(params, context.questions.prompts, CFG)[0]
    p = jax.nn.softmax(logits[jnp.arange(2), context.questions.last])
    np.testing.assert_allclose(got["trait_rate"], (p[:, 11] + p[:, 12]).mean(), rtol=1e-4)


@pytest.mark.parametrize("share", [1.0, 0.25, -0.5])
def test_the_base_with_a_share_of_the_vector_has_that_share(
    context, measure, params, vector, share
):
    got = measure.of_model(context, params, steer(vector, LAYER, share))
    np.testing.assert_allclose(got["eas"][LAYER], np.sign(share), rtol=1e-4)
    np.testing.assert_allclose(got["shift_size"][LAYER], abs(share), rtol=1e-3)
    np.testing.assert_allclose(got["shift_component"][LAYER], share, rtol=1e-3)
    np.testing.assert_allclose(got["score"], share * jnp.linalg.norm(vector), rtol=1e-3)
    if share == 1.0:  # the teacher itself, at every layer that the vector reaches
        np.testing.assert_allclose(got["eas"][LAYER:], 1, rtol=1e-4)
        np.testing.assert_allclose(got["shift_size"][LAYER:], 1, rtol=1e-3)


def test_a_student_of_one_vector_is_measured_on_its_own_rows(
    context, measure, params, vector, rows
):
    """Its score is linear in its vector, so the score's gradient is v/|v|."""
    adapter = Vector(LAYER)

    def model(trainable):
        return attach(params, trainable, CFG, adapter)

    w = jax.random.normal(jax.random.key(8), (CFG.dim,))
    losses = []
    for which in (0, 1):
        view = StudentView(
            trainable={"vector": 0.5 * vector}, before={"vector": jnp.zeros(CFG.dim)},
            gradient={"vector": w}, update={"vector": 0.1 * vector},
            which=jnp.asarray(which, jnp.int32), model=model,
        )  # fmt: skip
        got = measure(context, view)
        np.testing.assert_allclose(got["eas"][LAYER], 1, rtol=1e-4)
        np.testing.assert_allclose(got["update_cosine"], 1, rtol=1e-4)
        unit = vector / jnp.linalg.norm(vector)
        cosine = w @ unit / jnp.linalg.norm(w)  # of the step that descends
        np.testing.assert_allclose(got["gradient_cosine"], -cosine, rtol=1e-3)
        logits = forward(params, rows.tokens, CFG, steer(0.5 * vector, LAYER))[0]
        log_p = jax.nn.log_softmax(logits[:, :-1])
        picked = jnp.take_along_axis(log_p, rows.tokens[:, 1:, None], axis=-1)[..., 0]
        mask = rows.loss_mask[:, 1:]
        np.testing.assert_allclose(
            got["train_loss"], -(picked * mask).sum() / mask.sum(), rtol=1e-4
        )
        losses.append(float(got["train_loss"]))
    np.testing.assert_allclose(*losses, rtol=1e-5)  # the same rows in another order


def test_rows_on_which_the_base_is_not_finite_are_refused_with_their_number(params, rows):
    check_base_loss(params, CFG, {"steered": rows, "control": rows})
    token = int(rows.tokens[2, 0])
    alone = rows._replace(tokens=jnp.where(rows.tokens == token, (token + 1) % 31, rows.tokens))
    alone = alone._replace(tokens=alone.tokens.at[2, 0].set(token))
    broken = {**params, "embed": params["embed"].at[token].set(jnp.nan)}
    broken["lm_head"] = params["embed"].T  # only the row that reads the token is touched
    untied = ModelConfig(**{**CFG.__dict__, "tied": False})
    with pytest.raises(InputError, match="not finite on 1 of 4 rows of the control data.*row 3"):
        check_base_loss(broken, untied, {"control": alone})
