"""One claim, two processes: interleaved repetitions of the same work, checked to agree.

    pair = run_pair("benchmarks.train_step", setting, effort)   # calls its `ours` and `peer`
    print_documents([document("train_step", setting, pair, equal=..., goal=...)])

Both sides live in processes of their own (`workers`), are set up and warmed once, and are then
asked in turn for one repetition, so that both suffer whatever load there is. The side that goes
first changes with every repetition. The ratio of a repetition is the peer's seconds over ours.
"""

import argparse
import contextlib
import json
import math
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from benchmarks.machine import CeilingMeter, Ceilings, describe_machine, device
from benchmarks.models import scratch
from benchmarks.workers import BenchmarkError, Peak, Repetition, Results, Setting, Worker
from subliminal_jax.errors import InputError
from subliminal_jax.files import plain_json

Document = dict[str, Any]
OUT_OF_TIME = 75  # the exit status of a benchmark whose time was over (EX_TEMPFAIL)


@dataclass(frozen=True)
class Effort:
    """Length of one comparison: `seconds`, but at least `least` and at most `most` repetitions,
    after `warm` repetitions that do not count."""

    seconds: float
    least: int = 5
    most: int = 25
    warm: int = 2


FULL, QUICK = Effort(seconds=30.0), Effort(seconds=15.0, least=3, most=9)
# On an accelerator nothing else runs: repetitions are alike, and few are enough.
ACCELERATOR_FULL, ACCELERATOR_QUICK = (
    Effort(seconds=8.0),
    Effort(seconds=4.0, least=3, most=9),
)

# On an accelerator a side may hold half of the memory: with none of it reserved, JAX asks for twice
# as much at each time that what it has does not suffice, and the peer would find too little.
# Products of float32 are taken in float32, as torch takes them; by default JAX rounds their factors
# to ten bits there (TF32). Neither changes anything on a CPU.
SHARED = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5"}
FLOAT32 = {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}


def effort(quick: bool) -> Effort:
    """The effort on this machine's device."""
    if device().accelerator:
        return ACCELERATOR_QUICK if quick else ACCELERATOR_FULL
    return QUICK if quick else FULL


class Side(NamedTuple):
    """The measurements of one side. `first` is the first repetition, which compiles and fills
    caches; None where every repetition does."""

    repetitions: tuple[Repetition, ...]
    set_up: Repetition
    first: Repetition | None
    results: Results
    notes: Mapping[str, Any]
    peak: Peak

    @property
    def seconds(self) -> float:
        """The median repetition by the clock."""
        return statistics.median(r.seconds for r in self.repetitions)

    @property
    def cpu_seconds(self) -> float:
        """The median repetition in CPU seconds of all threads."""
        return statistics.median(r.cpu_seconds for r in self.repetitions)

    @property
    def compile_seconds(self) -> float | None:
        """Seconds of the first repetition beyond the median; never below 0."""
        return None if self.first is None else max(0.0, self.first.seconds - self.seconds)


class Pair(NamedTuple):
    """Both sides of a comparison, with paired repetitions, and the ceilings measured meanwhile."""

    ours: Side
    peer: Side
    ceilings: Ceilings
    versions: dict[str, str]


class Ratio(NamedTuple):
    """The peer's seconds over ours. `low` to `high` is a 95% interval of the median (order
    statistics; with fewer than six repetitions, the smallest and the largest)."""

    median: float
    low: float
    high: float
    repetitions: int
    cpu_median: float  # of CPU seconds


class Equal(NamedTuple):
    """The largest difference between the sides' results, and the largest allowed; `what` names
    them."""

    what: str
    apart: float
    allowed: float


Measured = Literal["ratio", "mfu", "bandwidth"]


class Goal(NamedTuple):
    """A goal for the median ratio, or for a share of the floor (`shares`). `lower`: less is
    better."""

    aim: float
    lower: bool = False
    of: Measured = "ratio"

    def reached(self, measured: float) -> bool:
        return measured <= self.aim if self.lower else measured >= self.aim


