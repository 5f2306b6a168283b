"""How seconds and memory of a training step grow over batch, length, depth, vocabulary, students
and devices.

    python -m benchmarks.growth [--quick]

No peer: each axis is varied alone from one setting (LoRA rank 8 on a random model, AdamW), every
size in a process of its own, all of an axis asked in turn for a step. Seconds are those of the
fastest step, by the clock and of the CPU; memory is what XLA plans for temporaries of the compiled
program, with the peak of the process beside it. The exponent is the slope of a line through the
logarithms, with its 95% t interval, and `last` the slope between the two largest sizes: small sizes
are held up by what does not grow. On several devices each trains one student; those of a CPU are
virtual and share the cores of one machine, so that linear is the best there can be.

Expected: no exponent of seconds or memory above 1, but for length, where attention is quadratic. A
goal counts as missed where the whole interval is above. A full run draws growth.png beside the
device's results.
"""

import argparse
import contextlib
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.machine import Device, describe_machine, device
from benchmarks.workers import BenchmarkError, Peak, Repetition, Setting, Work, Worker
from subliminal_jax.errors import InputError
from subliminal_jax.files import atomic_path, plain_json

SHAPE = {
    "vocab": 2048,
    "dim": 128,
    "layers": 4,
    "heads": 8,
    "kv_heads": 4,
    "head_dim": 16,
    "mlp_dim": 384,
}
BASE = {"batch": 16, "length": 64, "depth": 4, "vocabulary": 2048, "students": 1, "devices": 1}
SIZES: dict[str, Sequence[int]] = {
    "batch": (8, 16, 32, 64, 128),
    "length": (64, 128, 256, 512, 1024),
    "depth": (2, 4, 8, 16, 32),
    "vocabulary": (2048, 4096, 8192, 16_384, 32_768),
    "students": (1, 2, 4, 8, 16),
    "devices": (1, 2, 4, 8),
}
QUICK_SIZES: dict[str, Sequence[int]] = {"batch": (8, 32, 128), "students": (1, 4, 16)}
LENGTH_BATCH = 2  # rows along the axis of length: the longest then fit a second
STEPS, QUICK_STEPS = 9, 5  # of each size
ALLOWED = {"length": 2.0}  # exponents; 1 for every other axis
MEASURES = ("seconds", "cpu_seconds", "memory_mb")
RESULTS = Path(__file__).with_name("results")


class Point(NamedTuple):
    """One size: the fastest step, XLA's temporaries and the peak of the process (MB, 2^20 bytes),
    and what building and compiling took."""

    size: int
    seconds: float
    cpu_seconds: float
    memory_mb: float
    peak_host_mb: float
    set_up_seconds: float


class Exponent(NamedTuple):
    """The slope of log(value) over log(size), its 95% interval, and that of the last two sizes."""

    value: float
    low: float
    high: float
    last: float


def main(quick: bool) -> list[dict[str, Any]]:
    documents = []
    for axis, sizes in choose_sizes(device(), quick).items():
        points, versions = measure(axis, sizes, QUICK_STEPS if quick else STEPS)
        documents.append(make_document(axis, points, versions))
        print(format_summary(documents[-1]), file=sys.stderr, flush=True)
    return documents


def choose_sizes(machine: Device, quick: bool) -> dict[str, Sequence[int]]:
    """The sizes along each axis. A CPU plays any number of devices; of accelerators there are as
    many as there are, and with fewer than three sizes no exponent."""
    sizes = dict(QUICK_SIZES if quick else SIZES)
    if machine.accelerator and "devices" in sizes:
        counts = [n for n in sizes.pop("devices") if n <= machine.count]
        sizes |= {"devices": counts} if len(counts) >= 3 else {}
    return sizes


