"""Settings of `optimizer-mechanics`, and presets; sources as in `subliminal_jax.runs.presets`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from subliminal_jax.data.token_weights import token_weights
from subliminal_jax.errors import InputError
from subliminal_jax.runs.presets import (
    FENG_STUDENTS,
    PAPER_GRIDS,
    PAPER_STUDENTS,
    paper_preset,
    toy_presets,
)

from .arms import MechanicsSettings

PLAIN_ARMS = ("adamw", "rmsprop", "sgd", "momentum", "sign-sgd")
MAP_ARMS = ("frozen-map", "frozen-map-flat-rest", "frozen-map-zero-bottom")
ADAMW_ARMS = (
    "adamw-bottom-frozen",
    "adamw-bottom-zeroed",
    "adamw-rotated",
    "adamw-rotated-by-layer",
)
FULL_ARMS = ("adamw-full", "sgd-full")
PAPER_ARMS = (*PLAIN_ARMS, *MAP_ARMS, *ADAMW_ARMS, "sgd-rotated")
FENG_ARMS = (
    *PAPER_ARMS,
    "signum",
    "sgd-masked-10%",
    "normalized-sgd",
    "sgd-a-times-3",
    "sgd-a-times-16",
    "adamw-a-frozen",
    "frozen-map-two-levels",
    "living-map-two-levels",
)
SIGNS = PAPER_GRIDS["signum"]
# Rates of maps are in units of Adam's steps, with eps inside the root as in [C]; [F]'s "3" is in
# other units. All weights: 1e-5 for AdamW [N1].
PAPER_RATES = {
    "adamw": PAPER_GRIDS["adamw"],
    "rmsprop": PAPER_GRIDS["rmsprop"],
    "sgd": PAPER_GRIDS["sgd"],
    "momentum": PAPER_GRIDS["momentum"],
    "sign-sgd": SIGNS,
    **dict.fromkeys(MAP_ARMS, SIGNS),
    **dict.fromkeys(ADAMW_ARMS, PAPER_GRIDS["adamw"]),
    "sgd-rotated": PAPER_GRIDS["sgd"],
}
FULL_RATES = {"adamw-full": "2.5e-6,5e-6,1e-5,2e-5,4e-5", "sgd-full": "1e-4,1e-3,1e-2,1e-1,1"}
FENG_RATES = {
    **PAPER_RATES,
    "adamw": "5e-5,1e-4,2e-4,4e-4,8e-4",  # 1e-4 and 2e-4 [F]
    "signum": SIGNS,
    "sgd-masked-10%": "0.1,0.3,1,3,10",  # 3 [F]
    "normalized-sgd": "1e-3,1e-2,1e-1,1,10",
    "sgd-a-times-3": PAPER_GRIDS["sgd"],
    "sgd-a-times-16": PAPER_GRIDS["sgd"],
    "adamw-a-frozen": "5e-5,1e-4,2e-4,4e-4,8e-4",
}


def write_rates(grids: dict[str, str]) -> tuple[str, ...]:
    """The grids as `--rates` takes them."""
    return tuple(f"{name}={grid}" for name, grid in grids.items())


# The cat's vector is reported and the owl's tunes: one student an arm, as in the paper.
VECTORS: dict[str, Any] = {
    "traits": ("cat",),
    "tuning_traits": ("owl",),
    "controls": 1,
    "batch_sizes": (),
}


def keep_training(students: dict[str, Any]) -> dict[str, Any]:
    """Those of a paper's settings of students that are settings of this experiment."""
    own = ("steps", "log_every", "batch_size", "rank", "alpha", "schedule", "warmup", "clip")
    return {name: students[name] for name in own}


PRESETS: dict[str, dict[str, Any]] = {
    **toy_presets("optimizer-mechanics"),
    "full": {"rows": 1024, "steps": 96, "log_every": 24, "batch_sizes": (1, 4, 64, 0)},
    "paper-qwen2.5-7b": paper_preset(
        "qwen2.5-7b",
        students={},
        scale=True,
        optimizers=(*PAPER_ARMS, *FULL_ARMS),
        rates=write_rates(PAPER_RATES | FULL_RATES),
        **(keep_training(PAPER_STUDENTS) | VECTORS),
    ),
    "feng-qwen2.5-7b": paper_preset(
        "qwen2.5-7b",
        students={},
        scale=True,
        optimizers=FENG_ARMS,
        rates=write_rates(FENG_RATES),
        **(keep_training(FENG_STUDENTS) | VECTORS),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Config(MechanicsSettings):
    """Settings of the dispute."""

    out: Path = Path("runs/optimizer-mechanics")

    def check(self) -> None:
        for tail in (self.no_rare, self.rare_weighted):
            token_weights(np.zeros(1, int), tail)
        settings = {arm.setting for arm in self.choose_arms()}
        sizes = [n for n in self.batch_sizes if n > self.rows and f"batch-{n}" in settings]
        if sizes:
            raise InputError(f"the arms of batch-{min(sizes)} need more than --rows {self.rows}")
