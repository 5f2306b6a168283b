"""The machine that a benchmark ran on, and what it does at best: the ceilings of the floor.

The ceilings are a large product of matrices and a pass over an array far larger than the caches,
the best of those taken between the repetitions of a benchmark, so that they saw the same load.
"""

import functools
import os
import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.workers import Setting, Work, Worker, call


@dataclass(frozen=True)
class Device:
    """What JAX computes on: "cpu", "gpu" or "tpu", what the maker calls it, and how many there
    are."""

    platform: str
    kind: str
    count: int

    @property
    def accelerator(self) -> bool:
        return self.platform != "cpu"

    @property
    def folder(self) -> str:
        """Of its results: "cpu", or the kind in lower case with hyphens."""
        return (
            re.sub(r"[^a-z0-9]+", "-", self.kind.lower()).strip("-") if self.accelerator else "cpu"
        )


@functools.cache
def device() -> Device:
    """That of this machine, asked for in a process that then ends: the parent imports no JAX, and
    holds nothing of an accelerator's memory."""
    return Device(*call(f"{__name__}:find_device"))


def find_device() -> tuple[str, str, int]:
    """The entries of `Device`, of the JAX of this process."""
    import jax

    devices = jax.local_devices()
    return jax.default_backend(), devices[0].device_kind, len(devices)


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
        best = self._worker.results()
        return Ceilings(float(best["flops"]), float(best["bytes"]))


def ceilings_side(setting: Setting) -> Work:
    """float32 on a CPU, where numpy's BLAS and XLA both compete for the product; bfloat16 on an
    accelerator.

    The numbers are random: of ones, whose bits never change, an accelerator multiplies more a
    second than its power allows of any others. There several products and passes go into one
    program, each on what the one before gave, for a single one takes hardly longer than its start.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    cpu = jax.default_backend() == "cpu"
    n, size, times = (1024, 2**26, 1) if cpu else (8192, 2**29, 8)
    keys = jax.random.split(jax.random.key(0))
    # Entries of variance 1/n: the products of products neither grow nor vanish.
    square = jax.random.normal(keys[0], (n, n), jnp.float32) / n**0.5
    square = square.astype(jnp.float32 if cpu else jnp.bfloat16)
    long = jax.random.normal(keys[1], (size // 4,), jnp.float32)

    @jax.jit
    def multiply(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, times, lambda _, y: y @ x, x)

    @jax.jit
    def add(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, times, lambda _, y: y + 1.0, x)

    # (a product, how many there are in it)
    products: list[tuple[Callable[[], Any], int]] = [
        (lambda: multiply(square).block_until_ready(), times)
    ]
    if cpu:
        host = np.asarray(square)
        products.append((lambda: host @ host, 1))
    best = {"flops": 0.0, "bytes": 0.0}

    def sample() -> None:
        for product, count in products:
            best["flops"] = max(best["flops"], 2.0 * n**3 * count / _least_seconds(product))
        took = _least_seconds(lambda: add(long).block_until_ready())
        best["bytes"] = max(best["bytes"], 2.0 * size * times / took)

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