def measure(axis: str, sizes: Sequence[int], steps: int) -> tuple[list[Point], dict[str, str]]:
    """The points of one axis, and the versions of the libraries."""
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(f"{axis} {size}", f"{__name__}:point", setting(axis, size)))
            for size in sizes
        ]
        set_ups = [worker.set_up() for worker in workers]
        repetitions = [[worker.repeat() for worker in workers] for _ in range(steps)]
        measured = zip(sizes, set_ups, zip(*repetitions, strict=True), workers, strict=True)
        points = [
            _point(size, *first, reps, worker.peak()) for size, first, reps, worker in measured
        ]
        return points, workers[0].versions()


def setting(axis: str, size: int) -> dict[str, int]:
    """Of one size along one axis."""
    sizes = dict(BASE) | ({"batch": LENGTH_BATCH} if axis == "length" else {}) | {axis: size}
    return sizes | ({"students": size} if axis == "devices" else {})


def point(setting: Setting) -> Work:
    """One training step of all students a repetition."""
    flags = os.environ.get("XLA_FLAGS", "")
    if setting["devices"] > 1:
        flags += f" --xla_force_host_platform_device_count={setting['devices']}"
    os.environ["XLA_FLAGS"] = flags
    import jax
    import jax.numpy as jnp

    from subliminal_jax.models.config import ModelConfig
    from subliminal_jax.models.mesh import use_devices
    from subliminal_jax.models.spec import init_params
    from subliminal_jax.training.adapters import LoRA
    from subliminal_jax.training.arms import Arm, TrainConfig
    from subliminal_jax.training.batch import Batch
    from subliminal_jax.training.optimizers import OptimizerSpec
    from subliminal_jax.training.sweep import Sweep

    use_devices(setting["devices"])
    n, T = setting["batch"], setting["length"]
    shape: Any = SHAPE | {"layers": setting["depth"], "vocab": setting["vocabulary"]}
    cfg = ModelConfig(family="llama", context=T, **shape)
    tokens = np.random.default_rng(0).integers(0, cfg.vocab, (n, T), dtype=np.int32)
    positions = np.broadcast_to(np.arange(T, dtype=np.int32), (n, T))
    rows = Batch(
        jnp.asarray(tokens), jnp.asarray(positions), jnp.asarray(positions >= T // 2, jnp.float32)
    )
    arms = [Arm(OptimizerSpec.parse("adamw"), 1e-3, i, "rows") for i in range(setting["students"])]
    config = TrainConfig(steps=10_000, batch_size=n, adapter=LoRA(8, 16.0), log_every=1)
    sweep = Sweep(init_params(jax.random.key(0), cfg), cfg, arms, {"rows": rows}, config)
    state, _ = sweep.advance(sweep.init())  # on a mesh, lies otherwise than the start
    program = sweep._advance.lower(state, sweep._inputs).compile()
    planned = program.memory_analysis()
    memory = 0.0 if planned is None else planned.temp_size_in_bytes / 2**20

    def repeat() -> None:
        nonlocal state
        state, metrics = program(state, sweep._inputs)
        if not np.isfinite(np.asarray(metrics["batch_loss"])).all():
            raise BenchmarkError("the loss is not finite: nothing is measured of such a step")
        jax.block_until_ready(state)

    repeat()
    return Work(repeat, notes={"memory_mb": memory * setting["devices"]})


def _point(
    size: int,
    set_up: Repetition,
    notes: Mapping[str, Any],
    repetitions: Sequence[Repetition],
    peak: Peak,
) -> Point:
    clock, cpu = (min(values) for values in zip(*repetitions, strict=True))
    return Point(size, clock, cpu, notes["memory_mb"], peak.host, set_up.seconds)


def fit_exponent(sizes: Sequence[float], values: Sequence[float]) -> Exponent:
    """Of value ~ size ^ exponent, by least squares on logarithms; needs 3 sizes and positive
    values."""
    from scipy import stats

    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(values, float))
    x_off, y_off = x - x.mean(), y - y.mean()
    slope = float(x_off @ y_off / (x_off @ x_off))
    spread = float(np.sum((y_off - slope * x_off) ** 2)) / (len(x) - 2)
    half = float(stats.t.ppf(0.975, len(x) - 2)) * math.sqrt(spread / float(x_off @ x_off))
    return Exponent(slope, slope - half, slope + half, float((y[-1] - y[-2]) / (x[-1] - x[-2])))


