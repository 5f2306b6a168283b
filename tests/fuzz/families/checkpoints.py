"""Checkpoints of a run with changed bytes, and without some of their files."""

import random
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax.errors import InputError
from subliminal_jax.training.checkpoints import Checkpoints
from tests.fuzz.families.base import Wrong, check, scratch
from tests.fuzz.mutations import damage


def state(step: int) -> Any:
    rng = np.random.default_rng(step)
    return {
        "params": {"a": jnp.asarray(rng.normal(size=(3, 40)), jnp.float32)},
        "count": jnp.asarray(step, jnp.int32),
        "half": jnp.asarray(rng.normal(size=(2, 5)), jnp.bfloat16),
    }


def prepare() -> None:
    folder = scratch() / "checkpoints"
    if not folder.exists():
        kept = Checkpoints(folder)
        for step in (1, 2):
            kept.save(step, state(step))
        kept.close()


def run(rng: random.Random, folder: Path) -> str:
    place = folder / "checkpoints"
    shutil.copytree(scratch() / "checkpoints", place)
    steps = rng.choice(([2], [2], [2], [1], [1, 2]))
    for step in steps:
        files = sorted(path for path in (place / str(step)).rglob("*") if path.is_file())
        for file in rng.sample(files, rng.choice((1, 1, 2))):
            if rng.random() < 0.2:
                file.unlink()
            else:
                file.write_bytes(damage(rng, file.read_bytes()))
    try:
        checkpoints = Checkpoints(place)
        try:
            restored = checkpoints.restore(jax.tree.map(jnp.zeros_like, state(1)))
        finally:
            checkpoints.close()
    except InputError as error:
        if len(steps) < 2:
            raise Wrong(f"one of two checkpoints is sound, and refused: {error}") from error
        raise
    step = int(restored["count"])
    check(step in (1, 2), f"a state of step {step}")
    same = jax.tree.map(lambda a, b: bool((a == b).all()), restored, state(step))
    check(all(jax.tree.leaves(same)), f"the state of step {step} differs: {same}")
    return str(step)
