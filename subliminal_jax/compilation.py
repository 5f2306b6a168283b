"""XLA compilations: a cache on disk between processes, and a count within one."""

import contextlib
import hashlib
import os
import platform
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jaxlib
from jax.experimental.compilation_cache import compilation_cache

_COMPILE_STAGES = "/jax/core/compile/"
_LOWERING_EVENT = f"{_COMPILE_STAGES}jaxpr_to_mlir_module_duration"
_COMPILE_EVENT = f"{_COMPILE_STAGES}backend_compile_duration"
_MAX_CACHE_BYTES = 2 * 2**30


def enable_compilation_cache() -> Path | None:
    """Keep compiled programs on disk, so that a second process does not compile them again.

    The folder is `$SUBLIMINAL_JAX_CACHE`, by default `~/.cache/subliminal_jax/xla`; the value
    "off" turns the cache off. A cache that the user set up through JAX itself
    (`JAX_COMPILATION_CACHE_DIR`) is left as it is. Least recently used programs are evicted above
    2 GiB.

    Returns:
      The folder in use, or None where there is none: turned off, or not writable (a warning says
      so; everything else works, only slower).
    """
    config: Any = jax.config  # its attributes are made at run time
    if config.jax_compilation_cache_dir:
        return Path(config.jax_compilation_cache_dir)
    root = os.environ.get("SUBLIMINAL_JAX_CACHE") or "~/.cache/subliminal_jax/xla"
    if root == "off":
        return None
    try:
        folder = Path(root).expanduser() / _machine_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as probe:
            name = folder / f".writable-{os.getpid()}"
            probe.callback(name.unlink, missing_ok=True)
            name.touch()
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder to expand
        warnings.warn(
            f"compiled programs are not cached: cannot write to {root} ({error}); "
            "set SUBLIMINAL_JAX_CACHE to another folder, or to off",
            stacklevel=2,
        )
        return None
    config.update("jax_compilation_cache_dir", str(folder))
    config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    config.update("jax_compilation_cache_max_size", _MAX_CACHE_BYTES)
    return folder


@contextlib.contextmanager
def no_compilation_cache() -> Iterator[None]:
    """Compile anew what the body compiles, whatever lies on disk."""
    config: Any = jax.config
    before = config.jax_enable_compilation_cache
    try:
        config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()  # it remembers whether there is one
        yield
    finally:
        config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def _machine_folder() -> str:
    """A folder name that differs where machine code may not be shared.

    XLA compiles for the instruction set of the CPU that it runs on, which is not part of JAX's
    cache key: with a shared home folder one machine would load the other's instructions.
    """
    cpu = [platform.machine(), platform.system()]
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "flags", "Features", "CPU part")):
                cpu.append(line)
            elif not line:  # the first core is like the others
                break
    digest = hashlib.sha256("\n".join(cpu).encode()).hexdigest()[:12]
    return f"jaxlib-{jaxlib.__version__}-{digest}"


class CompilationWatch:
    """What JAX traces and compiles while it is open: seconds so far, and what is under way.

    Attributes:
      since: when the program that is being compiled began, by `time.monotonic`; else None. Of
        several at a time, the first.
      long: programs compiled so far that took a second or more.
      programs: all programs compiled, or fetched from the cache on disk.
      planned, finished: programs of the last `compile_ahead`, and how many of them are compiled.
    """

    def __init__(self) -> None:
        self.since: float | None = None
        self.long = self.programs = 0
        self.planned = self.finished = 0
        self._spans: list[tuple[float, float]] = []
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """Spent on programs that are compiled: what overlaps, or is traced inside another, counts
        once."""
        return sum(end - start for start, end in self._spans)

    def __enter__(self) -> "CompilationWatch":
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        _watches.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _watches.remove(self)
        jax.monitoring.unregister_event_duration_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: str | int) -> None:
        if not event.startswith(_COMPILE_STAGES):
            return
        end = time.monotonic()
        start = end - duration_secs
        with self._lock:  # events come in the order of their ends
            while self._spans and self._spans[-1][1] > start:
                start = min(start, self._spans.pop()[0])
            self._spans.append((start, end))
            busy = self.finished < self.planned
            if event == _LOWERING_EVENT and not busy:
                self.since = end
            elif event == _COMPILE_EVENT:
                self.programs += 1
                self.long += duration_secs >= 1
                self.since = self.since if busy else None

    def _plan(self, programs: int) -> None:
        with self._lock:
            if self.finished == self.planned:
                self.planned = self.finished = 0
                self.since = time.monotonic()
            self.planned += programs

    def _finish(self) -> None:
        with self._lock:
            self.finished = min(self.finished + 1, self.planned)  # it may have begun before
            if self.finished == self.planned:
                self.since = None


_watches: list[CompilationWatch] = []


@contextlib.contextmanager
def _listen_to_stages() -> Iterator[list[str]]:
    """What of tracing, lowering and compiling happens in the body, in any thread."""
    stages: list[str] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        stages.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield stages
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def compile_ahead(
    calls: Sequence[tuple["partial[Any]", tuple[Any, ...]]],
) -> list[Future[Any]]:
    """Compile jitted functions, with their static arguments, for arguments (or their shapes), in
    threads, as many at a time as there are cores.

    Once its future is done, such a call compiles nothing: JAX keeps what was compiled for it. What
    was compiled before is done at once, and counts in no `CompilationWatch`.
    """
    lowered, new = [], []
    for function, arguments in calls:
        jitted: Any = function.func
        with _listen_to_stages() as stages:
            lowered.append(jitted.lower(*arguments, **function.keywords))
        new.append(_LOWERING_EVENT in stages)  # else JAX has the program of such a call
    watches = list(_watches)
    for watch in watches:
        watch._plan(sum(new))

    def compile_one(program: jax.stages.Lowered, is_new: bool) -> None:
        try:
            program.compile()
        finally:
            for watch in watches if is_new else ():
                watch._finish()

    pool = ThreadPoolExecutor(max(1, min(os.cpu_count() or 1, sum(new))), "compile")
    futures = [pool.submit(compile_one, *each) for each in zip(lowered, new, strict=True)]
    pool.shutdown(wait=False)
    return futures


@dataclass
class Compilations:
    """The programs compiled while `count_compilations` was open, in order, by function name.

    A program fetched from the cache on disk counts too: JAX had no executable for these shapes in
    this process. Operations outside `jit` compile small programs under names of their own.
    """

    names: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return len(self.names)

    def count(self, name: str) -> int:
        """The number of times that the jitted function called `name` was compiled."""
        return self.names.count(name)


@contextlib.contextmanager
def count_compilations() -> Iterator[Compilations]:
    """Count what JAX compiles in the body.

    >>> with count_compilations() as compiled:
    ...     state = step(state, batch)
    >>> compiled.count("step")
    1
    """
    compiled = Compilations()

    def listener(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == _COMPILE_EVENT:
            name = str(kwargs.get("fun_name", ""))
            compiled.names.append(name.removeprefix("jit(").removesuffix(")"))

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        yield compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
