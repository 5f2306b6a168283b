"""XLA compilations: a cache on disk between processes, and a count within one."""

import contextlib
import hashlib
import os
import platform
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
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
      since: when the program that is being compiled began, by `time.monotonic`; else None.
      programs: those compiled so far that took a second or more.
    """

    def __init__(self) -> None:
        self.since: float | None = None
        self.programs = 0
        self._spans: list[tuple[float, float]] = []

    @property
    def seconds(self) -> float:
        """Spent on programs that are compiled: what is traced inside another counts once."""
        return sum(end - start for start, end in self._spans)

    def __enter__(self) -> "CompilationWatch":
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: str | int) -> None:
        if not event.startswith(_COMPILE_STAGES):
            return
        end = time.monotonic()
        start = end - duration_secs
        while self._spans and self._spans[-1][1] > start:  # events come in the order of their ends
            start = min(start, self._spans.pop()[0])
        self._spans.append((start, end))
        if event == _LOWERING_EVENT:
            self.since = end
        elif event == _COMPILE_EVENT:
            self.programs += duration_secs >= 1
            self.since = None


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
