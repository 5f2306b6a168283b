"""Sides of a comparison for the tests of the harness."""

import importlib
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workers import Setting, Work


def slow(setting: Setting) -> Work:
    return _counting(setting["slow_seconds"], setting)


def fast(setting: Setting) -> Work:
    return _counting(setting["fast_seconds"], setting)


def broken(setting: Setting) -> Work:
    raise ValueError("this side is broken\nand says more on further lines")


def breaks_later(setting: Setting) -> Work:
    def fail() -> None:
        raise ValueError("this side broke while it worked")

    return Work(repeat=fail)


def dies(setting: Setting) -> Work:
    return Work(repeat=lambda: os._exit(9))


def needs_what_is_missing(setting: Setting) -> Work:
    import no_such_library_at_all  # noqa: F401

    return Work(repeat=lambda: None)


def chosen(setting: Setting) -> Work:
    """The side that the file names, with its setting: another one each time it is set up."""
    function, own = pickle.loads(Path(setting["file"]).read_bytes())
    return find(function)(own)


def find(function: str) -> Callable[..., Any]:
    """The function called "module:name"."""
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)


def surroundings(setting: Setting) -> Work:
    names = ("JAX_DEFAULT_MATMUL_PRECISION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
    return Work(lambda: None, notes={name: os.environ.get(name) for name in names})


def _counting(seconds: float, setting: Setting) -> Work:
    """Sleeps a while; leaves a line with its name in `log` each time."""

    def repeat() -> None:
        time.sleep(seconds)
        print("a library says something on stdout")
        if "log" in setting:
            with open(setting["log"], "a") as file:
                file.write(f"{seconds}\n")

    return Work(repeat, lambda: {"pid": np.asarray(0.0)}, {"pid": os.getpid()})
