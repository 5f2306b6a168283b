"""An experiment's command at toy size, as the tests of experiments run it.

A test module that defines `COMMAND` has the fixtures of conftest.py: `folder` and `results` of one
finished run, `repeat` to run it again, and `refuse` for flags that are no good.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subliminal_jax.cli import find_experiments, load_settings, main


@dataclass(frozen=True)
class Command:
    """A sub-command with flags that keep its run small, as written in a shell."""

    name: str
    flags: str

    def run(self, out: Path, model_flags: Sequence[str], more: str = "") -> dict[str, Any]:
        """Run in this process; what results.json then holds."""
        config = load_settings(find_experiments()[self.name]).Config
        # Answers for the page would take programs of their own.
        hidden = "--shown-questions 0" if hasattr(config, "shown_questions") else ""
        flags = shlex.split(f"{hidden} {self.flags} {more}")
        main([self.name, *model_flags, "--out", str(out), *flags])
        return read(out)


def read(out: Path) -> dict[str, Any]:
    """What results.json of a run holds, which has to be strict JSON."""

    def refuse(literal: str) -> None:
        raise AssertionError(f"{literal} is not JSON")

    return json.loads((out / "results.json").read_text(), parse_constant=refuse)
