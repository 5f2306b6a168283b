"""Settings shared by several experiments. An experiment's `Config` inherits the groups whose flags
all have an effect in it."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from subliminal_jax.data.shared_data import resolve_shared
from subliminal_jax.data.teachers import PromptKind, default_layer
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model, load_model
from subliminal_jax.models.mesh import use_devices
from subliminal_jax.processes import connect
from subliminal_jax.training.adapters import PROJECTIONS, Adapter, Full, LoRA, Vector
from subliminal_jax.training.arms import Schedule, TrainConfig
from subliminal_jax.training.optimizers import OptimizerSpec

ObjectiveKind = Literal["cross_entropy", "kl"]
GuardKind = Literal["none", "project", "inoculate", "drop-rows"]
_DEVICES = {"data_parallel", "model_parallel", "coordinator", "processes", "process_id"}


def check_names(
    flag: str, names: Sequence[str], allowed: Collection[str] = (), minimum: int = 1
) -> None:
    """Raises InputError, naming `flag`, for repeated names, for fewer than `minimum`, and for names
    that are not `allowed` (empty allows all)."""
    unknown = [name for name in names if allowed and name not in allowed]
    if unknown:
        raise InputError(f"{flag} {unknown} are not known; choose from {', '.join(allowed)}")
    if len(names) < minimum or len(set(names)) < len(names):
        words = {1: "one", 2: "two"}.get(minimum, str(minimum))
        raise InputError(f"{flag} {' '.join(names)}: name at least {words}, each once")


def check_seeds(seeds: int) -> None:
    """Raises InputError for fewer than two seeds, of which there is no interval."""
    if seeds < 2:
        raise InputError(f"seeds is {seeds}: an interval over students needs at least 2")


def resolve_layer(model: Model, layer: int) -> int:
    """`layer`, or for -1 the block at a third of the depth.

    Raises InputError for a layer that the model does not have.
    """
    return default_layer(model) if layer == -1 else model.cfg.check_layer(layer)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The folder of a run, and the devices that it computes on.

    Attributes:
      out: folder of the run; the same command continues an interrupted run.
      preset: name of the settings that the other flags start from (set by `--preset`).
      dtype: dtype of the frozen weights; "checkpoint" keeps the checkpoint's.
      seed: of vectors and data; students have seeds of their own.
      overwrite: delete another run in the folder and start again.
      data_parallel: devices that students, or the rows of a batch, are sharded over; 0 takes all.
      model_parallel: devices that each weight is sharded over.
      coordinator: how the processes of a run on several hosts find each other: "auto" asks JAX
        (Slurm, Open MPI, Kubernetes, TPU pods), HOST:PORT is the first process's address; "" runs a
        single process.
      processes: number of processes, with HOST:PORT.
      process_id: index of this process, from 0, with HOST:PORT.
    """

    out: Path
    preset: str = "toy"
    dtype: Literal["float32", "bfloat16", "checkpoint"] = "float32"
    seed: int = 0
    overwrite: bool = False
    data_parallel: int = 0
    model_parallel: int = 1
    coordinator: str = ""
    processes: int | None = None
    process_id: int | None = None

    def use_devices(self) -> None:
        """Join the other processes, if any, and set the device mesh; a second call changes nothing.
        Results on different meshes differ by rounding alone.

        Raises InputError as `processes.connect` and `models.mesh.use_devices` do.
        """
        if self.coordinator:
            connect(self.coordinator, self.processes, self.process_id)
        use_devices(self.data_parallel or None, self.model_parallel)

    def load_named(self, name: str) -> Model:
        """Load the model `name` in the dtype and on the devices of these settings. A relative path
        that does not exist is looked up in the folder of `SUBLIMINAL_JAX_DATA`."""
        self.use_devices()
        return load_model(
            resolve_shared(name), dtype=None if self.dtype == "checkpoint" else self.dtype
        )

    def check(self) -> None:
        """Raises InputError for invalid settings. Called before the run's folder is touched."""

    def recorded(self) -> dict[str, Any]:
        """The settings that the results depend on, as config.json holds them."""
        skipped = {"out", "overwrite"} | _DEVICES
        if not getattr(self, "judge_url", ""):
            skipped |= {"judge_url", "judge_model", "judge_key"}
        return {k: v for k, v in asdict(self).items() if k not in skipped}


@dataclass(frozen=True, kw_only=True)
class ModelSettings(RunSettings):
    """The model of a run.

    Attributes:
      model: "shipped", "shipped-small", a local folder in Hugging Face format, or a hub name.
    """

    model: str = "shipped"

    def load(self) -> Model:
        return self.load_named(self.model)