def run_pair(
    module: str, setting: Setting, effort: Effort, sides: tuple[str, str] = ("ours", "peer")
) -> Pair:
    """Set both sides up and measure them in turn; `sides` are functions of `module`.

    "platform" is added to their setting: "cpu" or another, where the peer has to compute. Raises
    BenchmarkError where a side fails. All processes have ended afterwards.
    """
    full_setting = {**setting, "platform": device().platform}
    variables = worker_environment(setting) if device().accelerator else {}
    ours, peer = (Worker(name, f"{module}:{name}", full_setting, variables) for name in sides)
    with ours, peer:
        set_ups = [_warm_up(worker, effort.warm) for worker in (ours, peer)]
        with CeilingMeter() as meter:
            repetitions: list[list[Repetition]] = [[], []]
            start = time.perf_counter()
            while _is_unfinished(len(repetitions[0]), time.perf_counter() - start, effort):
                turn = [(0, ours), (1, peer)]
                for i, worker in turn if len(repetitions[0]) % 2 == 0 else reversed(turn):
                    repetitions[i].append(worker.repeat())
                meter.sample()
            ceilings = meter.ceilings
        our_side, peer_side = (
            Side(tuple(reps), *set_up, peak=worker.peak())
            for reps, set_up, worker in zip(repetitions, set_ups, (ours, peer), strict=True)
        )
        return Pair(our_side, peer_side, ceilings, {**peer.versions(), **ours.versions()})


def worker_environment(setting: Setting) -> dict[str, str]:
    """Environment variables of both sides on an accelerator."""
    return SHARED if setting.get("dtype") == "bfloat16" else {**SHARED, **FLOAT32}


def median_ratio(ours: Sequence[float], peer: Sequence[float]) -> tuple[float, float, float]:
    """(median, low, high) of peer/ours over paired repetitions, as in `Ratio`."""
    ratios = sorted(p / o for o, p in zip(ours, peer, strict=True))
    n = len(ratios)
    cut = 0  # values outside the interval at each end: P(Binomial(n, 1/2) <= cut - 1) <= 2.5%
    while sum(math.comb(n, k) for k in range(cut + 1)) <= 0.025 * 2**n:
        cut += 1
    cut = max(0, cut - 1)
    return statistics.median(ratios), ratios[cut], ratios[n - 1 - cut]


def compute_ratio(pair: Pair) -> Ratio:
    """The ratio of seconds with its interval, and that of CPU seconds."""
    clock = [[r.seconds for r in side.repetitions] for side in (pair.ours, pair.peer)]
    cpu = [[max(r.cpu_seconds, 1e-9) for r in side.repetitions] for side in (pair.ours, pair.peer)]
    return Ratio(*median_ratio(*clock), len(clock[0]), median_ratio(*cpu)[0])


def largest_difference(ours: Results, peer: Results, relative: bool = False) -> float:
    """The largest absolute difference of any result; `relative` to the peer's largest entry of it.

    Raises BenchmarkError where the names or shapes of the results differ, and for numbers that are
    not finite.
    """
    if {k: np.shape(v) for k, v in ours.items()} != {k: np.shape(v) for k, v in peer.items()}:
        shapes = [{k: np.shape(v) for k, v in side.items()} for side in (ours, peer)]
        raise BenchmarkError(f"the sides have results of other shapes: {shapes[0]}, {shapes[1]}")
    worst = 0.0
    for name in ours:
        a, b = (np.asarray(side[name], np.float64) for side in (ours, peer))
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise BenchmarkError(f"the result {name!r} is not finite")
        scale = max(float(np.abs(b).max(initial=0.0)), 1e-30) if relative else 1.0
        worst = max(worst, float(np.abs(a - b).max(initial=0.0)) / scale)
    return worst


