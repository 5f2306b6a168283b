"""One claim, two processes: interleaved repetitions of the same work, checked to agree.

    pair = run_pair("benchmarks.train_step", setting, effort)   # calls its `ours` and `peer`
    print_documents([document("train_step", setting, pair, equal=..., goal=...)])

Both sides live in processes of their own (`workers`), are set up and warmed once, and are then
asked in turn for one repetition, so that both suffer whatever load there is. The side that goes
first changes with every repetition. The ratio of a repetition is the peer's seconds over ours.
"""

import argparse
import json
import math
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


@dataclass(frozen=True)
class Effort:
    """How long one comparison goes on: until `seconds` have passed, but at least `least` and at
    most `most` repetitions. `warm` repetitions go before those that count."""

    seconds: float
    least: int = 5
    most: int = 25
    warm: int = 2


FULL, QUICK = Effort(seconds=30.0), Effort(seconds=15.0, least=3, most=9)
# On an accelerator nothing else runs: repetitions are alike, and minutes are dear.
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
    """That of the device at hand."""
    if device().accelerator:
        return ACCELERATOR_QUICK if quick else ACCELERATOR_FULL
    return QUICK if quick else FULL


class Side(NamedTuple):
    """What one side took. `first` is the first repetition, which compiles and fills caches; None
    where every repetition does."""

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
        """What the first repetition took beyond a later one; never below 0."""
        return None if self.first is None else max(0.0, self.first.seconds - self.seconds)


class Pair(NamedTuple):
    """Both sides of a comparison, repetition by repetition, and the ceilings of that time."""

    ours: Side
    peer: Side
    ceilings: Ceilings
    versions: dict[str, str]


class Ratio(NamedTuple):
    """The peer's seconds over ours. `low` to `high` holds the median ratio at 95% confidence (order
    statistics; of fewer than six repetitions, the least and the largest)."""

    median: float
    low: float
    high: float
    repetitions: int
    cpu_median: float  # of CPU seconds


class Equal(NamedTuple):
    """How far the sides' results are apart, and how far they may be; `what` names them."""

    what: str
    apart: float
    allowed: float


Measured = Literal["ratio", "mfu", "bandwidth"]


class Goal(NamedTuple):
    """What is aimed at: the median ratio, or a share of the floor (`shares`). `lower` where less is
    better (a share of the time)."""

    aim: float
    lower: bool = False
    of: Measured = "ratio"

    def reached(self, found: float) -> bool:
        return found <= self.aim if self.lower else found >= self.aim


def run_pair(
    module: str, setting: Setting, effort: Effort, sides: tuple[str, str] = ("ours", "peer")
) -> Pair:
    """Set both sides up and measure them in turn; `sides` are the functions of `module`.

    Their setting also names the platform, "cpu" or another: where the peer has to compute. Raises
    BenchmarkError where a side fails. No process is left over.
    """
    given = {**setting, "platform": device().platform}
    around = environment(setting) if device().accelerator else {}
    ours, peer = (Worker(name, f"{module}:{name}", given, around) for name in sides)
    with ours, peer:
        began = [_begin(worker, effort.warm) for worker in (ours, peer)]
        with CeilingMeter() as meter:
            taken: list[list[Repetition]] = [[], []]
            start = time.perf_counter()
            while _goes_on(len(taken[0]), time.perf_counter() - start, effort):
                turn = [(0, ours), (1, peer)]
                for i, worker in turn if len(taken[0]) % 2 == 0 else reversed(turn):
                    taken[i].append(worker.repeat())
                meter.sample()
            ceilings = meter.ceilings
        mine, theirs = (
            Side(tuple(reps), *first, peak=worker.peak())
            for reps, first, worker in zip(taken, began, (ours, peer), strict=True)
        )
        return Pair(mine, theirs, ceilings, {**peer.versions(), **ours.versions()})


def environment(setting: Setting) -> dict[str, str]:
    """The variables of both sides on an accelerator."""
    return SHARED if setting.get("dtype") == "bfloat16" else {**SHARED, **FLOAT32}


def ratio_of(ours: Sequence[float], peer: Sequence[float]) -> tuple[float, float, float]:
    """(median, low, high) of peer/ours over paired repetitions, as in `Ratio`."""
    ratios = sorted(p / o for o, p in zip(ours, peer, strict=True))
    n = len(ratios)
    cut = 0  # how many may be cut off each end: P(Binomial(n, 1/2) <= cut - 1) <= 2.5%
    while sum(math.comb(n, k) for k in range(cut + 1)) <= 0.025 * 2**n:
        cut += 1
    cut = max(0, cut - 1)
    return statistics.median(ratios), ratios[cut], ratios[n - 1 - cut]


def ratio(pair: Pair) -> Ratio:
    """The ratio of seconds with its spread, and that of CPU seconds."""
    clock = [[r.seconds for r in side.repetitions] for side in (pair.ours, pair.peer)]
    cpu = [[max(r.cpu_seconds, 1e-9) for r in side.repetitions] for side in (pair.ours, pair.peer)]
    return Ratio(*ratio_of(*clock), len(clock[0]), ratio_of(*cpu)[0])