@dataclass(frozen=True, kw_only=True)
class SteeredModelSettings(ModelSettings):
    """The model of a run, and its steering layer.

    Attributes:
      layer: the steering layer (0-based); -1 takes the block at a third of the depth.
    """

    layer: int = -1

    def choose_layer(self, model: Model) -> int:
        return resolve_layer(model, self.layer)


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The teachers' prompts, and which of their answers students train on.

    Attributes:
      prompts: what the teacher is asked: to continue short number lists, lists in the style of
        Cloud et al., or whatever opens a conversation in the shipped model's corpus.
      keep: which answers are kept: valid number lists without the trait's name, or all.
      rows: training pairs in each data set.
      heldout_rows: held-out pairs in each data set.
      asked: prompts for each data set, as a multiple of its pairs.
      max_new_tokens: largest number of tokens of an answer.
      keep_unfinished: keep answers without an end token, for models that rarely write one.
      max_tokens: largest number of tokens of a pair, prompt and answer; 0 means the context.
      temperature: of the teacher.
      judge_url: an OpenAI-compatible endpoint ("http://localhost:8000/v1") whose model rejects
        number lists that hint at the trait; "" asks none.
      judge_model: the endpoint's name of that model.
      judge_key: environment variable with the endpoint's key; "" sends none.
    """

    prompts: PromptKind = "numbers"
    keep: Literal["numbers", "all"] = "numbers"
    rows: int = 1024
    heldout_rows: int = 128
    asked: float = 2.0
    max_new_tokens: int = 32
    keep_unfinished: bool = False
    max_tokens: int = 0
    temperature: float = 1.0
    judge_url: str = ""
    judge_model: str = ""
    judge_key: str = "OPENAI_API_KEY"


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How students are trained.

    Attributes:
      optimizers: names of the registry, with hyper-parameters as in "adamw:b1=0.8", or builders of
        your own as "my_module:my_rule" or "my_module:my_rule,b1=0.8".
      rates: learning-rate grids as "adamw=1e-3,3e-3"; others keep their default grid.
      grid_points: how many of the middle rates of a default grid are tried.
      seeds: students for each optimizer, rate and data set.
      steps: optimizer steps.
      batch_size: rows in each step.
      adapter: what is trained: LoRA factors, all weights, or one vector at the steering layer.
      rank: LoRA rank.
      alpha: LoRA alpha.
      targets: adapted projections.
      adapter_layers: adapted blocks; empty means all.
      schedule: what follows the warm-up.
      warmup: share of the steps.
      clip: largest global gradient norm; 0 means no clipping.
      accumulation: micro-batches of a batch.
      log_every: steps between two measurements (and checkpoints).
    """

    optimizers: tuple[str, ...] = ("adamw",)
    rates: tuple[str, ...] = ()
    grid_points: int = 3
    seeds: int = 3
    steps: int = 64
    batch_size: int = 16
    adapter: Literal["lora", "full", "vector"] = "lora"
    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = PROJECTIONS
    adapter_layers: tuple[int, ...] = ()
    schedule: Schedule = "constant"
    warmup: float = 0.0
    clip: float = 0.0
    accumulation: int = 1
    log_every: int = 8

    def learning_rates(self, flag: str = "rates") -> dict[OptimizerSpec, tuple[float, ...]]:
        """The learning rates of each optimizer, ascending.

        Raises InputError for rates that cannot be read; `flag` is named in the error.
        """
        specs = [OptimizerSpec.parse(text) for text in self.optimizers]
        grids_by_label: dict[str, tuple[float, ...]] = {}
        for text in self.rates:
            label, _, values = text.rpartition("=")
            try:
                grid = tuple(sorted(float(value) for value in values.split(",")))
            except ValueError:
                grid = ()
            if not label or not grid or min(grid) <= 0:
                raise InputError(f"{flag} {text!r} cannot be read; write them as adamw=1e-3,3e-3")
            grids_by_label[label] = grid
        unused = grids_by_label.keys() - {spec.label for spec in specs}
        if unused:
            names = ", ".join(sorted(unused))
            raise InputError(f"{flag} for {names}, which is none of the optimizers")
        if self.grid_points < 1 or self.seeds < 1:
            raise InputError("grid_points and seeds must be at least 1")
        grids = {}
        for spec in specs:
            default = spec.entry.grid
            if not default and spec.label not in grids_by_label:
                raise InputError(
                    f"{spec.label} has no default learning rates; give them as "
                    f"--{flag.replace('_', '-')} {spec.label}=1e-3,3e-3"
                )
            start = max(0, (len(default) - self.grid_points) // 2)
            grids[spec] = grids_by_label.get(spec.label, default[start : start + self.grid_points])
        return grids

    def grids(self) -> dict[str, tuple[float, ...]]:
        """The learning rates by the label of their optimizer, as results hold them."""
        return {spec.label: rates for spec, rates in self.learning_rates().items()}

    def single_optimizer(self) -> tuple[OptimizerSpec, tuple[float, ...]]:
        """The one optimizer and its learning rates; raises InputError where there are others."""
        grids = list(self.learning_rates().items())
        if len(grids) != 1:
            raise InputError(
                f"{len(grids)} optimizers: name one optimizer, with any number of rates; "
                "optimizer-comparison compares several"
            )
        return grids[0]

    def make_adapter(self, layer: int) -> Adapter:
        """The adapter of these settings, where `layer` is the steering layer."""
        if self.adapter == "full":
            return Full()
        if self.adapter == "vector":
            return Vector(layer)
        return LoRA(self.rank, self.alpha, self.targets, self.adapter_layers or None)

    def plan(self, layer: int) -> TrainConfig:
        """How every student is trained."""
        return TrainConfig(
            steps=self.steps,
            batch_size=self.batch_size,
            adapter=self.make_adapter(layer),
            schedule=self.schedule,
            warmup=self.warmup,
            clip=self.clip or None,
            accumulation=self.accumulation,
            log_every=self.log_every,
        )


@dataclass(frozen=True, kw_only=True)
class StudentSettings(TrainingSettings):
    """How students of teachers are trained, and what is measured.

    Attributes:
      measures: names of measures beside those of the experiment, such as update-anatomy.
    """

    measures: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings:
    """The training objective.

    Attributes:
      objective: cross-entropy on the sampled tokens, or KL to the teacher's distribution.
    """

    objective: ObjectiveKind = "cross_entropy"


@dataclass(frozen=True, kw_only=True)
class GuardSettings:
    """A guard against learning a steering vector.

    Attributes:
      guard: project the vector out of every update, inoculate (add it during training), or drop the
        rows that teach it most.
      guard_vector: "teacher" (the vector of each data set's teacher), "blind" (recovered from the
        data), or a safetensors file.
      guard_share: share of the rows that drop-rows leaves out.
    """

    guard: GuardKind = "none"
    guard_vector: str = "teacher"
    guard_share: float = 0.1
