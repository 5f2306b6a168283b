"""A user's own optax rule: as a builder, registered, or named on the command line."""

import functools
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import ModelSettings, StudentSettings
from subliminal_jax.training.adapters import LoRA
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.optimizers import (
    OPTIMIZERS,
    Hyper,
    OptimizerSpec,
    describe,
    make_optimizer,
    register_optimizer,
)
from subliminal_jax.training.optimizers.registry import _entries
from subliminal_jax.training.optimizers.stacking import restack, unstack
from subliminal_jax.training.sweep import Sweep
from tests.training.tiny import CFG, base, close, rows

MODULE = """
import optax

def my_lion(learning_rate, b2=0.98, nesterov=False, mask=None):
    return optax.lion(learning_rate, b2=b2)

def no_rule(learning_rate):
    return learning_rate

def no_schedule(learning_rate):
    return optax.sgd(2 * learning_rate)

answer = 42
"""


@dataclass(frozen=True, kw_only=True)
class Config(StudentSettings, ModelSettings):
    """Settings of an experiment."""

    out: Path = Path("run")


def my_adamw(learning_rate, weight_decay=0.0):
    return optax.adamw(learning_rate, weight_decay=weight_decay)


def tree(seed: int):
    """Two stacked LoRA pairs and a vector; no two leaves of one size."""
    shapes = {"layers": {"q": {"a": (2, 5, 3), "b": (2, 3, 4)}}, "vector": (7,)}
    leaves, structure = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    drawn = [jax.random.normal(key, shape) for key, shape in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the current folder."""
    name = f"rules_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / f"broken_{name}.py").write_text("import not_installed_anywhere\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    return name


@pytest.mark.parametrize(
    "rule",
    [
        # A norm over the tree, over a leaf, and a decomposition of a matrix.
        lambda rate: optax.chain(optax.clip_by_global_norm(0.5), optax.adam(rate)),
        lambda rate: optax.chain(optax.scale_by_trust_ratio(), optax.sgd(rate)),
        lambda rate: optax.contrib.muon(rate, ns_steps=2),
    ],
    ids=["global", "leaf", "matrix"],
)
def test_a_builder_sees_one_leaf_a_layer_and_one_matrix_a_projection(rule):
    params, gradients = tree(0), [tree(seed) for seed in (1, 2)]
    lifted, unlifted = make_optimizer(rule, 0.1), rule(0.1)
    split = unstack(params)
    assert sorted(x.ndim for x in jax.tree.leaves(split)) == [1, 2, 2, 2, 2]
    state, split_state = lifted.init(params), unlifted.init(split)
    for gradient in gradients:
        updates, state = lifted.update(gradient, state, params, value=0.0)
        expected, split_state = unlifted.update(unstack(gradient), split_state, split)
        close(updates, restack(expected, params), rtol=1e-6)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(jnp.float32)}


def test_a_rule_that_asks_for_the_loss_gets_it_as_a_function_of_what_it_sees():
    def follow_the_loss(learning_rate):
        def update(updates, state, params=None, *, obj_fn, **extra):
            return jax.tree.map(lambda g: -g, jax.grad(obj_fn)(params)), state

        return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)

    def loss(params):
        return sum(jnp.sum(x**3) for x in jax.tree.leaves(params))

    params = tree(0)
    optimizer = make_optimizer(follow_the_loss, 0.1)
    updates, _ = optimizer.update(params, optimizer.init(params), params, obj_fn=loss)
    close(updates, jax.tree.map(lambda x: -3 * x**2, params), rtol=1e-6)


def test_a_sweep_trains_a_builder_like_the_same_rule_of_the_registry():
    config = TrainConfig(steps=2, batch_size=4, adapter=LoRA(rank=2), log_every=2)
    arms = [Arm(optimizer, 0.01, 0, "x") for optimizer in ("adamw", my_adamw)]
    sweep = Sweep(base(), CFG, arms, {"x": rows(8)}, config)
    state, metrics = sweep.advance(sweep.init())
    ours, registered = (jax.tree.map(lambda x, i=i: x[i], sweep.students(state)) for i in (1, 0))
    close(ours, registered, rtol=1e-5)
    assert float(jnp.abs(ours["layers"]["q"]["b"]).max()) > 1e-3
    assert [arm.optimizer.label for arm in sweep.arms] == ["adamw", "my_adamw"]
    assert not metrics["diverged"].any()


def test_two_builders_of_one_name_cannot_be_told_apart():
    config = TrainConfig(steps=2, batch_size=4, log_every=2)
    arms = [
        Arm(rule, 0.01, 0, "x") for rule in (lambda lr: optax.sgd(lr), lambda lr: optax.adam(lr))
    ]
    with pytest.raises(InputError, match="two optimizers of one sweep are called '<lambda>'"):
        Sweep(base(), CFG, arms, {"x": rows(8)}, config)


def test_a_registered_optimizer_is_one_like_the_others():
    before = dict(_entries)
    try:
        hyper = {"weight_decay": Hyper(0.0, below=0.5)}
        register_optimizer("mine", my_adamw, grid=[1e-2, 1e-3], hyper=hyper)
        spec = OptimizerSpec.parse("mine:weight_decay=0.1")
        assert OptimizerSpec.parse(spec.label) == spec and spec.entry.grid == (1e-3, 1e-2)
        assert describe()[-1]["name"] == "mine"
        params = tree(0)
        pair = [make_optimizer(s, 0.1) for s in (spec, "adamw:weight_decay=0.1")]
        close(*(o.update(tree(1), o.init(params), params)[0] for o in pair))
        with pytest.raises(InputError, match="weight_decay=0.5: must be at least 0 and less than"):
            OptimizerSpec.parse("mine:weight_decay=0.5")
        with pytest.raises(InputError, match="'adamw' is taken by the package"):
            register_optimizer("adamw", my_adamw)
        with pytest.raises(InputError, match="'a:b': use letters"):
            register_optimizer("a:b", my_adamw)
    finally:
        _entries.clear()
        _entries.update(before)
    assert "mine" not in OPTIMIZERS


def test_a_function_of_a_module_in_the_current_folder_is_an_optimizer(module):
    spec = OptimizerSpec.parse(f"{module}:my_lion, b2=0.95")
    assert spec.label == f"{module}:my_lion,b2=0.95"
    assert OptimizerSpec.parse(spec.label) == spec == OptimizerSpec.parse(spec.label)
    assert spec.entry.defaults == {"b2": 0.98, "nesterov": False}
    params = tree(0)
    pair = [make_optimizer(s, 0.1) for s in (spec, "lion:b2=0.95,weight_decay=0.001")]
    close(*(o.update(tree(1), o.init(params), params)[0] for o in pair))
    settings = StudentSettings(optimizers=(spec.label,), rates=(f"{spec.label}=1e-3,1e-2",))
    assert settings.learning_rates() == {spec: (1e-3, 1e-2)}
    with pytest.raises(InputError, match=f"no default .*--rates {module}:my_lion,b2=0.95=1e-3"):
        StudentSettings(optimizers=(spec.label,)).learning_rates()


def test_a_run_whose_optimizers_file_has_changed_is_not_continued(module, tmp_path):
    settings = Config(optimizers=(f"{module}:my_lion,b2=0.95", "sgd"), out=tmp_path / "run")
    recorded = settings.recorded()
    assert list(recorded["optimizer_sources"]) == [f"{module}:my_lion"]
    assert "optimizer_sources" not in Config().recorded()
    with RunFolder.open(settings.out, recorded) as run:
        run.log({"step": 1})
    with RunFolder.open(settings.out, settings.recorded()):
        pass
    file = tmp_path / f"{module}.py"
    file.write_text(file.read_text().replace("answer = 42", "answer = 43"))
    with pytest.raises(InputError, match=f"the file of the optimizer {module}:my_lion has changed"):
        RunFolder.open(settings.out, settings.recorded())


def test_the_command_of_the_documented_example_is_read_in_its_folder(monkeypatch):
    folder = Path(__file__).parents[2] / "docs" / "examples"
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    command = (folder / "rms_momentum.py").read_text().split("\n\n")[2]
    words = shlex.split(command.replace("\\\n", ""))
    assert words[0] == "subliminal-jax" and words[4] == "--optimizers"
    rates = words.index("--rates")
    settings = StudentSettings(optimizers=tuple(words[5:rates]), rates=tuple(words[rates + 1 :]))
    grids = {spec.label: grid for spec, grid in settings.learning_rates().items()}
    assert grids["rms_momentum:rms_momentum,decay=0.95"] == (1e-4, 3e-4, 1e-3)
    assert list(grids) == words[5:rates]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adamv:lion", "no module 'adamv'.*current folder; did you mean adam"),
        ("no.such:lion", "no module 'no'"),
        ("{module}:my_lyon", "no function 'my_lyon'; did you mean my_lion"),
        ("{module}:answer", "no function 'answer'"),
        ("{module}:no_rule", "returns a function, not an optax.GradientTransformation"),
        ("{module}:no_schedule", "fails on a learning-rate schedule .*TypeError"),
        ("{module}:my_lion,b3=1", "unknown hyper-parameter of {module}:my_lion 'b3'.*known: b2"),
        ("{module}:my_lion,b2=x", "b2=x: expected a number"),
        ("{module}:my_lion,b2", "write it as {module}:my_lion,key=value, with keys among b2"),
        ("broken_{module}:rule", "imports ModuleNotFoundError.*not_installed_anywhere"),
    ],
)
def test_what_is_no_optimizer_is_one_clear_line(module, text, message):
    with pytest.raises(InputError, match=message.format(module=module)) as error:
        OptimizerSpec.parse(text.format(module=module))
    assert "\n" not in str(error.value)


def test_a_partial_is_called_by_its_function():
    spec = OptimizerSpec.from_builder(functools.partial(my_adamw, weight_decay=0.1))
    assert spec.label == "my_adamw" and hash(spec) == hash(spec)


def test_the_installed_command_finds_the_current_folder(module, tmp_path):
    """Its own folder, not the current one, is where a script imports from."""
    script = tmp_path / "bin" / "script.py"
    script.parent.mkdir()
    script.write_text(
        "from subliminal_jax.training.optimizers import OptimizerSpec\n"
        f"print(OptimizerSpec.parse('{module}:my_lion').label)\n"
    )
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == f"{module}:my_lion", done.stderr
