"""Settings of `auxiliary-logits`, and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from subliminal_jax.bounds import Count, Items, Positive, Range, as_flag
from subliminal_jax.errors import InputError
from subliminal_jax.runs.rates import RateSettings
from subliminal_jax.runs.settings import RunSettings
from subliminal_jax.training.optimizers import OPTIMIZERS, OptimizerSpec

from .mnist import NAMES, find_file

# Rules that are left out: of LoRA pairs, for there is none here; those that wait for another run's
# second moment; and adam, which is adamw without weight decay.
GIVEN_MOMENTS = ("adamw_masked", "frozen_map", "living_map")
ALL_RULES = tuple(
    name
    for name, entry in OPTIMIZERS.items()
    if entry.kind != "per_pair" and entry.grid and name not in (*GIVEN_MOMENTS, "adam")
)
# On a CPU they take eight times as long as other rules here (Muon, Scion) or a hundred.
OF_MATRICES = ("muon", "scion", "shampoo", "soap", "kron", "galore", "dion")
RULES = tuple(name for name in ALL_RULES if name not in OF_MATRICES)
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "all-rules": {"optimizers": ALL_RULES},
    "paper-mnist": {
        "optimizers": ("adam", "sgd"),
        "rates": ("adam=3e-4",),
        "starts_of": ("adam", "sgd"),
        "batch_size": 1024,
        "steps": 295,  # five epochs of 60,000 images
        "teacher_steps": 295,
        "teacher_rate": 3e-4,
        "test_digits": 10_000,
        "seeds": 20,
    },
}


@dataclass(frozen=True, kw_only=True)
class Config(RateSettings, RunSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      hidden: width of both hidden layers.
      auxiliary: auxiliary logits.
      seeds: networks, teachers and noise that are reported, each of its own draw.
      tuning_seeds: further ones on which learning rates are found.
      steps: of every student.
      batch_size: images in a step, of students and teachers.
      teacher_steps: of every teacher, with Adam.
      teacher_rate: its learning rate.
      train_digits: images that teachers draw from.
      test_digits: images on which accuracy is measured.
      heldout_noise: noise images of the held-out loss.
      starts_of: optimizers whose students also begin between two networks, and with parts of one.
      shares: how far on the way to the other network those begin.
      eps: sizes of the teacher's one step.
      alphas: sizes of the student's one step.
      step_images: digits of the teacher's one step, and noise images of the student's.
      together: students in one compiled program.
    """

    out: Path = Path("runs/auxiliary-logits")
    optimizers: Annotated[tuple[str, ...], Items(1)] = RULES
    factor: Annotated[float, Range(above=1, most=100)] = 3.0
    hidden: Annotated[int, Range(1, 100_000)] = 256
    auxiliary: Annotated[int, Range(2, 1000)] = 3
    seeds: Annotated[int, Range(2, 10_000)] = 5
    tuning_seeds: Annotated[int, Range(1, 10_000)] = 2
    steps: Count = 300
    batch_size: Count = 64
    teacher_steps: Count = 1000
    teacher_rate: Positive = 1e-3
    train_digits: Annotated[int, Range(1, 60_000)] = 60_000
    test_digits: Annotated[int, Range(1, 10_000)] = 2000
    heldout_noise: Count = 512
    starts_of: tuple[str, ...] = ("adamw", "sgd")
    shares: Annotated[tuple[float, ...], Range(above=0, below=1)] = (0.25, 0.5, 0.75)
    eps: Annotated[tuple[float, ...], Items(1), Range(above=0, most=100)] = (0.01, 0.1, 1.0)
    alphas: Annotated[tuple[float, ...], Items(1), Range(above=0, most=1e4)] = (0.1, 1.0)
    step_images: Count = 2048
    together: Annotated[int, Range(1, 10_000)] = 3

    def check(self) -> None:
        labels = self.labels()
        for name in self.starts_of:
            if OptimizerSpec.parse(name).label not in labels:
                raise InputError(f"{as_flag('starts_of', self.starts_of)}: {name} is not trained")
        if self.step_images > self.train_digits:
            raise InputError(
                f"{as_flag('step_images', self.step_images)} is more than --train-digits "
                f"{self.train_digits}"
            )
        for name, value in (("dtype", self.dtype), ("model_parallel", self.model_parallel)):
            if value not in ("float32", 1):
                raise InputError(
                    f"{as_flag(name, value)} has no effect: networks of this size are float32, "
                    "on one device"
                )

    def check_models(self) -> None:
        """Raises InputError where MNIST is not at hand."""
        for prefix in NAMES.values():
            find_file(f"{prefix}-images-idx3-ubyte.gz")
            find_file(f"{prefix}-labels-idx1-ubyte.gz")

    @property
    def further_starts(self) -> tuple[str, ...]:
        """Starts of students of `starts_of`, beside those of all optimizers."""
        return (*(f"mixed-{share:g}" for share in self.shares), "auxiliary-head", "trunk")
