"""The machine that a benchmark ran on, and what it does at best: the ceilings of the floor.

The ceilings are a large product of matrices and a pass over an array far larger than the caches,
the best of those taken between the repetitions of a benchmark, so that they saw the same load.
"""

import functools
import os
import platform
import re
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
    """Of products and of a pass over a long array, several of which go into one program on an
    accelerator: a single one takes hardly longer than its start."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from subliminal_jax.ceilings import least_seconds, make_product_meter

    cpu = jax.default_backend() == "cpu"
    size, times = (2**26, 1) if cpu else (2**29, 8)
    measure_products = make_product_meter()
    long = jax.random.normal(jax.random.key(1), (size // 4,), jnp.float32)

    @jax.jit
    def add(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, times, lambda _, y: y + 1.0, x)

    best = {"flops": 0.0, "bytes": 0.0}

    def sample() -> None:
        best["flops"] = max(best["flops"], measure_products())
        took = least_seconds(lambda: add(long).block_until_ready())
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
