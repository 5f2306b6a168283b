"""Worker processes of a benchmark: each side of a comparison lives in one of its own.

A side is a module-level function of the benchmark, `side(setting) -> Work`. It imports what it
needs itself, so that the torch side never holds JAX, nor the other way round. Set up once, a worker
does one repetition of its work whenever it is asked to.
"""

import gc
import importlib
import multiprocessing
import os
import resource
import sys
import time
import traceback
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

Setting = Mapping[str, Any]
Results = Mapping[str, np.ndarray]
# JAX would take three quarters of an accelerator's memory at once, and leave the peer none.
ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TRANSFORMERS_VERBOSITY": "error"}


class BenchmarkError(RuntimeError):
    """A side could not be run, or its results are wrong: one line that says which, and why."""


class Repetition(NamedTuple):
    """What one repetition took: seconds by the clock, and CPU seconds of all threads and of the
    child processes that ended in it."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Work:
    """What a side has set up.

    Args:
      repeat: one repetition of the work, whole when it returns (nothing left in a queue).
      results: what the sides must agree on; called once, after the first repetition.
      notes: measured once at set-up, put into the side's part of the document as they are.
    """

    repeat: Callable[[], Any]
    results: Callable[[], Results] = dict
    notes: Mapping[str, Any] = field(default_factory=dict)


class Peak(NamedTuple):
    """Megabytes (2^20 bytes) that a worker held at most: of the host, of which `imported` before
    its set-up (the libraries), and of the accelerator, None on a CPU."""

    host: float
    imported: float
    device: float | None


class Worker:
    """A side in a process of its own; use as a context, which ends the process.

    `name` is what errors call it, `function` is "module:function", `environment` variables that it
    gets beside `ENVIRONMENT` unless they are set already. Raises BenchmarkError where the side
    fails, with its own message, or dies.
    """

    def __init__(
        self,
        name: str,
        function: str,
        setting: Setting,
        environment: Mapping[str, str] = types.MappingProxyType({}),
    ):
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, worker_end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(worker_end, function, dict(setting)), daemon=True
        )
        variables = {**ENVIRONMENT, **environment}
        previous = {key: os.environ.get(key) for key in variables}
        os.environ.update({key: previous[key] or value for key, value in variables.items()})
        try:
            self._process.start()
        finally:
            for key, value in previous.items():
                if value is None:
                    del os.environ[key]
        worker_end.close()

    def set_up(self) -> tuple[Repetition, Mapping[str, Any]]:
        """What the set-up took, and its notes."""
        return self._ask("set_up")

    def repeat(self) -> Repetition:
        """One repetition."""
        return self._ask("repeat")

    def results(self) -> Results:
        """What the side computed."""
        return self._ask("results")

    def peak(self) -> Peak:
        """The most memory held so far."""
        return self._ask("peak")

    def versions(self) -> dict[str, str]:
        """Of the libraries that the side has imported."""
        return self._ask("versions")

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _ask(self, what: str) -> Any:
        try:
            self._pipe.send(what)
            kind, answer = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            self._process.join(10)
            raise BenchmarkError(
                f"{self.name}: its process ended (exit code {self._process.exitcode}) at "
                f"{what!r}; -9 usually means that the memory did not suffice"
            ) from error
        if kind == "error":
            raise BenchmarkError(f"{self.name}: {answer}")
        return answer


def call(function: str, *arguments: Any) -> Any:
    """What `module:function` returns of `arguments`, computed in a process that then ends.

    For what a benchmark prepares (weights, rows), so that the parent imports no framework.
    """
    setting = {"function": function, "arguments": arguments}
    with Worker(function, f"{__name__}:_once", setting) as worker:
        return worker.set_up()[1]["value"]


def _once(setting: Setting) -> Work:
    value = _function(setting["function"])(*setting["arguments"])
    return Work(repeat=lambda: None, notes={"value": value})


def _function(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _serve(pipe: Connection, function: str, setting: Setting) -> None:
    """The life of a worker: answers until its parent is gone."""
    os.dup2(2, 1)  # what a library prints is not part of the parent's JSON
    work = Work(repeat=lambda: None)
    imported = 0.0

    def timed(f: Callable[[], Any]) -> tuple[Repetition, Any]:
        gc.collect()
        clock, cpu = time.perf_counter(), _cpu_seconds()
        value = f()
        return Repetition(time.perf_counter() - clock, _cpu_seconds() - cpu), value

    def answer(what: str) -> Any:
        nonlocal work, imported
        if what == "set_up":
            imported = _resident_now()
            took, work = timed(lambda: _function(function)(setting))
            return took, dict(work.notes)
        if what == "repeat":
            return timed(work.repeat)[0]
        if what == "results":
            return {key: np.asarray(value) for key, value in work.results().items()}
        if what == "peak":
            return Peak(_resident_peak(), imported, _device_peak())
        return _versions()

    while True:
        try:
            what = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            reply = ("value", answer(what))
        except Exception as error:
            traceback.print_exc()
            first = str(error).strip().partition("\n")[0]
            reply = ("error", f"{type(error).__name__}: {first}")
            if isinstance(error, ModuleNotFoundError):
                reply = ("error", f"{first}; install the extra 'parity' (torch, peft)")
        try:
            pipe.send(reply)
        except (BrokenPipeError, ConnectionResetError):
            return


def _cpu_seconds() -> float:
    """Of all threads so far, and of child processes that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _resident_now() -> float:
    """Megabytes of this process now; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0


def _resident_peak() -> float:
    """Megabytes that this process held at most, or one of its children.

    Where the system tells (Linux), the own peak is that of this program: `ru_maxrss` would begin
    with what the process that started it held then.
    """
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes elsewhere
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    try:
        with open("/proc/self/status") as file:
            peak = next(int(line.split()[1]) * 2**10 for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    return max(peak, children) / 2**20


def _device_peak() -> float | None:
    """Megabytes of the accelerator that this process held at most."""
    if (jax := sys.modules.get("jax")) is not None and jax.default_backend() != "cpu":
        stats = [device.memory_stats() or {} for device in jax.local_devices()]
        return sum(s.get("peak_bytes_in_use", 0) for s in stats) / 2**20
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return None


def _versions() -> dict[str, str]:
    names = ("jax", "jaxlib", "optax", "torch", "transformers", "peft", "trl", "numpy")
    versions = {name: sys.modules[name].__version__ for name in names if name in sys.modules}
    if "jax" in versions:
        versions["device"] = sys.modules["jax"].devices()[0].device_kind
    return versions