def apart(ours: Results, peer: Results, relative: bool = False) -> float:
    """The largest absolute difference of any result; `relative` to the peer's largest entry of it.

    Raises BenchmarkError where the sides have other results or shapes than each other, or where a
    number is not finite.
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


def document(
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
      amount: what one repetition does, and its unit: (tokens, "tokens"); both sides then get a rate
        a second.
      flops, bytes_moved: the least that one repetition must compute and move, for the floor.
      goal: of the median ratio, or of a share of the floor, which must then be given.
    """
    found = ratio(pair)
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
        measured = found.median if goal.of == "ratio" else (floor or {})[goal.of]
        reached = goal._asdict() | {"reached": goal.reached(measured)}
    peaks = {"ours": pair.ours.peak, "peer": pair.peer.peak}
    return {
        "benchmark": benchmark,
        "setting": dict(setting),
        "ours": _side(pair.ours, amount),
        "peer": _side(pair.peer, amount),
        "ratio": found._asdict(),
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
            ("mfu", "flops", "ceiling_flops"), ("bandwidth", "bytes", "ceiling_bytes"),
        )
    }  # fmt: skip


def say(found: Document) -> None:
    """One line on stderr."""
    r, goal, floor = found["ratio"], found["goal"], found["floor"]
    line = f"{found['benchmark']} {_brief(found['setting'])}: ratio {r['median']:.2f} "
    line += f"({r['low']:.2f} to {r['high']:.2f}, {r['repetitions']} repetitions; "
    line += f"CPU {r['cpu_median']:.2f}), {found['ours']['seconds']:.4g} s against "
    line += f"{found['peer']['seconds']:.4g} s, {found['equal']['what']} "
    line += f"{found['equal']['apart']:.1e} apart"
    if found["compile_seconds"] is not None:
        line += f", compile {found['compile_seconds']:.1f} s"
    if floor is not None:
        line += f", {100 * floor['share']:.0f}% of the floor"
        for name in ("mfu", "bandwidth"):
            line += "" if floor[name] is None else f", {name} {100 * floor[name]:.0f}%"
    if goal is not None:
        line += f", goal {goal['of']} {goal['aim']:g} "
        line += "reached" if goal["reached"] else "not reached"
    print(line, file=sys.stderr, flush=True)


def print_documents(documents: Sequence[Document]) -> None:
    """One JSON document on stdout, or a list of several.

    Raises BenchmarkError where the results of the sides were further apart than allowed.
    """
    whole = documents[0] if len(documents) == 1 else list(documents)
    print(json.dumps(plain_json(whole), indent=1, allow_nan=False), flush=True)
    for found in documents:
        equal = found["equal"]
        if not equal["apart"] <= equal["allowed"]:
            raise BenchmarkError(
                f"{_brief(found['setting'])}: the sides' {equal['what']} are {equal['apart']:.2g} "
                f"apart, more than {equal['allowed']:.2g}: their times do not compare"
            )


def each(
    settings: Callable[[bool, bool], Sequence[dict[str, Any]]],
    measure: Callable[[dict[str, Any], Path, Effort], Document],
    quick: bool,
) -> Iterator[Document]:
    """The documents of what is measured on the device at hand, `settings(accelerator, quick)`, one
    by one: `measure(setting, folder for models, effort)`."""
    with scratch() as cache:
        for setting in settings(device().accelerator, quick):
            found = measure(setting, cache, effort(quick))
            say(found)
            yield found


def command(module: str, description: str, run: Callable[[bool], Iterable[Document]]) -> None:
    """The command line of a benchmark: `python -m benchmarks.<claim> [--quick]`.

    `run(quick)` gives the documents. Bad input and failed sides end it with one line, status 2;
    the documents that came before are printed all the same.
    """
    parser = argparse.ArgumentParser(prog=module, description=description.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="about a minute")
    given = parser.parse_args()
    found: list[Document] = []
    try:
        try:
            for one in run(given.quick):  # one by one: those before an error are kept
                found.append(one)  # noqa: PERF402
        finally:
            if found:
                print_documents(found)
    except (InputError, BenchmarkError) as error:
        print(f"{module}: error: {error}", file=sys.stderr)
        sys.exit(2)


def _begin(
    worker: Worker, warm: int
) -> tuple[Repetition, Repetition | None, Results, Mapping[str, Any]]:
    set_up, notes = worker.set_up()
    first = worker.repeat() if warm else None
    results = worker.results()
    for _ in range(warm - 1):  # what `results` computed may have emptied a cache
        worker.repeat()
    return set_up, first, results, notes


def _goes_on(done: int, elapsed: float, effort: Effort) -> bool:
    return done < effort.least or (done < effort.most and elapsed < effort.seconds)


def _side(side: Side, amount: tuple[float, str] | None) -> dict[str, Any]:
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


def _brief(setting: Setting) -> str:
    plain = {k: v for k, v in setting.items() if isinstance(v, (str, int, float))}
    return ", ".join(f"{k}={v}" for k, v in plain.items())