def make_document(
    benchmark: str,
    setting: Setting,
    pair: Pair,
    *,
    equal: Equal,
    amount: tuple[float, str] | None = None,
    flops: float | None = None,
    bytes_moved: float | None = None,
    goal: Goal | None = None,
) -> Document:
    """The JSON document of one comparison.

    Args:
      amount: the work of one repetition and its unit, (tokens, "tokens"), for rates per second.
      flops, bytes_moved: the least that one repetition must compute and move, for the floor.
      goal: for the median ratio, or for a share of the floor, which then needs `flops` or
        `bytes_moved`.
    """
    ratio = compute_ratio(pair)
    floor: dict[str, Any] | None = None
    if flops is not None or bytes_moved is not None:
        ceilings = pair.ceilings
        seconds = max((flops or 0.0) / ceilings.flops, (bytes_moved or 0.0) / ceilings.bytes)
        floor = {
            "flops": flops,
            "bytes": bytes_moved,
            "ceiling_flops": ceilings.flops,
            "ceiling_bytes": ceilings.bytes,
            "seconds": seconds,
            "share": seconds / pair.ours.seconds,
        }
        floor |= shares(floor, pair.ours.seconds)
    reached = None
    if goal is not None:
        measured = ratio.median if goal.of == "ratio" else (floor or {})[goal.of]
        reached = goal._asdict() | {"reached": goal.reached(measured)}
    peaks = {"ours": pair.ours.peak, "peer": pair.peer.peak}
    return {
        "benchmark": benchmark,
        "setting": dict(setting),
        "ours": _side_entry(pair.ours, amount),
        "peer": _side_entry(pair.peer, amount),
        "ratio": ratio._asdict(),
        "equal": equal._asdict(),
        "compile_seconds": pair.ours.compile_seconds,
        "peak_memory_mb": {
            name: peak.host if peak.device is None else peak.device for name, peak in peaks.items()
        },
        "imported_memory_mb": {name: peak.imported for name, peak in peaks.items()},
        "floor": floor,
        "goal": reached,
        "machine": describe_machine(pair.versions),
    }


def shares(floor: Mapping[str, Any], seconds: float) -> dict[str, float | None]:
    """What was reached of each ceiling in a repetition of so many seconds; None where the floor
    does not count what it is of.

    `mfu` is the model's FLOPs a second over the product's ceiling: two FLOPs a multiply-add, of
    attention what the causal mask leaves, nothing that is computed again. A LoRA step counts the
    forward pass and the backward pass to the activations, a full one that to the weights as well.
    Only predicted tokens are unembedded. `bandwidth` is the bytes that must move a second (weights
    once a pass, the cache) over the ceiling of a copy.
    """
    return {
        name: floor[counted] / (floor[ceiling] * seconds) if floor.get(counted) else None
        for name, counted, ceiling in (
            ("mfu", "flops", "ceiling_flops"),
            ("bandwidth", "bytes", "ceiling_bytes"),
        )
    }


def print_summary(document: Document) -> None:
    """Print one line on stderr."""
    r, goal, floor = document["ratio"], document["goal"], document["floor"]
    line = (
        f"{document['benchmark']} {_format_setting(document['setting'])}: ratio {r['median']:.2f} "
    )
    line += f"({r['low']:.2f} to {r['high']:.2f}, {r['repetitions']} repetitions; "
    line += f"CPU {r['cpu_median']:.2f}), {document['ours']['seconds']:.4g} s against "
    line += f"{document['peer']['seconds']:.4g} s, {document['equal']['what']} "
    line += f"{document['equal']['apart']:.1e} apart"
    if document["compile_seconds"] is not None:
        line += f", compile {document['compile_seconds']:.1f} s"
    if floor is not None:
        line += f", {100 * floor['share']:.0f}% of the floor"
        for name in ("mfu", "bandwidth"):
            line += "" if floor[name] is None else f", {name} {100 * floor[name]:.0f}%"
    if goal is not None:
        line += f", goal {goal['of']} {goal['aim']:g} "
        line += "reached" if goal["reached"] else "not reached"
    print(line, file=sys.stderr, flush=True)


