"""Many devices and processes give what one device gives; each holds and reads its own part.

Eight virtual CPU devices in a process of their own, then two processes of four that meet on this
machine: what they compute is in tests/mesh_results.py and tests/mesh_processes.py.
"""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from subliminal_jax import processes
from subliminal_jax.errors import InputError
from subliminal_jax.models.mesh import (
    axis_size,
    check_divides,
    make_mesh,
    param_shardings,
    shard,
    use_devices,
    weight_axes,
)
from subliminal_jax.models.spec import leaves
from subliminal_jax.models.weights import load_params, save_params
from subliminal_jax.runs.settings import ModelSettings
from subliminal_jax.training.adapters import Full, LoRA, Vector, init_trainable, trainable_axes
from subliminal_jax.training.placement import check_rows, shards_students
from tests import number_model
from tests.mesh_results import CFG
from tests.models.families import FAMILIES, noisy_params

# Of a leaf's largest value, in float32: sums over places are added in another order. Measured:
# 3e-5 after four steps of training, 2e-6 elsewhere.
TOLERANCE = 2e-4
PARTS = ("sampling", "scoring", "diagnostics", "students", "rows")
MESHES = ("2x4", "8x1", "4x2")
# On 8x1 only training is tried.
CASES = [(m, p) for m in MESHES for p in PARTS if m != "8x1" or p in ("students", "rows")]


