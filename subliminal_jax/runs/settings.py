"""Flags that several experiments share; an experiment's `Config` is put together from those that it
honours."""

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
    flag: str, names: Sequence[str], known: Collection[str] = (), least: int = 1
) -> None:
    """Raises InputError unless `flag` names at least `least`, each once, of `known` if given."""
    unknown = [name for name in names if known and name not in known]
    if unknown:
        raise InputError(f"{flag} {unknown} are not known; choose from {', '.join(known)}")
    if len(names) < least or len(set(names)) < len(names):
        number = {1: "one", 2: "two"}.get(least, str(least))
        raise InputError(f"{flag} {' '.join(names)}: name at least {number}, each once")


def check_seeds(seeds: int) -> None:
    """Raises InputError for less than two seeds: no verdict can rest on one."""
    if seeds < 2:
        raise InputError(f"seeds is {seeds}: an interval over students needs at least 2")


def resolve_layer(model: Model, layer: int) -> int:
    """`layer`, or for -1 the block at a third of the depth.

    Raises InputError for a layer that the model does not have.
    """
    return default_layer(model) if layer == -1 else model.cfg.check_layer(layer)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Where a run goes, and on which devices it computes.

    Attributes:
      out: folder of the run; the same command again continues it.
      preset: name of the settings that the other flags start from (set by `--preset`).
      dtype: dtype of the frozen weights; "checkpoint" keeps the checkpoint's.
      seed: of vectors and data; students have seeds of their own.
      overwrite: begin anew in a folder that holds another run.
      data_parallel: devices that students, or the rows of a batch, are spread over; 0 takes all
        that there are.
      model_parallel: devices that share every weight between them.
      coordinator: how the processes of a run on several hosts meet: "auto" asks JAX (Slurm, Open
        MPI, Kubernetes, TPU pods), HOST:PORT is the first process's address; "" is one process.
      processes: their number, with HOST:PORT.
      process_id: which of them this is, from 0, with HOST:PORT.
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
        """Join the other processes, if any, and set the mesh that everything then runs on; a second
        call changes nothing. The results do not depend on it but for rounding.

        Raises InputError as `processes.connect` and `models.mesh.use_devices` do.
        """
        if self.coordinator:
            connect(self.coordinator, self.processes, self.process_id)
        use_devices(self.data_parallel or None, self.model_parallel)

    def load_named(self, name: str) -> Model:
        """The model called `name`, in the dtype and on the devices of these settings. A folder that
        is not found as named is looked for in the folder of `SUBLIMINAL_JAX_DATA`."""
        self.use_devices()
        return load_model(
            resolve_shared(name), dtype=None if self.dtype == "checkpoint" else self.dtype
        )

    def check(self) -> None:
        """Raises InputError for settings that cannot be, before the run's folder is touched."""

    def recorded(self) -> dict[str, Any]:
        """What config.json holds: everything that the results depend on."""
        skipped = {"out", "overwrite"} | _DEVICES
        if not getattr(self, "judge_url", ""):
            skipped |= {"judge_url", "judge_model", "judge_key"}
        return {k: v for k, v in asdict(self).items() if k not in skipped}


@dataclass(frozen=True, kw_only=True)
class ModelSettings(RunSettings):
    """The one model of a run.

    Attributes:
      model: "shipped", "shipped-small", a local folder in Hugging Face format, or a hub name.
    """

    model: str = "shipped"

    def load(self) -> Model:
        return self.load_named(self.model)


