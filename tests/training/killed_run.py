"""A sweep with checkpoints that says each step: run, and killed, by test_checkpoints.py.

python -m tests.training.killed_run FOLDER
"""

import sys
from pathlib import Path
from typing import Any

from subliminal_jax.training.adapters import Full
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.loop import run_sweep
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.sweep import Sweep
from tests.training.tiny import CFG, base, rows


def run(folder: Path) -> Any:
    """To its end, from the newest checkpoint in `folder`; its state and its students."""
    config = TrainConfig(steps=24, batch_size=4, adapter=Full(), log_every=2, schedule="cosine")
    arms = [Arm(OptimizerSpec("adamw"), 3e-3, seed, data) for seed, data in enumerate("xyx")]
    sweep = Sweep(base(), CFG, arms, {"x": rows(10, 1), "y": rows(10, 2)}, config)
    state = run_sweep(
        sweep,
        folder,
        on_log=lambda step, metrics: print("step", step, flush=True),
        on_start=lambda step: print("start", step, flush=True),
    )
    return state, sweep.students(state)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
