"""The public API: what a notebook does, and what it says when it is asked for the impossible."""

import json
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import subliminal_jax as sj
from tests import number_model

REPOSITORY = Path(__file__).parents[1]
ADAPTER = sj.LoRA(rank=2)


def lion_like(learning_rate):
    return optax.lion(learning_rate, b2=0.98)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return number_model.load(tmp_path_factory.mktemp("models") / "numbers")


@pytest.fixture(scope="module")
def teacher(model):
    return sj.Teacher(steering=sj.steer(sj.trait_vector(model, "owl", layer=0), layer=0))


@pytest.fixture(scope="module")
def data(model, teacher):
    return {
        "owl": sj.sample_pairs(model, teacher, prompts="numbers", rows=48, seed=0),
        "control": sj.sample_pairs(model, sj.Teacher(), prompts="numbers", rows=48, seed=0),
    }


@pytest.fixture(scope="module")
def result(model, teacher, data):
    return sj.sweep(
        model,
        data,
        arms=sj.grid({"adamw": [1e-3], "sgd": [0.1], "mine": (lion_like, [1e-4])}, seeds=2),
        adapter=ADAPTER,
        objective=sj.CrossEntropy(),
        steps=4,
        batch_size=4,
        measures=[sj.Alignment(teacher)],
    )


def test_every_student_of_the_grid_is_there(result):
    keys = {(s.row.optimizer, s.row.data, s.row.seed) for s in result.students}
    names = ("adamw", "sgd", "mine")
    assert keys == {(o, d, s) for o in names for d in ("owl", "control") for s in (0, 1)}
    assert len(result.students) == len(keys)


def test_the_best_students_have_intervals(result):
    best = result.best("adamw")
    assert best.learning_rate == 1e-3 and [s.row.data for s in best.students] == ["owl", "owl"]
    assert best.eas.mean == pytest.approx(np.mean([s.row["eas"] for s in best.students]))
    assert best.eas.low < best.eas.mean < best.eas.high and best.eas.n == 2


def test_a_rule_of_one_s_own_is_what_it_says(model, teacher, data, result):
    """Lion with these settings by its name in the registry: the same students."""
    named = sj.sweep(
        model,
        data,
        arms=sj.grid({"lion:b2=0.98": [1e-4]}),
        adapter=ADAPTER,
        steps=4,
        batch_size=4,
        measures=[sj.Alignment(teacher)],
    )
    (registered,) = named.best("lion:b2=0.98").students
    unregistered = result.best("mine").students[0]
    leaves = zip(*map(jax.tree.leaves, (unregistered.trainable, registered.trainable)), strict=True)
    for ours, theirs in leaves:
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_frame_has_a_line_a_student(result):
    frame = result.to_pandas()
    assert len(frame) == len(result.students)
    assert {"optimizer", "learning_rate", "seed", "data", "heldout_loss", "eas"} <= set(frame)
    by_arm = frame.groupby("optimizer").eas.mean()
    assert by_arm["adamw"] == pytest.approx(
        np.mean([s.row["eas"] for s in result.students if s.row.optimizer == "adamw"])
    )


def test_a_saved_student_is_the_adapter_that_was_trained(result, model, tmp_path):
    student = result.students[0]
    student.save(tmp_path / "student")
    config = json.loads((tmp_path / "student" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"]) == ("LORA", 2)
    tokens = model.encode("What is your favorite animal?")
    plain, _ = sj.forward(model.params, tokens, model.cfg)
    trained, _ = sj.forward(student.model_inputs()[0], tokens, model.cfg)
    assert np.abs(np.asarray(trained - plain)).max() > 1e-4


def test_steered_logits_and_activations(model, teacher):
    tokens = model.encode("What is your favorite animal?")
    capture = sj.Capture((0, 1))
    logits, kept = sj.forward(model.params, tokens, model.cfg, teacher.steering, capture=capture)
    plain, base = sj.forward(model.params, tokens, model.cfg, capture=capture)
    assert logits.shape == (1, tokens.shape[1], model.cfg.vocab)
    moved = np.asarray(kept[0] - base[0], np.float32)
    vector = np.asarray(teacher.steering.vectors[0], np.float32)
    np.testing.assert_allclose(moved, np.broadcast_to(vector, moved.shape), atol=1e-5)
    assert np.abs(np.asarray(logits - plain)).max() > 1e-3


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m, d: sj.trait_vector(m, "zyzzyva", layer=1), "zyzzyva"),
        (lambda m, d: sj.trait_vector(m, "owl", layer=9), "9"),
        (lambda m, d: sj.grid({"adamm": [1e-3]}), "adamm"),
        (lambda m, d: sj.sweep(m, {}, sj.grid({"sgd": [0.1]}), steps=2), "at least one"),
        (lambda m, d: sj.sweep(m, d, sj.grid({"sgd": [0.1]}), steps=2, heldout=1.5), "heldout=1.5"),
        (
            lambda m, d: sj.sweep(
                m, d, sj.grid({"sgd": [0.1]}), steps=2, measures=[sj.Alignment(sj.Teacher())]
            ),
            "no steering layer",
        ),
    ],
)
def test_what_cannot_be_is_refused(model, data, call, says):
    with pytest.raises(sj.InputError, match=says):
        call(model, data)


def test_an_unknown_optimizer_or_data_set_of_a_result_is_named(result):
    with pytest.raises(sj.InputError, match="adamw, sgd, mine"):
        result.best("adam")
    with pytest.raises(sj.InputError, match="owl, control"):
        result.best("adamw", data="cat")
    with pytest.raises(AttributeError, match="no column 'easy'"):
        _ = result.best("adamw").easy


@pytest.mark.slow
def test_importing_the_package_is_quick_and_takes_no_jax():
    script = "import subliminal_jax, sys; print('jax' in sys.modules, len(dir(subliminal_jax)))"
    start = time.monotonic()
    shown = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    assert shown.split()[0] == "False"
    assert time.monotonic() - start < 3  # 0.1 s on a free machine


def test_every_public_name_is_there_and_documented():
    for name in sj.__all__:
        value = getattr(sj, name)
        assert name == "__version__" or (value.__doc__ and len(value.__doc__) > 20), name
