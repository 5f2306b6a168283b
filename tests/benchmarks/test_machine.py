"""The device that is measured, and what is measured on it."""

import sys
from dataclasses import replace

import pytest

from benchmarks import diagnostics, generate, growth, score, sweep, train_step
from benchmarks.harness import Goal
from benchmarks.machine import Device, device
from benchmarks.models import SHAPES, peer_device
from benchmarks.workers import BenchmarkError

CASED = (train_step, generate, score, diagnostics)
GPU = Device("gpu", "NVIDIA H100 80GB HBM3", 1)


def test_the_device_is_that_of_jax():
    import jax

    assert device().platform == jax.default_backend()
    assert device() is device()  # asked for once


@pytest.mark.parametrize(
    ("machine", "folder"),
    [
        (GPU, "nvidia-h100-80gb-hbm3"),
        (Device("cpu", "cpu", 8), "cpu"),
        (Device("tpu", "TPU v5 lite", 4), "tpu-v5-lite"),
    ],
)
def test_the_folder_of_a_device_is_its_kind(machine, folder):
    assert machine.folder == folder
    assert machine.accelerator == (folder != "cpu")


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("module", CASED, ids=lambda m: m.__name__)
def test_large_models_in_bfloat16_are_for_accelerators(module, quick):
    on_cpu, on_gpu = (module.settings(accelerator, quick) for accelerator in (False, True))
    assert {s["dtype"] for s in on_cpu} == {"float32"}
    assert {s["dtype"] for s in on_gpu} == {"bfloat16"}
    assert "7B" not in {s["shape"] for s in on_cpu}
    assert "0.5B" in {s["shape"] for s in on_gpu}
    assert {s["shape"] for s in on_cpu + on_gpu} <= {"shipped", *SHAPES}


def goals(module, accelerator: bool, quick: bool = False):
    """(shape, batch or adapter, what the goal is of, aim) of the settings that have one."""
    return {
        (s["shape"], s.get("batch", s.get("adapter")), goal.of, goal.aim)
        for s in module.settings(accelerator, quick)
        if (goal := module.find_goal(s, accelerator)) is not None
    }


@pytest.mark.parametrize("quick", [False, True])
def test_an_accelerator_has_goals_of_its_ceilings(quick):
    assert goals(train_step, True, quick) == {("7B", "lora", "mfu", 0.5)}
    assert goals(generate, True, quick) == {
        (shape, 1, "bandwidth", 0.6) for shape in ("0.5B", "7B")
    }
    sweep_goals = {sweep.find_goal(students, True) for students in sweep.cases(True, quick)[0]}
    assert sweep_goals - {None} == {Goal(20.0)}


def test_a_cpu_keeps_its_goals():
    assert {of for *_, of, _ in goals(train_step, False)} == {"ratio"}
    assert goals(generate, False) == {("shipped", 256, "ratio", 4.0)}
    assert [n for n in sweep.cases(False, False)[0] if sweep.find_goal(n, False)] == [16]


def test_students_are_spread_over_the_accelerators_that_there_are():
    assert "devices" not in growth.choose_sizes(GPU, quick=False)
    many = growth.choose_sizes(replace(GPU, count=4), quick=False)
    assert many["devices"] == [1, 2, 4]
    assert growth.choose_sizes(Device("cpu", "cpu", 1), quick=False) == growth.SIZES
    assert growth.choose_sizes(GPU, quick=True) == growth.QUICK_SIZES


def test_the_peer_computes_where_we_do(monkeypatch):
    torch = pytest.importorskip("torch", reason="parity needs torch: install the parity extra")
    for available in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert peer_device({"platform": "cpu"}) == "cpu"
    assert peer_device({"platform": "gpu"}) == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BenchmarkError, match="torch .* sees no CUDA"):
        peer_device({"platform": "gpu"})


def test_the_parent_of_the_benchmarks_imports_no_framework():
    import subprocess

    code = (
        "import sys\nfrom benchmarks import all, diagnostics, generate, growth, score, sweep, "
        "train_step\nprint({'torch', 'datasets', 'tyro', 'transformers'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout == "set()\n", ended.stderr
