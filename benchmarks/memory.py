"""The memory that training programs were predicted to need, against what they needed.

    python -m benchmarks.memory [--case NAME ...] [--json FILE]

How many students go through a pass follows from the compiler's account of the program
(`subliminal_jax/training/memory_plan.py`). Each case runs in a process of its own: a sweep is
compiled, its prediction read, and some steps are made while the peak is measured. On an accelerator
that is the allocator's peak; on a CPU the largest resident set since it was reset, less what was
resident before the steps, which the allocator's own habits blur by some megabytes. The argument's
weights and states are there before and count on neither side.

Expected: predictions between 0.9 and 1.3 times the peak. A prediction below it would let a program
in that does not fit; one far above it trains fewer students at once than would fit.
"""

import ctypes
import gc
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.models import SHAPES, make_config
from benchmarks.train_step import random_rows
from subliminal_jax.errors import InputError
from subliminal_jax.memory import program_bytes, show_bytes
from subliminal_jax.models.hub import load_model
from subliminal_jax.models.spec import init_params
from subliminal_jax.training.adapters import Adapter, Full, LoRA
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.sweep import Sweep

STEPS = 2
STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")  # "5" written to it resets the peak of the resident set


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
      shape: "shipped", or one of `benchmarks.models.SHAPES` with random weights.
      at_once: students of a pass.
      rows, time: of a batch.
    """

    shape: str
    students: int
    at_once: int
    rows: int
    time: int
    adapter: Adapter = LoRA(rank=8)
    remat: str = "none"
    accumulation: int = 1


CASES = {
    "16 students of shipped": Case("shipped", 16, 1, 16, 48),
    "16 students of shipped, 8 in a pass": Case("shipped", 16, 8, 16, 48),
    "512 wide": Case("512x8", 1, 1, 16, 128),
    "512 wide, remat block": Case("512x8", 1, 1, 16, 128, remat="block"),
    "512 wide, four parts": Case("512x8", 1, 1, 16, 128, accumulation=4),
    "512 wide, all weights": Case("512x8", 1, 1, 16, 128, adapter=Full()),
    "SmolLM2's shape": Case("135M", 1, 1, 8, 64),
}


@dataclass(frozen=True)
class Measured:
    """Bytes beside the arguments: as the compiler says, and at most during the steps."""

    case: str
    predicted: int
    peak: int

    @property
    def ratio(self) -> float:
        return self.predicted / self.peak


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      case: those that are measured; all, if none is named.
      json: a file for the numbers.
      alone: measure the one case in this process and print its numbers alone.
    """

    case: tuple[str, ...] = ()
    json: Path | None = None
    alone: bool = False


def measure(name: str) -> Measured:
    """Compile, predict, train and measure one case in this process."""
    case = CASES[name]
    if case.shape == "shipped":
        model = load_model("shipped")
        params, cfg = model.params, model.cfg
    else:
        cfg = make_config(SHAPES[case.shape])
        params = init_params(jax.random.key(0), cfg)
    rows = random_rows(cfg.vocab, {"rows": case.rows, "time": case.time})
    sweep = Sweep(
        params,
        cfg,
        [Arm("adamw", 1e-3, seed, "rows") for seed in range(case.students)],
        {"rows": Batch(*map(jnp.asarray, rows))},
        TrainConfig(
            steps=2 * STEPS,
            batch_size=case.rows,
            adapter=case.adapter,
            accumulation=case.accumulation,
            remat=case.remat,  # type: ignore[arg-type]
            log_every=STEPS,
            students_at_once=case.at_once,
        ),
    )
    state = sweep.init()
    predicted = program_bytes(sweep.compile(state))
    if predicted is None:
        raise InputError("this backend does not say what a program needs")
    state, _ = jax.block_until_ready(sweep.advance(state))  # loads what the first call loads
    meter = start_meter()
    state, _ = jax.block_until_ready(sweep.advance(state))
    return Measured(name, predicted, max(1, meter.read_peak()))


class Meter:
    """The memory of the device beyond what it held when this was made, at most."""

    def __init__(self) -> None:
        self.device = jax.local_devices()[0]
        stats = self.device.memory_stats() or {}
        if "bytes_in_use" in stats:
            self.before = int(stats["bytes_in_use"])
        else:
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            RESET.write_text("5", encoding="ascii")
            self.before = read_status("VmRSS")

    def read_peak(self) -> int:
        """Bytes; of an accelerator since its start, so that steps have to be what needs most."""
        stats = self.device.memory_stats() or {}
        peak = stats.get("peak_bytes_in_use")
        return (read_status("VmHWM") if peak is None else peak) - self.before


def start_meter() -> Meter:
    """Raises InputError where the peak cannot be reset."""
    try:
        return Meter()
    except OSError as error:
        raise InputError(f"the peak of the resident set cannot be reset here: {error}") from None


def read_status(key: str) -> int:
    """A line of this process's status, in bytes."""
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    raise InputError(f"{STATUS} has no {key}")


def measure_apart(name: str) -> Measured:
    """One case in a process of its own.

    Raises InputError with its last line where it fails.
    """
    command = [sys.executable, "-m", "benchmarks.memory", "--alone", "--case", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise InputError(f"{name}: {last}")
    return Measured(**json.loads(done.stdout))


def make_table(measured: list[Measured]) -> Table:
    """Predictions and peaks, a row a case."""
    table = Table(title="Memory of training programs, beside their arguments")
    for title in ("case", "predicted", "peak", "predicted / peak"):
        table.add_column(title)
    for each in measured:
        table.add_row(
            each.case, show_bytes(each.predicted), show_bytes(each.peak), f"{each.ratio:.2f}"
        )
    return table


def main(config: Config) -> None:
    """Raises InputError for a case that there is not."""
    names = config.case or tuple(CASES)
    for name in names:
        if name not in CASES:
            raise InputError(f"there is no case {name!r}; choose {', '.join(CASES)}")
    if config.alone:
        print(json.dumps(asdict(measure(names[0]))))
        return
    measured: list[Measured] = []
    for name in names:
        print(f"memory: {name}", file=sys.stderr, flush=True)
        measured.append(measure_apart(name))
    Console().print(make_table(measured))
    if config.json is not None:
        config.json.write_text(json.dumps([asdict(m) for m in measured]), encoding="utf-8")


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except InputError as error:
        sys.exit(f"memory: {error}")
