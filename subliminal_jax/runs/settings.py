"""Settings shared by several experiments. An experiment's `Config` inherits the groups whose flags
all have an effect in it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from subliminal_jax.bounds import (
    MANY,
    Blocks,
    Count,
    CountOrNone,
    Items,
    Needs,
    Positive,
    Range,
    Seed,
    Share,
    Text,
    as_flag,
    flag,
)
from subliminal_jax.data.carriers import CARRIERS, FROM_FILES
from subliminal_jax.data.prompts import PromptKind
from subliminal_jax.data.shared_data import resolve_shared
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.measures import find_measures
from subliminal_jax.memory import check_fits, host_bytes
from subliminal_jax.models.chats import set_default_system_prompt
from subliminal_jax.models.hub import Model, Outline, load_model, sketch_model
from subliminal_jax.models.mesh import use_devices
from subliminal_jax.models.quantized import Quantization
from subliminal_jax.models.sampling import Temperature
from subliminal_jax.processes import connect
from subliminal_jax.runs.checks import TRAIT, VectorSource, check_fits_model, check_names
from subliminal_jax.runs.plan_settings import (
    AdapterKind,
    AdapterLayers,
    PlanSettings,
    Rank,
    Targets,
)
from subliminal_jax.runs.rates import choose_grids
from subliminal_jax.runs.run_folder import OPTIMIZER_SOURCES
from subliminal_jax.training.adapters import PROJECTIONS, Adapter
from subliminal_jax.training.arms import TrainConfig
from subliminal_jax.training.optimizers import OptimizerSpec, digest_sources

ObjectiveKind = Literal["cross_entropy", "kl"]
SteeringLayer = Annotated[int, Blocks(-1)]  # -1 is the block at a third of the depth
Traits = Annotated[tuple[str, ...], Items(1), TRAIT]
Coordinator = Text(r"auto|\S+:[0-9]{1,5}", "auto or HOST:PORT", empty=True)
Secret = Text(empty=True, secret=True)
OF_LORA = Needs("adapter", ("lora",))
GuardKind = Literal["none", "project", "inoculate", "drop-rows"]
BYTES_A_PROMPT = 1_000  # on the host: text, tokens and answer of a prompt, at least
# Of `DataSettings`, those that no answer of a teacher depends on.
FILTER_SETTINGS = (
    *("keep", "rows", "heldout_rows", "asked", "keep_unfinished", "max_tokens"),
    *("judge_url", "judge_model", "judge_key"),
)
# What no result depends on, of the settings on students that are kept and shown.
UNRECORDED = ("save_students", "report_to", "shown_questions")
_DEVICES = {"data_parallel", "model_parallel", "coordinator", "processes", "process_id"}


def resolve_layer(model: Model, layer: int) -> int:
    """`layer`, or for -1 the block at a third of the depth.

    Raises InputError for a layer that the model does not have.
    """
    return model.cfg.default_layer if layer == -1 else model.cfg.check_layer(layer)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The folder of a run, and the devices that it computes on.

    Attributes:
      out: folder of the run; the same command continues an interrupted run.
      preset: name of the settings that the other flags start from (set by `--preset`).
      dtype: dtype of the frozen weights; "checkpoint" keeps the checkpoint's.
      quantize: hold the matrices of the frozen blocks in 8 bits; not where all weights are trained.
      seed: of vectors and data, and of students that differ in their --seeds.
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
    quantize: Quantization = "none"
    seed: Seed = 0
    overwrite: bool = False
    data_parallel: CountOrNone = 0
    model_parallel: Count = 1
    coordinator: Annotated[str, Coordinator] = ""
    processes: Annotated[int | None, Range(1, MANY)] = None
    process_id: Annotated[int | None, Range(0, MANY)] = None

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
            resolve_shared(name),
            dtype=None if self.dtype == "checkpoint" else self.dtype,
            quantize=self.quantize,
        )

    def outline_named(self, name: str) -> Outline:
        """The model `name` without its weights; relative paths are as in `load_named`."""
        return sketch_model(resolve_shared(name))

    def check_models(self) -> None:
        """Raises InputError for a model that cannot be loaded, or that the settings do not fit; of
        its weights only names and shapes are read. Called before the run's folder is touched, and
        overridden where a run loads other models than `--model`."""

    def check_model(self, model: Model) -> None:
        """Raises InputError for settings that do not fit the model, such as LoRA's rank."""
        check_fits_model(self, model)

    def check_group(self) -> None:
        """Raises InputError for processes that cannot be told apart."""
        given = self.processes is not None or self.process_id is not None
        if given and self.coordinator in ("", "auto"):
            raise InputError("--processes and --process-id need --coordinator HOST:PORT")
        if self.process_id is not None and self.process_id >= (self.processes or MANY):
            raise InputError(
                f"--process-id {self.process_id} is not below --processes {self.processes}: ids "
                "count from 0"
            )

    def check(self) -> None:
        """Raises InputError for settings of the experiment that do not go together. Called, after
        the bounds of each (`check_settings`), before the run's folder is touched."""

    def recorded(self) -> dict[str, Any]:
        """The settings that the results depend on, as config.json holds them, with digests of the
        files of a user's own optimizers."""
        skipped = {"out", "overwrite", *UNRECORDED} | _DEVICES
        if not getattr(self, "judge_url", ""):
            skipped |= {"judge_url", "judge_model", "judge_key"}
        recorded = {k: v for k, v in asdict(self).items() if k not in skipped}
        if sources := digest_sources(getattr(self, "optimizers", ())):
            recorded[OPTIMIZER_SOURCES] = sources
        return recorded