def print_documents(documents: Sequence[Document]) -> None:
    """Print one JSON document on stdout, or a list of several.

    Raises BenchmarkError where the sides' results differ by more than allowed.
    """
    output = documents[0] if len(documents) == 1 else list(documents)
    print(json.dumps(plain_json(output), indent=1, allow_nan=False), flush=True)
    for document in documents:
        equal = document["equal"]
        if not equal["apart"] <= equal["allowed"]:
            raise BenchmarkError(
                f"{_format_setting(document['setting'])}: the sides' {equal['what']} are "
                f"{equal['apart']:.2g} apart, more than {equal['allowed']:.2g}: their times do not "
                "compare"
            )


def measure_each(
    settings: Callable[[bool, bool], Sequence[dict[str, Any]]],
    measure: Callable[[dict[str, Any], Path, Effort], Document],
    quick: bool,
) -> Iterator[Document]:
    """Yield `measure(setting, models folder, effort)` for each setting of this machine's device,
    `settings(accelerator, quick)`."""
    with scratch() as cache:
        for setting in settings(device().accelerator, quick):
            document = measure(setting, cache, effort(quick))
            print_summary(document)
            yield document


class OutOfTime(Exception):
    """The time that a benchmark was given is over."""


def run_command(module: str, description: str, run: Callable[[bool], Iterable[Document]]) -> None:
    """Run a benchmark from the command line: `python -m benchmarks.<claim> [--quick]`.

    Prints the documents that `run(quick)` yields. Bad input and failed sides end it with one line
    on stderr and status 2, after the documents before them; the end of `--seconds` likewise, with
    the status `OUT_OF_TIME`.
    """
    parser = argparse.ArgumentParser(prog=module, description=description.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="about a minute")
    parser.add_argument("--seconds", type=float, help="after which no more is measured")
    options = parser.parse_args()
    documents: list[Document] = []
    try:
        try:
            with limit_time(options.seconds):
                for document in run(options.quick):  # keeps those before an error
                    documents.append(document)  # noqa: PERF402
        finally:
            if documents:
                print_documents(documents)
    except OutOfTime:
        print(f"{module}: out of time after {len(documents)} cases", file=sys.stderr)
        sys.exit(OUT_OF_TIME)
    except (InputError, BenchmarkError) as error:
        print(f"{module}: error: {error}", file=sys.stderr)
        sys.exit(2)


@contextlib.contextmanager
def limit_time(seconds: float | None) -> Iterator[None]:
    """Raise OutOfTime in the main thread after so many seconds; None is no limit."""
    if seconds is None:
        yield
        return

    def end(number: int, frame: Any) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _warm_up(
    worker: Worker, warm: int
) -> tuple[Repetition, Repetition | None, Results, Mapping[str, Any]]:
    set_up, notes = worker.set_up()
    first = worker.repeat() if warm else None
    results = worker.results()
    for _ in range(warm - 1):  # `results` may have evicted caches
        worker.repeat()
    return set_up, first, results, notes


def _is_unfinished(repetitions: int, elapsed: float, effort: Effort) -> bool:
    return repetitions < effort.least or (repetitions < effort.most and elapsed < effort.seconds)


def _side_entry(side: Side, amount: tuple[float, str] | None) -> dict[str, Any]:
    rate = {} if amount is None else {f"{amount[1]}_per_second": amount[0] / side.seconds}
    return {
        **rate,
        "seconds": side.seconds,
        "cpu_seconds": side.cpu_seconds,
        "set_up_seconds": side.set_up.seconds,
        "compile_seconds": side.compile_seconds,
        "peak_host_mb": side.peak.host,
        **({} if side.peak.device is None else {"peak_device_mb": side.peak.device}),
        **dict(side.notes),
    }


def _format_setting(setting: Setting) -> str:
    plain = {k: v for k, v in setting.items() if isinstance(v, (str, int, float))}
    return ", ".join(f"{k}={v}" for k, v in plain.items())
