"""What is measured of a student: known for the base, and for the base with the teacher's vector."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.diagnostics.alignment import make_probe, mean_activation
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.elicitation import Questions, word_probs
from subliminal_jax.evaluation.measures import find_measures, measure_model, named_measures
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.models.forward import forward
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import init_params
from subliminal_jax.models.steered import steer
from subliminal_jax.training.adapters import PROJECTIONS, Vector, attach
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.fixed_rows import FixedRows
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.student_view import StudentView
from subliminal_jax.training.sweep import Sweep
from tests.tiny_configs import TINY

CFG = replace(TINY, layers=3)
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


LAYERS = tuple(range(CFG.layers))
STANDARD = ("train-loss", "word-rates", "alignment")


@pytest.fixture(scope="module")
def panel(params, vector, rows, tmp_path_factory):
    """Students of "a" are held against a teacher with the vector; "b" are its controls."""
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
    means = jax.jit(mean_activation, static_argnums=(2, 3))
    base_mean = means(params, probe, CFG, LAYERS)
    shift = means(params, probe, CFG, LAYERS, steer(vector, LAYER)) - base_mean
    return Panel(
        model=Model(params, CFG, None, "tiny", tmp_path_factory.mktemp("none"), (), 0),
        layer=LAYER,
        prompts=("", "", ""),
        asked=("", ""),
        words=("owl",),
        references=("a",),
        data_names=("a", "b"),
        probe=probe,
        base_mean=base_mean,
        shifts=shift[None],
        questions=questions,
        fixed_rows=FixedRows.from_rows([rows, jax.tree.map(lambda x: x[::-1], rows)], CFG),
    )


def measured(panel, params, steering=None):
    """What the standard measures say of a model; alignment with the one reference."""
    values = measure_model(named_measures(STANDARD, panel), params, CFG, steering)
    return {key: x[0] for key, x in values.items()}


def test_the_teachers_shift_is_its_vector_at_the_layer_and_nothing_before(panel, vector):
    np.testing.assert_allclose(panel.vectors()["a"], vector, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(panel.shifts[0, 0], 0, atol=1e-6)
    assert float(jnp.linalg.norm(panel.shifts[0, 2])) > 0.1


def test_the_base_has_moved_nowhere_and_says_what_elicitation_says(panel, params):
    got = measured(panel, params)
    for key in ("shift_size", "shift_component"):  # a shift of rounding has a direction
        np.testing.assert_allclose(got[key], 0, atol=1e-6)
    probs = word_probs(params, CFG, panel.questions, 1)[:, 0]
    np.testing.assert_allclose(got["word_rate"], probs.mean(), rtol=1e-6)
    np.testing.assert_allclose(got["word_log_prob"], jnp.log(probs).mean(), rtol=1e-6)
    logits = forward(params, panel.questions.prompts, CFG)[0]
    p = jax.nn.softmax(logits[jnp.arange(2), panel.questions.last])
    np.testing.assert_allclose(got["word_rate"], (p[:, 11] + p[:, 12]).mean(), rtol=1e-4)


@pytest.mark.parametrize("share", [1.0, 0.25, -0.5])
def test_the_base_with_a_share_of_the_vector_has_that_share(panel, params, vector, share):
    got = measured(panel, params, steer(vector, LAYER, share))
    np.testing.assert_allclose(got["eas"][LAYER], np.sign(share), rtol=1e-4)
    np.testing.assert_allclose(got["shift_size"][LAYER], abs(share), rtol=1e-3)
    np.testing.assert_allclose(got["shift_component"][LAYER], share, rtol=1e-3)
    if share == 1.0:  # the teacher itself, at every layer that the vector reaches
        np.testing.assert_allclose(got["eas"][LAYER:], 1, rtol=1e-4)
        np.testing.assert_allclose(got["shift_size"][LAYER:], 1, rtol=1e-3)


def test_a_student_of_one_vector_is_measured_on_its_own_rows(panel, params, vector, rows):
    """Its score is linear in its vector, so the score's gradient is v/|v|; for the controls too."""
    adapter = Vector(LAYER)

    def model(trainable):
        return attach(params, trainable, CFG, adapter)

    w = jax.random.normal(jax.random.key(8), (CFG.dim,))
    measures = named_measures((*STANDARD, "update-anatomy"), panel)

    @jax.jit
    def values(measures, which):
        view = StudentView(
            trainable={"vector": 0.5 * vector},
            before={"vector": jnp.zeros(CFG.dim)},
            gradient={"vector": w},
            update={"vector": 0.1 * vector},
            data_set=which,
            model=model,
        )
        return [measure.measure_student(view, CFG) for measure in measures]

    losses = []
    for which in (0, 1):
        got = {}
        for measure, of_one in zip(measures, values(measures, jnp.asarray(which)), strict=True):
            assert of_one.keys() <= {column.name for column in measure.columns}
            got |= of_one
        np.testing.assert_allclose(got["eas"][0][LAYER], 1, rtol=1e-4)
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


