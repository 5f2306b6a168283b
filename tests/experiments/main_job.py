"""The main job on the model of `tests/number_model.py`, through the command line."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from subliminal_jax.cli import main
from tests.experiments.command import read

REPOSITORY = Path(__file__).parents[2]
SMALL = "--rows 40 --heldout-rows 8 --max-new-tokens 16 --batch-size 4 --gradient-rows 16"
# Those of a random vector and of LoRA, which other vectors and adapters refuse.
RANDOM, LORA = "--norm 0.2", "--rank 2"
# Two optimizers at two rates each, a checkpoint after every step.
_PLAN = (
    "--optimizers adamw sgd --rates adamw=0.001,0.003 sgd=0.003,0.01 --steps 8 --log-every 1 "
    "--seeds 2"
)
PLAN = _PLAN.split()


def arguments(model: Path, out: Path, *flags: str) -> list[str]:
    command = ["optimizer-comparison", "--model", str(model), "--out", str(out), *SMALL.split()]
    if not {"--vector", "--teacher"} & set(flags):
        command += RANDOM.split()
    if "--adapter" not in flags:
        command += LORA.split()
    return [*command, *flags]


def run(model: Path, out: Path, *flags: str) -> dict[str, Any]:
    """Run in this process; what results.json holds."""
    main(arguments(model, out, *flags))
    return read(out)


def start(model: Path, out: Path, *flags: str) -> subprocess.Popen:
    """Run in a process of its own, to be killed."""
    command = [sys.executable, "-m", "subliminal_jax.cli", *arguments(model, out, *flags)]
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
