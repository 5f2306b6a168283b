"""Flags of every experiment with odd values: refused in a line, or read as they were typed."""

import dataclasses
import math
import random
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from subliminal_jax.cli import find_experiments, load_experiment
from tests.fuzz.families.base import Wrong, call_command, check

VALUES = (
    "0",
    "1",
    "2",
    "3",
    "-1",
    "-3",
    "1.5",
    "0.1",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "1e-999",
    "99999999999",
    "-0",
    "0x10",
    "1_000",
    "1e3",
    "x",
    "owl",
    "true",
    "True",
    "None",
    "a,b",
    "adamw",
    "sgd",
    "adamw=1e-3",
    "adamw=nan",
    "adamw=-1",
    "sgd=0",
    "nobody=1",
    "q",
    "down",
    "world",
    "../x",
    "/dev/null",
    "<b>",
    "$x^$",
    "{trait}",
    "",
    " ",
    "owl owl",
    "\u2028",
    "\x1b[31m",
    "9" * 30,
    "A" * 3000,
)


class Accepted(BaseException):
    """Raised in the place of a run, with the settings that it would have had."""

    def __init__(self, config: Any):
        self.config = config


@cache
def experiments() -> dict[str, Any]:
    return {name: load_experiment(entry) for name, entry in find_experiments().items()}


def prepare() -> None:
    experiments()
    import subliminal_jax.runs.run_folder  # noqa: F401


def run(rng: random.Random, folder: Path) -> str:
    name = rng.choice(list(experiments()))
    fields = [field.name for field in dataclasses.fields(experiments()[name].Config)]
    chosen = rng.sample([f for f in fields if f not in ("out", "preset")], rng.choice((1, 1, 2)))
    flags: list[str] = []
    for field in chosen:
        values = _sound_values(rng, getattr(experiments()[name].Config, field, None))
        if values is None or rng.random() < 0.5:
            values = [rng.choice(VALUES) for _ in range(rng.choice((1, 1, 1, 2, 0)))]
            if rng.random() < 0.2:
                values *= 2
        flags += ["--" + rng.choice((field, field.replace("_", "-"))), *values]
    out = folder / "run"
    arguments = [name, "--out", str(out), *flags]

    def stop(path: Any, settings: Any, **_: Any) -> None:
        raise Accepted(settings)

    try:
        with mock.patch("subliminal_jax.runs.experiment.RunFolder.open", stop):
            call_command(arguments)
        raise Wrong(f"{flags}: neither refused nor run")
    except Accepted as accepted:
        for key, value in accepted.config.items():
            _check_numbers(f"{' '.join(arguments)}: {key}", value)
    finally:
        check(not out.exists(), f"{flags}: the folder was made before the check")
    return " ".join(arguments)


def _sound_values(rng: random.Random, default: Any) -> list[str] | None:
    """A field's default as one types it, numbers now and then doubled, or None."""
    if isinstance(default, bool):
        return []
    if isinstance(default, tuple) and default:
        return [value for item in default for value in _sound_values(rng, item) or ["owl"]]
    if isinstance(default, int | float):
        return [str(default * rng.choice((1, 1, 2)))]
    return [default] if isinstance(default, str) and default else None


def _check_numbers(name: str, value: Any) -> None:
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            _check_numbers(name, item)
    elif isinstance(value, float):
        check(math.isfinite(value), f"{name} is {value}")
    elif isinstance(value, int):
        check(abs(value) < 2**63, f"{name} is {value}")
        least = -1 if name.endswith(("layer", "layers")) else 0
        check(value >= least or "seed" in name, f"{name} is {value}")