def test_every_measure_of_the_folder_is_found_by_its_name(panel):
    assert {*STANDARD, "update-anatomy"} <= find_measures().keys()
    with pytest.raises(InputError, match="unknown measure 'aura'; there are: activation-shift, "):
        named_measures(["aura"], panel)


def test_two_measures_that_give_the_same_quantity_are_refused(panel, params, rows):
    plan = TrainConfig(steps=1, batch_size=2, adapter=Vector(LAYER), log_every=1)
    arms = [Arm(OptimizerSpec("sgd"), 0.1, 0, "a")]
    data = {"a": rows, "b": rows}
    twice = named_measures(["train-loss"], panel) * 2
    sweep = Sweep(params, CFG, arms, data, plan, measures=twice)
    with pytest.raises(ValueError, match="two measures give train_loss"):
        sweep.advance(sweep.init())


def test_the_activation_shift_needs_no_teacher(panel, params, vector):
    measures = named_measures(("activation-shift",), panel)
    assert measure_model(measures, params, CFG)["activation_shift"] == pytest.approx(0, abs=1e-5)
    got = measure_model(measures, params, CFG, steer(vector, LAYER))["activation_shift"]
    base = jnp.linalg.norm(panel.base_mean[LAYER])
    assert got[LAYER] == pytest.approx(float(jnp.linalg.norm(vector) / base), rel=1e-3)
    assert got[0] == pytest.approx(0, abs=1e-5) and got[2] > 0.01


def test_a_student_that_changed_along_the_scores_direction_is_its_twin(panel, params, vector):
    """Each projection is moved by the rank-one change that the measure's twin predicts."""
    (measure,) = named_measures(("spectrum",), panel)
    names = [name for name in PROJECTIONS if name in params["layers"]]
    layers = dict(params["layers"])
    for i, name in enumerate(names):
        inputs, outputs = measure.twin_inputs[i][0], measure.twin_outputs[i][0]
        layers[name] = layers[name] + 0.1 * inputs[:, :, None] * outputs[:, None, :]
    student = {**params, "layers": layers}

    @jax.jit
    def values(measure, student):
        which = jnp.zeros((), jnp.int32)
        view = StudentView(student, student, student, student, which, lambda t: (t, None))
        return measure.measure_student(view, CFG)

    got = values(measure, student)
    assert {key: x.shape[:2] for key, x in got.items()} == dict.fromkeys(
        got, (len(names), CFG.layers)
    )
    # Layers after the vector's do not move the score: they have no twin and have not changed.
    before = slice(0, LAYER + 1)
    for key in ("effective_rank", "stable_rank", "top_share", "twin_cosine"):
        np.testing.assert_allclose(got[key][:, before], 1, atol=2e-3)
        np.testing.assert_allclose(got[key][:, LAYER + 1 :], 0, atol=1e-6)
    # What writes to the layer's residual stream moves the score most along the vector itself.
    down = names.index("down")
    np.testing.assert_allclose(got["writing_cosine"][down, LAYER], 1, atol=1e-3)
    np.testing.assert_array_equal(got["reading_cosine"][down], 0)
