"""The machine that a benchmark ran on, and what it does at best: the ceilings of the floor.

The ceilings are a large product of matrices and a pass over an array far larger than the caches,
the best of those taken between the repetitions of a benchmark, so that they saw the same load.
"""

import os
import platform
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.workers import Setting, Work, Worker


class Ceilings(NamedTuple):
    """Floating-point operations a second, and bytes read or written a second."""

    flops: float
    bytes: float


class CeilingMeter:
    """Measures both ceilings, a little at each `sample`; a context that ends its process."""

    def __init__(self) -> None:
        self._worker = Worker("the ceilings", f"{__name__}:ceilings_side", {})

    def __enter__(self) -> "CeilingMeter":
        self._worker.set_up()
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.__exit__()

    def sample(self) -> None:
        self._worker.repeat()

    @property
    def ceilings(self) -> Ceilings:
        found = self._worker.results()
        return Ceilings(float(found["flops"]), float(found["bytes"]))


def ceilings_side(setting: Setting) -> Work:
    """float32 on a CPU, where numpy's BLAS and XLA both compete for the product; bfloat16 on an
    accelerator."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    cpu = jax.default_backend() == "cpu"
    n, size = (1024, 2**26) if cpu else (8192, 2**30)
    square = jnp.ones((n, n), jnp.float32 if cpu else jnp.bfloat16)
    long = jnp.ones((size // 4,), jnp.float32)
    multiply, add = jax.jit(lambda x: x @ x), jax.jit(lambda x: x + 1.0)
    products: list[Callable[[], Any]] = [lambda: multiply(square).block_until_ready()]
    if cpu:
        host = np.asarray(square)
        products.append(lambda: host @ host)
    best = {"flops": 0.0, "bytes": 0.0}

    def sample() -> None:
        for product in products:
            best["flops"] = max(best["flops"], 2.0 * n**3 / _least_seconds(product))
        took = _least_seconds(lambda: add(long).block_until_ready())
        best["bytes"] = max(best["bytes"], 2.0 * size / took)

    sample()  # compiles
    return Work(repeat=sample, results=lambda: {k: np.asarray(v) for k, v in best.items()})


def describe_machine(versions: dict[str, str]) -> dict[str, Any]:
    """CPU, cores that this process may use, memory, load, and the versions of both sides."""
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load": round(os.getloadavg()[0], 1),
        "system": platform.system(),
        "python": platform.python_version(),
        **dict(sorted(versions.items())),
    }


def cores() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            lines = [line.partition(":")[2].strip() for line in file if "model name" in line]
    except OSError:
        lines = []
    return lines[0] if lines else platform.processor() or platform.machine()


def _least_seconds(f: Callable[[], Any], times: int = 3) -> float:
    def once() -> float:
        start = time.perf_counter()
        f()
        return time.perf_counter() - start

    return min(once() for _ in range(times))