def make_document(axis: str, points: Sequence[Point], versions: dict[str, str]) -> dict[str, Any]:
    """The JSON document of one axis."""
    sizes = [p.size for p in points]
    exponents = {name: fit_exponent(sizes, [getattr(p, name) for p in points]) for name in MEASURES}
    allowed = ALLOWED.get(axis, 1.0)
    within = [exponents[name].low <= allowed for name in ("seconds", "memory_mb")]
    return {
        "benchmark": "growth",
        "setting": {"axis": axis, "sizes": sizes, "base": setting(axis, sizes[0])},
        "points": [p._asdict() for p in points],
        "exponents": {name: fitted._asdict() for name, fitted in exponents.items()},
        "goal": {"exponent": allowed, "reached": all(within)},
        "machine": describe_machine(versions),
    }


def format_summary(document: dict[str, Any]) -> str:
    """One line for people."""
    texts = []
    for name in MEASURES:
        e = document["exponents"][name]
        texts.append(
            f"{name} {e['value']:.2f} [{e['low']:.2f}, {e['high']:.2f}] (last {e['last']:.2f})"
        )
    goal = "held" if document["goal"]["reached"] else "exceeded"
    text = f"growth over {document['setting']['axis']}: exponents of {', '.join(texts)}"
    return f"{text}; {document['goal']['exponent']:g} {goal}"


def draw_growth(documents: Sequence[dict[str, Any]]) -> Any:
    """A panel an axis: values relative to those of the smallest size, with the allowed growth."""
    from matplotlib.figure import Figure

    from subliminal_jax.reporting.style import NEUTRAL, PALETTE, legend_above, styled

    @styled
    def panels() -> Figure:
        columns = min(3, len(documents))
        rows = math.ceil(len(documents) / columns)
        figure = Figure(figsize=(3.3 * columns, 2.9 * rows), layout="constrained")
        names = {"seconds": "seconds a step", "memory_mb": "memory (XLA temporaries)"}
        handles: dict[str, Any] = {}
        grid = figure.subplots(rows, columns, squeeze=False).flat
        for axes, document in zip(grid, documents, strict=False):
            sizes = np.asarray(document["setting"]["sizes"], float)
            for (name, label), color in zip(names.items(), PALETTE, strict=False):
                values = np.asarray([p[name] for p in document["points"]])
                e = document["exponents"][name]
                (handles[label],) = axes.plot(sizes, values / values[0], "o-", color=color)
                text = f"{e['value']:.2f} [{e['low']:.2f}, {e['high']:.2f}]"
                height = 0.93 - 0.1 * list(names).index(name)
                axes.text(0.05, height, text, color=color, transform=axes.transAxes, fontsize=9)
            limit = document["goal"]["exponent"]
            (guide,) = axes.plot(sizes, (sizes / sizes[0]) ** limit, ":", color=NEUTRAL)
            handles["linear (length: quadratic)"] = guide
            axes.set(xscale="log", yscale="log", xlabel=document["setting"]["axis"])
            axes.set_xticks(sizes, [f"{int(size)}" for size in sizes], fontsize=9)
            axes.minorticks_off()
        for axes in list(figure.axes)[len(documents) :]:
            axes.remove()
        figure.supylabel("relative to the smallest size", fontsize=11)
        legend_above(figure, handles)
        return figure

    return panels()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="benchmarks.growth", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute, no picture")
    options = parser.parse_args()
    try:
        documents = main(options.quick)
    except (InputError, BenchmarkError) as error:
        print(f"benchmarks.growth: error: {error}", file=sys.stderr)
        sys.exit(2)
    if not options.quick:
        picture = RESULTS / device().folder / "growth.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(picture) as temporary:
            draw_growth(documents).savefig(temporary, dpi=150, format="png")
    print(json.dumps(plain_json(documents), indent=1, allow_nan=False))