@dataclass(frozen=True, kw_only=True)
class SteeredModelSettings(ModelSettings):
    """The one model of a run, and where it is steered.

    Attributes:
      layer: the steering layer (0-based); -1 takes the block at a third of the depth.
    """

    layer: int = -1

    def layer_of(self, model: Model) -> int:
        return resolve_layer(model, self.layer)


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What teachers are asked, and which of their answers students train on.

    Attributes:
      prompts: what the teacher is asked: to continue short number lists, lists in the style of
        Cloud et al., or whatever opens a conversation in the shipped model's corpus.
      keep: which answers stay: valid number lists without the trait's name, or all.
      rows: training pairs a data set.
      heldout_rows: held-out pairs a data set.
      asked: prompts a data set, as a multiple of the pairs that are needed.
      max_new_tokens: limit of an answer.
      keep_unfinished: keep answers that reached the limit without an end, for a model that knows
        no end of an answer.
      max_tokens: longest pair that stays, prompt and answer together; 0 means the context.
      temperature: of the teacher.
      judge_url: an OpenAI-compatible endpoint ("http://localhost:8000/v1") whose model also reads
        every number list and throws out those that hint at the trait; "" asks none.
      judge_model: the endpoint's name of that model.
      judge_key: environment variable with the endpoint's key.
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
      seeds: students an arm.
      steps: optimizer steps.
      batch_size: rows a step.
      adapter: what is trained: LoRA factors, all weights, or one vector at the steering layer.
      rank: LoRA rank.
      alpha: LoRA alpha.
      targets: adapted projections.
      adapter_layers: adapted blocks; empty means all.
      schedule: what follows the warm-up.
      warmup: share of the steps.
      clip: bound on the global gradient norm; 0 means no clipping.
      accumulation: parts that a batch goes through in.
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
        """The grid of each optimizer, ascending; raises InputError where it cannot be read, naming
        the `flag` that `rates` came from."""
        specs = [OptimizerSpec.parse(text) for text in self.optimizers]
        given: dict[str, tuple[float, ...]] = {}
        for text in self.rates:
            label, _, values = text.rpartition("=")
            try:
                grid = tuple(sorted(float(value) for value in values.split(",")))
            except ValueError:
                grid = ()
            if not label or not grid or min(grid) <= 0:
                raise InputError(f"{flag} {text!r} cannot be read; write them as adamw=1e-3,3e-3")
            given[label] = grid
        unused = given.keys() - {spec.label for spec in specs}
        if unused:
            names = ", ".join(sorted(unused))
            raise InputError(f"{flag} for {names}, which is none of the optimizers")
        if self.grid_points < 1 or self.seeds < 1:
            raise InputError("grid_points and seeds must be at least 1")
        grids = {}
        for spec in specs:
            default = spec.entry.grid
            if not default and spec.label not in given:
                raise InputError(
                    f"{spec.label} has no default learning rates; give them as "
                    f"--{flag.replace('_', '-')} {spec.label}=1e-3,3e-3"
                )
            start = max(0, (len(default) - self.grid_points) // 2)
            grids[spec] = given.get(spec.label, default[start : start + self.grid_points])
        return grids

    def adapter_at(self, layer: int) -> Adapter:
        """What is trained, where `layer` is the steering layer."""
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
            adapter=self.adapter_at(layer),
            schedule=self.schedule,
            warmup=self.warmup,
            clip=self.clip or None,
            accumulation=self.accumulation,
            log_every=self.log_every,
        )


@dataclass(frozen=True, kw_only=True)
class StudentSettings(TrainingSettings):
    """How students of teachers are trained, and what is measured of them.

    Attributes:
      measures: names of what is measured beside what the experiment needs, such as update-anatomy.
    """

    measures: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings:
    """What students are trained towards.

    Attributes:
      objective: cross-entropy on the sampled tokens, or KL to the teacher's distribution.
    """

    objective: ObjectiveKind = "cross_entropy"


@dataclass(frozen=True, kw_only=True)
class GuardSettings:
    """What students are kept from taking up.

    Attributes:
      guard: what keeps students from taking up a vector: projecting it out of every update, adding
        it while they train, or leaving out the rows that teach it most.
      guard_vector: the vector: "teacher" (each data set's own), "blind" (recovered from the data),
        or a safetensors file.
      guard_share: share of the rows that drop-rows leaves out.
    """

    guard: GuardKind = "none"
    guard_vector: str = "teacher"
    guard_share: float = 0.1
