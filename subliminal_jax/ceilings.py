"""What a device computes at best: the ceiling that a program's speed is a share of."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def make_product_meter(dtype: str | None = None) -> Callable[[], float]:
    """A function that measures the floating-point operations a second of one device in a large
    product of matrices: the best of three. It compiles here, once.

    The numbers are random: of ones, whose bits never change, an accelerator multiplies more a
    second than its power allows of any others. There several products go into one program, each on
    what the one before gave, for a single one takes hardly longer than its start. On a CPU, where
    numpy's BLAS and XLA both compete, the dtype is float32; elsewhere bfloat16 by default.
    """
    cpu = jax.default_backend() == "cpu"
    n, count = (1024, 1) if cpu else (8192, 8)
    # Entries of variance 1/n: the products of products neither grow nor vanish.
    square = jax.random.normal(jax.random.key(0), (n, n), jnp.float32) / n**0.5
    square = square.astype("float32" if cpu else dtype or "bfloat16")

    @jax.jit
    def multiply(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, count, lambda _, y: y @ x, x)

    # (a product, how many there are in it)
    products: list[tuple[Callable[[], Any], int]] = [
        (lambda: multiply(square).block_until_ready(), count)
    ]
    if cpu:
        host = np.asarray(square)
        products.append((lambda: host @ host, 1))
    multiply(square).block_until_ready()
    return lambda: max(2.0 * n**3 * times / least_seconds(f) for f, times in products)


def least_seconds(f: Callable[[], Any], times: int = 3) -> float:
    """The shortest of `times` calls of `f`."""

    def once() -> float:
        start = time.perf_counter()
        f()
        return time.perf_counter() - start

    return min(once() for _ in range(times))
