"""Compiled programs on disk, shared by all processes of the tests and those that these start."""

import contextlib
import os
import time

import jax

from subliminal_jax.compilation import enable_compilation_cache

_MAX_AGE = 14 * 24 * 3600.0  # seconds since a program was last read


def share_programs() -> None:
    """Keep every program, however small, in a folder of the tests within that of the package.

    Half of the programs of a test file compile in some 20 ms each, and most are those of other
    files. JAX's limit on the folder's size is off, since it reads the folder at every new entry;
    what was not read for two weeks is deleted here. Processes that the tests start read the
    same settings from the environment. A cache that the user set up through JAX stays as it is.
    """
    if jax.config.jax_compilation_cache_dir or (root := enable_compilation_cache()) is None:
        return
    folder = root / "tests"
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process of the suite deleted it
            if file.stat().st_atime < time.time() - _MAX_AGE:
                file.unlink()
    for name, value in (
        ("jax_compilation_cache_dir", str(folder)),
        ("jax_persistent_cache_min_compile_time_secs", 0.0),
        ("jax_compilation_cache_max_size", -1),
    ):
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
