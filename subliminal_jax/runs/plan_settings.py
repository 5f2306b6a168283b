"""How every student is trained, whatever it trains and however its rate is found."""

from dataclasses import dataclass
from typing import Annotated, Literal

from subliminal_jax.bounds import MANY, Blocks, Count, Items, Positive, Range, Text, as_flag
from subliminal_jax.errors import InputError
from subliminal_jax.memory import check_fits, device_bytes, host_bytes
from subliminal_jax.models.forward import Remat
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.loggers import LoggerName, check_loggers
from subliminal_jax.runs.student_files import KeptStudents
from subliminal_jax.training.adapters import (
    LARGEST_RANK,
    PROJECTIONS,
    Adapter,
    Full,
    LoRA,
    Vector,
    check_layers,
    check_rank,
    trainable_count,
)
from subliminal_jax.training.arms import Schedule, TrainConfig, check_plan

AdapterKind = Literal["lora", "full", "vector"]
Rank = Annotated[int, Range(1, LARGEST_RANK)]
Targets = Annotated[tuple[str, ...], Items(1), Text(choices=PROJECTIONS)]
AdapterLayers = Annotated[tuple[int, ...], Blocks()]


@dataclass(frozen=True, kw_only=True)
class KeepSettings:
    """Which trained students a run keeps, and where it reports to while it trains.

    Attributes:
      save_students: students that stay in the run's folder, to be exported: none, those at the best
        rate of each optimizer on each data set, or all. Each takes 4 bytes a trained weight: 0.3 MB
        for the shipped model's LoRA, 4 MB for all its weights, 30 GB for all of a 7B model; a
        checkpoint of the run takes more.
      report_to: loggers that get the metrics of students, besides the run's folder: tensorboard,
        wandb (extras of these names).
    """

    save_students: KeptStudents = "best"
    report_to: tuple[LoggerName, ...] = ()

    def check_group(self) -> None:
        """Raises InputError for a logger whose package is not installed."""
        check_loggers(self.report_to)


@dataclass(frozen=True, kw_only=True)
class ShownSettings(KeepSettings):
    """Students that are kept, and whose answers the page shows.

    Attributes:
      shown_questions: questions whose answers the page shows, of the base, a teacher, its student
        and a control; 0 for none.
    """

    shown_questions: Annotated[int, Range(0, 100)] = 3


@dataclass(frozen=True, kw_only=True)
class PlanSettings(KeepSettings):
    """How students are trained.

    Attributes:
      steps: optimizer steps.
      batch_size: rows in each step.
      rank: LoRA rank.
      alpha: LoRA alpha.
      rslora: scale LoRA by alpha/sqrt(rank) (rank-stabilised) in place of alpha/rank.
      targets: adapted projections.
      adapter_layers: adapted blocks; empty means all.
      schedule: what follows the warm-up.
      warmup: share of the steps.
      clip: largest global gradient norm; 0 means no clipping.
      accumulation: micro-batches of a batch.
      remat: what is computed again in the backward pass, for less memory: nothing, what is wider
        than the residual stream, or whole blocks.
      log_every: steps between two measurements (and checkpoints).
    """

    steps: Count = 64
    batch_size: Count = 16
    rank: Rank = 8
    alpha: Positive = 16.0
    rslora: bool = False
    targets: Targets = PROJECTIONS
    adapter_layers: AdapterLayers = ()
    schedule: Schedule = "constant"
    warmup: Annotated[float, Range(least=0, below=1)] = 0.0
    clip: Annotated[float, Range(least=0, most=1e30)] = 0.0
    accumulation: Count = 1
    remat: Remat = "none"
    log_every: Count = 8

    def check_group(self) -> None:
        """Raises InputError for a plan that cannot be."""
        check_plan(self, as_flag)
        rows = getattr(self, "rows", MANY)  # of other settings, where the experiment samples data
        if self.batch_size > rows:
            raise InputError(
                f"--batch-size {self.batch_size} is more than --rows {rows}: give a smaller one"
            )

    def check_orders(self, students: int, of: str) -> None:
        """Raises InputError where the order of the rows of so many students does not fit the
        memory; `of` says where their number comes from."""
        check_fits(
            f"the order of the rows (--steps {self.steps}, --batch-size {self.batch_size}, {of})",
            4 * self.steps * self.batch_size * students,
            host_bytes(),
            "ask for fewer",
        )

    def make_adapter_of(self, kind: AdapterKind, layer: int) -> Adapter:
        """The adapter of a kind, where `layer` is the steering layer."""
        if kind == "full":
            return Full()
        if kind == "vector":
            return Vector(layer)
        layers = self.adapter_layers or None
        return LoRA(self.rank, self.alpha, self.targets, layers, self.rslora)

    def plan_kind(self, kind: AdapterKind, layer: int) -> TrainConfig:
        """How the students of a kind are trained."""
        return TrainConfig(
            steps=self.steps,
            batch_size=self.batch_size,
            adapter=self.make_adapter_of(kind, layer),
            schedule=self.schedule,
            warmup=self.warmup,
            clip=self.clip or None,
            accumulation=self.accumulation,
            remat=self.remat,
            log_every=self.log_every,
        )

    def check_adapter(self, kind: AdapterKind, model: Model, students: int) -> None:
        """Raises InputError for an adapter that does not fit the model, all weights of a quantized
        one among them, and for so many students of it that they do not fit the memory."""
        held = getattr(self, "quantize", "none")
        if kind == "full" and held != "none":
            raise InputError(
                f"--quantize {held}: all weights cannot be trained then; take students of another "
                "kind (--adapter lora or vector, --adapters lora vector)"
            )
        adapter = self.make_adapter_of(kind, 0)
        check_layers(adapter, model.cfg, as_flag, "adapter_layers")
        check_rank(adapter, model.cfg, as_flag)
        count = trainable_count(adapter, model.cfg)
        check_fits(
            f"training {students} students of {count:,} weights ({kind} students, --rank "
            f"{self.rank})",
            8 * students * count,  # float32, with gradients
            device_bytes(),
            "train fewer weights, or fewer students",
        )