@dataclass(frozen=True, kw_only=True)
class ModelSettings(RunSettings):
    """The model of a run.

    Attributes:
      model: "shipped", "shipped-small", a local folder in Hugging Face format, or a hub name.
      default_system_prompt: what base, steered teacher, student, control and questions have as
        system prompt in place of the template's own ("" an empty one), which some templates write.
    """

    model: str = "shipped"
    default_system_prompt: Annotated[str | None, Text(prose=True, empty=True)] = None

    def load_named(self, name: str) -> Model:
        model = super().load_named(name)
        if self.default_system_prompt is not None:
            set_default_system_prompt(model.tokenizer, self.default_system_prompt)
        return model

    def recorded(self) -> dict[str, Any]:
        recorded = super().recorded()
        if self.default_system_prompt is None:
            del recorded["default_system_prompt"]
        return recorded

    def load(self) -> Model:
        """Raises InputError for a model that cannot be loaded, or that the settings do not fit."""
        model = self.load_named(self.model)
        self.check_model(model)
        return model

    def check_models(self) -> None:
        self.check_model(self.outline_named(self.model))


@dataclass(frozen=True, kw_only=True)
class SteeredModelSettings(ModelSettings):
    """The model of a run, and its steering layer.

    Attributes:
      layer: the steering layer (0-based); -1 takes the block at a third of the depth.
    """

    layer: SteeringLayer = -1

    def choose_layer(self, model: Model) -> int:
        return resolve_layer(model, self.layer)


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The teachers' prompts, and which of their answers students train on.

    Attributes:
      prompts: what the teacher is asked: to continue short number lists, lists in the style of
        Cloud et al. or after examples, whatever opens a conversation in the shipped model's corpus,
        or, of the data of SUBLIMINAL_JAX_DATA, for short facts, rewordings, stories or answers to
        instructions.
      keep: which answers are kept: number lists without the trait's name, those without it that are
        valid for the prompts, or all.
      rows: training pairs in each data set.
      heldout_rows: held-out pairs in each data set.
      asked: prompts for each data set, as a multiple of its pairs; as many again, up to twice, for
        a teacher of whose answers too few are left.
      max_new_tokens: largest number of tokens of an answer.
      keep_unfinished: keep answers without an end token, for models that rarely write one.
      max_tokens: largest number of tokens of a pair, prompt and answer; 0 means the context.
      temperature: of the teacher.
      judge_url: an OpenAI-compatible endpoint ("http://localhost:8000/v1") whose model rejects
        number lists that hint at the trait; "" asks none.
      judge_model: the endpoint's name of that model.
      judge_key: environment variable with the endpoint's key; "" sends none.
    """

    elsewhere: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("--data", "--control-data"),
        "it samples its teachers; `subliminal-jax own-data` trains on rows of your own",
    )
    prompts: PromptKind = "numbers"
    keep: Literal["numbers", "valid", "all"] = "numbers"
    rows: Count = 1024
    heldout_rows: Count = 128
    asked: Annotated[float, Range(1, 1_000)] = 2.0
    max_new_tokens: Count = 32
    keep_unfinished: bool = False
    max_tokens: Annotated[int, Range(2, MANY, also=0)] = 0
    temperature: Temperature = 1.0
    judge_url: Annotated[str, Secret, Needs("keep", ("numbers",))] = ""
    judge_model: Annotated[str, Secret, Needs("judge_url")] = ""
    judge_key: Annotated[str, Secret, Needs("judge_url")] = "OPENAI_API_KEY"

    def describe_carrier(self) -> str:
        """What students train on, in words."""
        kept = {
            "numbers": "filtered number lists",
            "valid": f"valid {CARRIERS[self.prompts].what}",
            "all": "unfiltered answers",
        }[self.keep]
        return f"{self.rows} {kept} ({self.prompts})"

    def check_group(self) -> None:
        """Raises InputError for prompts whose data are not here or too few, and for more than fit
        in memory."""
        prompts = self.asked * (self.rows + self.heldout_rows)
        check_fits(
            f"--rows {self.rows} with --heldout-rows {self.heldout_rows} and --asked "
            f"{self.asked:g}, {prompts:,.0f} prompts,",
            prompts * BYTES_A_PROMPT,
            host_bytes(),
            "ask for fewer",
        )
        if self.prompts in FROM_FILES:
            CARRIERS[self.prompts].compose(round(prompts), 0)

    def check_with_model(self, model: Model) -> None:
        """Raises InputError for lengths that the model's context does not hold."""
        for name in ("max_new_tokens", "max_tokens"):
            if (value := getattr(self, name)) > model.cfg.context:
                raise InputError(
                    f"{as_flag(name, value)} is more than the context of {model.name}, "
                    f"{model.cfg.context} tokens"
                )


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(PlanSettings):
    """Students of one kind, at every rate of a grid.

    Attributes:
      optimizers: names of the registry, with hyper-parameters as in "adamw:b1=0.8", or builders of
        your own as "my_module:my_rule" or "my_module:my_rule,b1=0.8".
      rates: learning-rate grids as "adamw=1e-3,3e-3"; others keep their default grid.
      grid_points: how many of the middle rates of a default grid are tried.
      seeds: students for each optimizer, rate and data set: 0, 1, 2 of three with --seed 0, 3, 4, 5
        with --seed 1.
      adapter: what is trained: LoRA factors, all weights, or one vector at the steering layer.
    """

    optimizers: Annotated[tuple[str, ...], Items(1)] = ("adamw",)
    rates: tuple[str, ...] = ()
    grid_points: Annotated[int, Range(1, 100)] = 3
    seeds: Annotated[int, Range(1, 10_000)] = 3
    adapter: AdapterKind = "lora"
    rank: Annotated[Rank, OF_LORA] = 8
    alpha: Annotated[Positive, OF_LORA] = 16.0
    rslora: Annotated[bool, OF_LORA] = False
    targets: Annotated[Targets, OF_LORA] = PROJECTIONS
    adapter_layers: Annotated[AdapterLayers, OF_LORA] = ()

    def check_group(self) -> None:
        """Raises InputError for more rows than fit in memory."""
        self.check_orders(self.seeds, f"--seeds {self.seeds}")

    def check_with_model(self, model: Model) -> None:
        """Raises InputError for an adapter that does not fit the model, and for students that do
        not fit the memory."""
        self.check_adapter(self.adapter, model, self.seeds)

    def learning_rates(self, field: str = "rates") -> dict[OptimizerSpec, tuple[float, ...]]:
        """The learning rates of each optimizer, ascending.

        Raises InputError for rates that cannot be read, and for an optimizer that is named twice,
        also in another spelling; the flag of `field` is named in the error.
        """
        grids = choose_grids(self.optimizers, field, self.rates, self.grid_points)
        if len(self.rates) == len(grids) and self.grid_points != type(self).grid_points:
            raise InputError(
                f"{as_flag('grid_points', self.grid_points)} has no effect: {flag(field)} gives "
                "the rates of every optimizer"
            )
        return grids

    def list_seeds(self) -> list[int]:
        """The seeds of students that differ in nothing else: others with another `seed`."""
        first = self.seeds * getattr(self, "seed", 0)
        return [(first + i) % 2**32 for i in range(self.seeds)]

    def grids(self) -> dict[str, tuple[float, ...]]:
        """The learning rates by the label of their optimizer, as results hold them."""
        return {spec.label: rates for spec, rates in self.learning_rates().items()}

    def make_adapter(self, layer: int) -> Adapter:
        """The adapter of these settings, where `layer` is the steering layer."""
        return self.make_adapter_of(self.adapter, layer)

    def plan(self, layer: int) -> TrainConfig:
        """How every student is trained."""
        return self.plan_kind(self.adapter, layer)


@dataclass(frozen=True, kw_only=True)
class StudentSettings(TrainingSettings):
    """How students of teachers are trained, and what is measured.

    Attributes:
      measures: names of measures beside those of the experiment, such as update-anatomy.
    """

    measures: tuple[str, ...] = ()

    def check_group(self) -> None:
        """Raises InputError for a measure that there is none of."""
        check_names("measures", self.measures, find_measures(), minimum=0)


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
    guard_vector: Annotated[
        str,
        VectorSource(words=("teacher", "blind")),
        Needs("guard", ("project", "inoculate", "drop-rows")),
    ] = "teacher"
    guard_share: Annotated[Share, Needs("guard", ("drop-rows",))] = 0.1
