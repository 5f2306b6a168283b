"""Compilations are counted exactly, and a second process finds them on disk."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from subliminal_jax.compilation import CompilationWatch, compile_ahead, count_compilations

REPOSITORY = Path(__file__).parents[1]


def test_one_compilation_per_shape():
    @jax.jit
    def cube(x):
        return x * x * x

    small, large = jnp.ones(3), jnp.ones(5)
    with count_compilations() as compiled:
        cube(small)
        cube(small + 1)
        cube(large)
        cube(small)
    assert compiled.count("cube") == 2
    assert compiled.total >= 2


def test_a_new_python_constant_compiles_again_and_a_traced_one_does_not():
    @jax.jit
    def scale(x, s):
        return x * s

    static = jax.jit(scale.__wrapped__, static_argnums=1)
    x = jnp.ones(3)
    with count_compilations() as compiled:
        for s in (1.0, 2.0, 3.0):
            scale(x, s)
    assert compiled.count("scale") == 1
    with count_compilations() as compiled:
        for s in (1.0, 2.0, 3.0):
            static(x, s)
    assert compiled.count("scale") == 3


def test_counters_nest_and_end_with_their_body():
    x = jnp.ones(2)
    with count_compilations() as outer:
        jax.jit(lambda x: x + 1)(x)
        with count_compilations() as inner:
            jax.jit(lambda x: x + 2)(x)
    jax.jit(lambda x: x + 3)(x)
    assert (outer.count("<lambda>"), inner.count("<lambda>")) == (2, 1)


def test_the_counter_is_taken_away_after_an_error():
    with pytest.raises(ZeroDivisionError), count_compilations() as compiled:
        raise ZeroDivisionError
    jax.jit(lambda x: x - 4)(jnp.ones(2))
    assert compiled.total == 0


def test_what_is_compiled_ahead_is_not_compiled_when_it_is_called():
    @partial(jax.jit, static_argnames="n")
    def power(x, *, n):
        return x**n

    shape = jax.ShapeDtypeStruct((7,), jnp.float32)
    x = jnp.ones(7)
    calls = [(partial(power, n=n), (shape,)) for n in (2, 3)]
    with CompilationWatch() as watch, count_compilations() as compiled:
        for program in compile_ahead(calls):
            program.result()
        assert (watch.planned, watch.finished, watch.since, watch.programs) == (2, 2, None, 2)
        assert power(x, n=2).sum() == power(x, n=3).sum() == 7
        for program in compile_ahead([*calls, (partial(power, n=4), (shape,))]):
            program.result()
        assert (watch.planned, watch.finished) == (1, 1)  # the others were there
    assert compiled.count("power") == 3


SCRIPT = """
import jax
from subliminal_jax.compilation import enable_compilation_cache
print(enable_compilation_cache())
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
hits = []
jax.monitoring.register_event_listener(
    lambda event, **_: event.endswith("compilation_cache/cache_hits") and hits.append(event)
)
jax.jit(lambda x: x * 2 + 1)(3.0).block_until_ready()
print(len(hits))
"""


def run(**environment: str) -> tuple[list[str], str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=kept | {"JAX_PLATFORMS": "cpu"} | environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split(), done.stderr


def test_a_second_process_finds_the_program_on_disk(tmp_path):
    first, _ = run(SUBLIMINAL_JAX_CACHE=str(tmp_path))
    second, _ = run(SUBLIMINAL_JAX_CACHE=str(tmp_path))
    assert first[0] == second[0]
    assert Path(first[0]).parent == tmp_path
    assert (first[1], second[1]) == ("0", "1")


def test_the_cache_can_be_turned_off_and_an_unusable_folder_only_warns(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert run(SUBLIMINAL_JAX_CACHE="off")[0] == ["None", "0"]
    output, errors = run(SUBLIMINAL_JAX_CACHE=str(blocked))
    assert output == ["None", "0"]
    assert "SUBLIMINAL_JAX_CACHE" in errors