def _start(log: Path, devices: int, module: str, *arguments: object) -> subprocess.Popen:
    flags = (
        # On few cores a virtual device waits long for the others.
        "--xla_cpu_collective_call_warn_stuck_timeout_seconds=300 "
        "--xla_cpu_collective_call_terminate_timeout_seconds=600 "
        f"--xla_force_host_platform_device_count={devices}"
    )
    # Into a file: a pipe that nobody reads would stop a process for which the others wait.
    with log.open("w") as opened:
        return subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            env={
                **os.environ,
                "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}",
                "JAX_PLATFORMS": "cpu",
                "JAX_ENABLE_COMPILATION_CACHE": "false",  # no other test has these programs
            },
            cwd=Path(__file__).parents[1],
            stdout=opened,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What all devices left: MESH.npz, process-0.json, process-1.json and what these name."""
    folder = tmp_path_factory.mktemp("mesh")
    (folder / "weights").mkdir()
    save_params(folder / "weights", noisy_params(CFG), CFG)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    log = folder / "meshes.log"
    meshes = _start(log, 8, "tests.mesh_results", folder, "alone", "2x4", "8x1")
    assert meshes.wait(timeout=900) == 0, log.read_text()[-3000:]
    logs = [folder / f"process-{which}.log" for which in (0, 1)]
    both = [
        _start(log, 4, "tests.mesh_processes", folder, port, which)
        for which, log in enumerate(logs)
    ]
    try:
        for process, log in zip(both, logs, strict=True):
            assert process.wait(timeout=900) == 0, log.read_text()[-3000:]
    finally:
        for process in both:
            process.kill()
    return folder


@pytest.mark.parametrize(("mesh", "part"), CASES)
def test_a_mesh_gives_what_one_device_gives(folder, mesh, part):
    with np.load(folder / "alone.npz") as alone, np.load(folder / f"{mesh}.npz") as sharded:
        names = [name for name in alone if name.startswith(f"{part}.")]
        assert names
        for name in names:
            if not name.endswith(".padding"):
                _assert_close(sharded[name], alone[name], name)


def test_rows_are_packed_on_every_place_of_a_mesh(folder):
    """Eight rows of seven tokens in arrays of sixteen; of eight places each has one row."""
    share = {}
    for mesh in ("alone", *MESHES):
        with np.load(folder / f"{mesh}.npz") as numbers:
            share[mesh] = float(numbers["rows.padding"])
    assert share["alone"] < 0.4 and share["2x4"] < 0.4 < 0.5 < share["8x1"]


@pytest.mark.parametrize("mesh", MESHES)
def test_a_run_goes_on_under_another_mesh(folder, mesh):
    """From the checkpoint of the mesh before: of one device, of 2 x 4, of 8 x 1."""
    with np.load(folder / "alone.npz") as alone, np.load(folder / f"{mesh}.npz") as sharded:
        names = [name for name in sharded if "resumed" in name]
        assert names
        for name in names:
            _assert_close(sharded[name], alone[name.replace("resumed.", "")], name)


def _assert_close(actual, expected, name):
    assert actual.dtype == expected.dtype and actual.shape == expected.shape, name
    if np.issubdtype(expected.dtype, np.floating):
        scale = float(np.abs(expected).max()) + 1e-9
        np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * scale, err_msg=name)
    else:
        np.testing.assert_array_equal(actual, expected, err_msg=name)


def test_each_process_reads_its_own_part_of_the_weights(folder):
    """`model` runs across both processes: what is cut is read once, what is whole by each."""
    said = [json.loads((folder / f"process-{i}.json").read_text()) for i in (0, 1)]
    with jax.sharding.use_abstract_mesh(_abstract(1, 8)):
        cut = {path: any(weight_axes(info.axes, CFG, info.shape)) for path, info in leaves(CFG)}
    sizes = {path: 4 * int(np.prod(info.shape)) for path, info in leaves(CFG)}
    assert cut["layers", "up"] and not cut["layers", "q"]
    expected = sum(size if cut[path] else 2 * size for path, size in sizes.items())
    assert said[0]["read"] + said[1]["read"] == expected
    assert said[0]["local_up"] == said[1]["local_up"] == sizes["layers", "up"] // 8


@pytest.mark.parametrize(("name", "dtype"), [("saved", "float32"), ("saved-half", "bfloat16")])
def test_what_processes_load_and_save_in_parts_is_the_whole_model(folder, name, dtype):
    trees = load_params(folder / name, CFG), load_params(folder / "weights", CFG, dtype=dtype)
    for x, y in zip(*map(jax.tree.leaves, trees), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_one_process_writes_a_run_and_all_read_it(folder):
    first, second = (json.loads((folder / f"process-{i}.json").read_text()) for i in (0, 1))
    assert first["first"] and not second["first"]
    for said in (first, second):
        assert said["metrics"] == [{"step": 1}] and said["results"] == {"b": 2}
        assert "its a is 1, and 2 is asked for" in said["error"]
    assert (folder / "run" / "metrics.jsonl").read_text().count("\n") == 1


def _abstract(data: int, model: int) -> AbstractMesh:
    return AbstractMesh((data, model), ("data", "model"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("model", [2, 3, 4])
def test_weights_are_cut_between_heads_and_where_they_divide(family, model):
    cfg = FAMILIES[family]
    counts = {"heads": cfg.heads, "kv_heads": cfg.kv_heads, "mlp": cfg.mlp_dim, "vocab": cfg.vocab}
    with jax.sharding.use_abstract_mesh(_abstract(2, model)):
        for path, info in leaves(cfg):
            expected = tuple(
                "model" if axis in counts and counts[axis] % model == 0 else None
                for axis in info.axes
            )
            assert tuple(weight_axes(info.axes, cfg, info.shape)) == expected, path


@pytest.mark.parametrize("adapter", [Full(), Vector(1), LoRA(2), LoRA(2, targets=("o", "gate"))])
def test_every_trainable_leaf_has_axes(adapter):
    cfg = FAMILIES["gemma3"]
    shapes = jax.eval_shape(
        lambda: init_trainable(jax.random.key(0), noisy_params(cfg), cfg, adapter)
    )
    ranks = jax.tree.map(lambda x: x.ndim, shapes)
    axes = trainable_axes(cfg, adapter)
    assert jax.tree.map(len, axes, is_leaf=lambda x: isinstance(x, tuple)) == ranks


def test_students_are_spread_where_there_are_enough():
    with jax.sharding.use_abstract_mesh(_abstract(8, 1)):
        assert axis_size("data") == 8 and axis_size("model") == 1
        assert shards_students(8) and not shards_students(7)
        check_rows(students=3, rows=16)
        check_rows(students=9, rows=3)
        with pytest.warns(match="3 students are fewer than the 8 devices.*20 rows"):
            check_rows(students=3, rows=20)


def test_what_cannot_be_cut_is_said():
    cfg = number_model.config()
    with jax.sharding.use_abstract_mesh(_abstract(1, 2)), pytest.warns(match="1 key-value heads"):
        check_divides(cfg)
    with (
        jax.sharding.use_abstract_mesh(_abstract(1, 7)),
        pytest.raises(InputError, match="7 devices on the axis model divide none"),
    ):
        check_divides(cfg)


def test_without_a_mesh_nothing_is_touched():
    x = jnp.ones((4, 2))
    assert shard(x, "batch") is x and axis_size("data") == 1 and not shards_students(9)
    assert param_shardings(CFG) is None
    use_devices()  # one device: no mesh is set
    assert jax.sharding.get_mesh().empty


@pytest.mark.parametrize(
    ("data", "model", "message"),
    [
        (2, 1, "2 x 1 needs 2 devices; JAX sees 1"),
        (None, 2, "1 devices cannot be divided by model=2"),
        (1, 0, "1 x 0 devices is not valid"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused(data, model, message):
    with pytest.raises(InputError, match=message):
        make_mesh(data, model)


def test_flags_ask_for_devices_and_are_no_part_of_a_runs_configuration(tmp_path):
    asked = ModelSettings(out=tmp_path, data_parallel=2, model_parallel=3, coordinator="host:1")
    assert asked.recorded() == ModelSettings(out=tmp_path).recorded()
    with pytest.raises(InputError, match="needs the number of processes"):
        asked.load()
    with pytest.raises(InputError, match="2 x 3 needs 6 devices"):
        replace(asked, coordinator="").load()


def test_processes_that_cannot_meet_are_refused():
    with pytest.raises(InputError, match="needs the number of processes and the id of this one"):
        processes.connect("localhost:1234")
    with pytest.raises(InputError, match="did not meet at auto"):
        processes.connect("auto")  # JAX runs already, and this is no cluster
    assert processes.is_first() and not processes.is_multi_process()
    assert processes.run_on_first(lambda: [1, "a"]) == [1, "a"]
