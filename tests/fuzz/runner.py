"""Gives cases to worker processes, ends those that exceed the limits, and counts outcomes."""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SECONDS = 20.0  # of processor time
CLOCK_SECONDS = 60.0
BYTES = 4 << 30
PREPARING_SECONDS = 300.0
CASES_A_WORKER = 200  # a new process then: small leaks of the libraries add up
OUTCOMES = ("accepted", "refused", "wrong", "traceback", "crash", "hang", "memory")
FAULTS = OUTCOMES[2:]
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


class Result(NamedTuple):
    family: str
    number: int
    outcome: str
    message: str
    seconds: float

    @property
    def case(self) -> str:
        return f"{self.family}:{self.number}"


class Worker:
    """One worker process; it is started when it is first needed and after each that was ended."""

    def __init__(self, clock_seconds: float) -> None:
        self._clock_seconds = clock_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._cases = 0
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed with the worker

    def run(self, family: str, number: int) -> Result:
        if self._process is not None and self._cases >= CASES_A_WORKER:
            self.close()
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.worker"],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,  # `select` does not see what a buffer holds
            )
            self._cases = 0
        self._cases += 1
        process = self._process
        assert process.stdin is not None
        process.stdin.write(f"{family} {number}\n".encode())
        process.stdin.flush()
        line, outcome = self._wait(process, PREPARING_SECONDS, 5 * self._clock_seconds)
        started = time.monotonic()
        if line is not None:
            line, outcome = self._wait(process, SECONDS, self._clock_seconds)
        seconds = time.monotonic() - started
        if line is None:
            self.close()
            self._errors.seek(max(0, self._errors.tell() - 2000))
            message = self._errors.read().decode("utf-8", "replace")
            return Result(family, number, outcome, message, seconds)
        answer = json.loads(line)
        return Result(family, number, answer["outcome"], answer["message"], seconds)

    def _wait(
        self, process: "subprocess.Popen[bytes]", seconds: float, clock: float
    ) -> tuple[bytes | None, str]:
        """(line, "") of the worker's next line, or (None, outcome) where it exceeds a limit."""
        assert process.stdout is not None
        started, used = time.monotonic(), _processor_seconds(process.pid)
        while True:
            ready, _, _ = select.select([process.stdout], [], [], 0.02)
            if ready:
                line = process.stdout.readline()
                return (line, "") if line else (None, "crash")
            if _resident_bytes(process.pid) > BYTES:
                return None, "memory"
            late = time.monotonic() - started > clock
            if late or _processor_seconds(process.pid) - used > seconds:
                return None, "hang"

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def run_cases(
    cases: Iterable[tuple[str, int]], workers: int, clock_seconds: float = CLOCK_SECONDS
) -> Iterator[Result]:
    """The results of the cases, as they come."""
    free: SimpleQueue[Worker] = SimpleQueue()
    pool = [Worker(clock_seconds) for _ in range(workers)]
    for worker in pool:
        free.put(worker)

    def run(case: tuple[str, int]) -> Result:
        worker = free.get()
        try:
            return worker.run(*case)
        finally:
            free.put(worker)

    try:
        with ThreadPoolExecutor(workers) as threads:
            yield from threads.map(run, cases)
    finally:
        for worker in pool:
            worker.close()


def table(results: Iterable[Result]) -> str:
    """Counts by family and outcome, and the seconds of the slowest case."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    slowest: Counter[str] = Counter()
    for result in results:
        for name in (result.family, "all"):
            counts[name][result.outcome] += 1
            slowest[name] = max(slowest[name], result.seconds)
    counts["all"] = counts.pop("all", Counter())
    head = f"{'family':<14}{'cases':>7}" + "".join(f"{o:>11}" for o in OUTCOMES)
    lines = [f"{head}{'slowest':>10}"]
    for name, row in counts.items():
        cells = "".join(f"{row[outcome]:>11}" for outcome in OUTCOMES)
        lines.append(f"{name:<14}{row.total():>7}{cells}{slowest[name]:>8.1f} s")
    return "\n".join(lines)


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _processor_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    except (OSError, IndexError):
        return 0.0
