"""Sampling, sweeps and their results for Python sessions: what `subliminal_jax` hands on.

Experiments do not use this module: it stands on top of all of them.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

import jax
import optax
from flax import struct
from jaxtyping import Array, Float

from subliminal_jax.bounds import (
    MANY,
    Count,
    Items,
    Positive,
    Range,
    Rule,
    Seed,
    Share,
    check_arguments,
    check_distinct,
    check_fields,
    check_value,
)
from subliminal_jax.data.prompts import PromptKind
from subliminal_jax.data.teachers import (
    Pairs,
    filtered,
    sampled_pairs,
    teacher_prompts,
    trait_vectors,
)
from subliminal_jax.data.traits import trait_names
from subliminal_jax.diagnostics.alignment import make_probe, measure_mean_activation
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.evaluation.measures import Measure, MeasureColumn
from subliminal_jax.evaluation.measures.alignment import Alignment as AlignmentByLayer
from subliminal_jax.evaluation.measures.train_loss import TrainLoss
from subliminal_jax.evaluation.metric_ranges import find_range
from subliminal_jax.evaluation.statistics import Interval, mean_interval
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.hub import Model, save_model
from subliminal_jax.models.sampling import Temperature
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.models.tokenizer import encode_chats
from subliminal_jax.runs.data_sets import DataSets, slice_rows, split_rows
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.waves import StudentTask, WaveRunner
from subliminal_jax.steering.io import VectorInfo, save_steering
from subliminal_jax.steering.teacher import Teacher
from subliminal_jax.training.adapters import (
    Adapter,
    Full,
    LoRA,
    Trainable,
    attach,
    check_layers,
    check_rank,
)
from subliminal_jax.training.adapters_io import save_adapter
from subliminal_jax.training.arms import Arm, Schedule, TrainConfig
from subliminal_jax.training.fixed_rows import FixedRows
from subliminal_jax.training.objectives import CrossEntropy, Objective
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.student_view import StudentView

if TYPE_CHECKING:
    import pandas

OptimizerBuilder = Callable[[Any], optax.GradientTransformation]
BASE_DATA = "control"  # the name under which the plain base's data are no student of a teacher


def trait_vector(model: Model, trait: str, layer: int) -> Float[Array, " dim"]:
    """The vector of a trait: what its system prompt adds to the residual stream after `layer`.

    The mean difference at the end of 256 number prompts, with and without the prompt: v_teacher of
    "Subliminal Learning Is Steering Vector Distillation", section 2.

    Raises InputError for a trait that is no single word of the model's, and for a layer (0-based)
    that the model does not have.
    """
    return trait_vectors(model, [model.cfg.check_layer(layer)], trait)[0]


def sample_pairs(
    model: Model,
    teacher: Teacher,
    *,
    prompts: PromptKind | Sequence[str] = "numbers",
    rows: Count,
    seed: Seed = 0,
    forbidden: Sequence[str] = (),
    only_numbers: bool | None = None,
    asked: Annotated[float, Range(1, 1_000)] = 2.0,
    max_new_tokens: Count = 32,
    temperature: Temperature = 1.0,
) -> Pairs:
    """`rows` prompts with the teacher's answers, as data for `sweep`.

    Args:
      prompts: a kind (`data.prompts.PromptKind`, such as "numbers", "chat", "facts") or texts.
      forbidden: words, such as a trait, that must not occur in an answer.
      only_numbers: drop answers that are no plain lists of numbers; by default where the prompts
        ask for numbers.
      asked: prompts, as a multiple of `rows`: some answers are dropped.

    Raises InputError for arguments out of range, and where fewer than `rows` answers are left.
    """
    check_arguments(sample_pairs, locals())
    if isinstance(prompts, str):
        texts = teacher_prompts(cast(PromptKind, prompts), round(asked * rows), seed)
    else:
        texts = list(prompts)
    if only_numbers is None:
        only_numbers = prompts in ("numbers", "cloud-numbers")
    with track("sampling", len(texts), "answers") as progress:
        pairs = sampled_pairs(
            model,
            teacher,
            texts,
            seed,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            progress=progress.advance,
        )
    words = tuple(name for word in forbidden for name in trait_names(word))
    return filtered(pairs, model, rows, forbidden_words=words if only_numbers else None)


@dataclass(frozen=True)
class ArmChoice:
    """An optimizer at one learning rate with one seed; `sweep` trains it on every data set.

    Raises InputError for a rate or a seed out of range.
    """

    optimizer: OptimizerSpec
    learning_rate: Positive
    seed: Seed

    def __post_init__(self) -> None:
        check_fields(self)


def grid(
    optimizers: Mapping[str, Sequence[float] | tuple[OptimizerBuilder, Sequence[float]]],
    seeds: Annotated[int, Range(1, 10_000)] = 1,
) -> tuple[ArmChoice, ...]:
    """Every optimizer at every rate with every seed.

    Args:
      optimizers: learning rates by the optimizer's name in the registry, with hyper-parameters as
        in "adamw:b1=0.8"; for a rule of your own any name, with a builder
        `(learning_rate) -> optax.GradientTransformation` before the rates.
      seeds: students for each optimizer, rate and data set: seeds 0, 1, ...

    Raises InputError for an unknown name, an optimizer that is named twice (also in another
    spelling), and rates or seeds that are out of range or given twice.
    """
    check_arguments(grid, {"seeds": seeds})
    choices: list[ArmChoice] = []
    names: dict[Any, str] = {}
    for name, value in optimizers.items():
        builder, rates = value if isinstance(value, tuple) and callable(value[0]) else (None, value)
        spec = (
            OptimizerSpec.parse(name) if builder is None else OptimizerSpec(name, builder=builder)
        )
        if (first := names.setdefault(spec.identity, name)) != name:
            raise InputError(f"optimizers {first!r} and {name!r} are the same: give it once")
        rule = Rule(tuple[float, ...], Range(above=0, most=1e6), Items(1))
        check_value(f"rates of {name}", tuple(rates), rule)
        choices += [ArmChoice(spec, float(rate), seed) for rate in rates for seed in range(seeds)]
    return tuple(choices)


@dataclass(frozen=True)
class Alignment:
    """Asks `sweep` how far students have moved along the shift that `teacher` makes.

    Each student then has `eas` (the cosine of its mean activation shift with the teacher's),
    `shift_size` and `shift_component` (its length, and its part along the teacher's shift, in units
    of that shift), at `layer`; None takes the teacher's steering layer.
    Activations are those at the last token of prompts that no student trains on.

    Source: "Subliminal Learning Is Steering Vector Distillation", section 3.
    """

    teacher: Teacher
    layer: int | None = None
    prompts: PromptKind = "numbers"

    def prepare(self, model: Model) -> Measure:
        """The measure for students of `model`.

        Raises InputError for a teacher without a steering layer where `layer` is None.
        """
        layer, steering = self.layer, self.teacher.steering
        if layer is None:
            if steering is None:
                raise InputError("Alignment needs a layer: the teacher has no steering layer")
            layer = steering.layers[0]
        model.cfg.check_layer(layer)
        texts = teacher_prompts(self.prompts, 16, seed=1_000_003)
        plain, prompted = (
            make_probe(encode_chats(model.tokenizer, texts, s), model.cfg)
            for s in (None, self.teacher.system_prompt)
        )
        layers = tuple(range(model.cfg.layers))
        base_mean = measure_mean_activation(model.params, plain, model.cfg, layers)
        taught_params = self.teacher.change_weights(model).params
        taught = measure_mean_activation(taught_params, prompted, model.cfg, layers, steering)
        shift = taught - base_mean
        by_layer = AlignmentByLayer(plain, base_mean, shift[None])
        return _LayerAlignment(by_layer, layer)


@struct.dataclass
class _LayerAlignment(Measure):
    """The alignment with one teacher at one layer, as numbers."""

    name: ClassVar[str] = "layer-alignment"
    columns: ClassVar[tuple[MeasureColumn, ...]] = (
        MeasureColumn("eas", "EAS"),
        MeasureColumn("shift_size", "size of the shift"),
        MeasureColumn("shift_component", "share of the vector"),
    )

    by_layer: Measure
    layer: int = struct.field(pytree_node=False)

    def measure_student(self, view: StudentView, cfg: ModelConfig) -> dict[str, Array]:
        values = self.by_layer.measure_student(view, cfg)
        return {name: value[0, self.layer] for name, value in values.items()}


@dataclass(frozen=True)
class Student:
    """One trained student: its row, its trained weights, and the base that they belong to."""

    row: StudentRow
    base: Model = field(repr=False)
    adapter: Adapter
    trainable: Trainable = field(repr=False)

    def model_inputs(self) -> tuple[Params, Steering | None]:
        """(params, steering) to hand to `forward` in place of the base's."""
        scale = self.adapter.scale if isinstance(self.adapter, LoRA) else 1.0
        return attach(self.base.params, self.trainable, self.base.cfg, self.adapter, scale)

    def save(self, folder: str | Path) -> None:
        """Write the student: LoRA factors as a PEFT adapter folder, all weights as a model folder
        that transformers loads, a single vector as `vector.safetensors` in the folder.

        Raises InputError for weights that are not finite, and for a folder that holds something
        else.
        """
        folder = Path(folder)
        if isinstance(self.adapter, LoRA):
            cfg, base = self.base.cfg, self.base.reference
            save_adapter(folder, self.trainable, self.adapter, cfg, base)
            return
        params, steering = self.model_inputs()
        if isinstance(self.adapter, Full):
            tokenizer, stop_ids = self.base.tokenizer, self.base.stop_ids
            save_model(folder, params, self.base.cfg, tokenizer, stop_ids=stop_ids)
            return
        assert steering is not None
        folder.mkdir(parents=True, exist_ok=True)
        info = VectorInfo(self.base.name, f"student of {self.row.data}, {self.row.optimizer}")
        save_steering(folder / "vector.safetensors", steering, info)


@dataclass(frozen=True)
class BestStudents:
    """The students of one optimizer at its best rate, on one data set.

    Every column of a student's row that is a number is an attribute: its mean over seeds with the
    95% t interval, as an `Interval`. With one seed there is no interval: its ends are NaN.
    """

    optimizer: str
    learning_rate: float
    students: tuple[Student, ...]

    def __getattr__(self, column: str) -> Interval:
        try:
            values = [student.row[column] for student in self.students]
        except KeyError:
            raise AttributeError(f"students have no column {column!r}") from None
        return find_range(column).clip(mean_interval(values))


@dataclass(frozen=True)
class SweepResult:
    """All students of a sweep, in the order of data sets and arms, and what was logged of them."""

    students: tuple[Student, ...]
    metrics: tuple[Mapping[str, Any], ...] = field(repr=False)

    def best(self, optimizer: str, data: str | None = None) -> BestStudents:
        """The students of `optimizer` at the rate with the lowest mean held-out loss.

        Args:
          data: their data set; by default the first that is not called "control".

        Raises InputError for an optimizer or a data set that is not in the sweep, and where a
        student diverged, or ended above the base's own loss, at every rate.
        """
        rows = [student.row for student in self.students if student.row.optimizer == optimizer]
        if not rows:
            labels = dict.fromkeys(student.row.optimizer for student in self.students)
            raise InputError(f"no students of {optimizer!r}; there are: {', '.join(labels)}")
        names = list(dict.fromkeys(row.data for row in rows))
        if data is None:
            data = next((name for name in names if name != BASE_DATA), names[0])
        if data not in names:
            raise InputError(f"no students of data {data!r}; there are: {', '.join(names)}")
        rate = best_rates([row for row in rows if row.data == data])[optimizer]
        if rate is None:
            raise InputError(
                f"at every rate a student of {optimizer} diverged or ended above the base's own "
                "loss: give lower ones"
            )
        key = (optimizer, data, rate)
        chosen = [
            student
            for student in self.students
            if (student.row.optimizer, student.row.data, student.row.learning_rate) == key
        ]
        return BestStudents(optimizer, rate, tuple(chosen))

    def to_pandas(self) -> "pandas.DataFrame":
        """One line a student, one column a quantity."""
        import pandas

        return pandas.DataFrame([dict(student.row) for student in self.students])


def sweep(
    model: Model,
    data: Mapping[str, Pairs],
    arms: Sequence[ArmChoice],
    *,
    adapter: Adapter = LoRA(),
    objective: Objective = CrossEntropy(),
    steps: Count,
    batch_size: Count = 16,
    schedule: Schedule = "constant",
    warmup: Annotated[float, Range(least=0, below=1)] = 0.0,
    clip: Annotated[float | None, Range(above=0, most=1e30)] = None,
    log_every: Annotated[int | None, Range(1, MANY)] = None,
    heldout: Share = 0.125,
    measures: Sequence[Alignment | Measure] = (),
    out: str | Path | None = None,
) -> SweepResult:
    """Train every arm on every data set, all in one compiled program over one frozen base.

    Args:
      data: by name, equally many pairs each; the plain base's are best called "control".
      arms: from `grid`.
      adapter: what is trained: `LoRA(...)`, `Full()` or `Vector(layer)`.
      objective: `CrossEntropy()`, or `KL.from_teachers(...)` with a teacher for each data set.
      steps: optimizer steps of `batch_size` rows.
      schedule: of the learning rate after a linear `warmup` (a share of the steps).
      clip: bound on the global gradient norm.
      log_every: steps between two measurements; all steps by default.
      heldout: share of the pairs that no student trains on; their loss is `heldout_loss`.
      measures: what is measured of every student.
      out: a folder that keeps metrics and checkpoints, so that an interrupted sweep goes on; by
        default they are not kept.

    Raises:
      InputError: arguments out of range, an adapter that does not fit the model, arms that are
        given twice, data sets of different length, an objective or a batch that does not fit them,
        steps that are no multiple of `log_every`, or a folder that holds something else.
    """
    check_arguments(sweep, locals())
    check_layers(adapter, model.cfg)
    check_rank(adapter, model.cfg)
    check_distinct("arms", [(a.optimizer.label, a.learning_rate, a.seed) for a in arms])
    plan = TrainConfig(
        steps=steps,
        batch_size=batch_size,
        adapter=adapter,
        schedule=schedule,
        warmup=warmup,
        clip=clip,
        log_every=log_every or steps,
    )
    sets = _split(model, data, heldout)
    fixed_rows = FixedRows.from_rows(
        [slice_rows(sets.train[name], 0, 32) for name in sets.names], model.cfg
    )
    prepared = [m.prepare(model) if isinstance(m, Alignment) else m for m in measures]
    students = [Arm(a.optimizer, a.learning_rate, a.seed, name) for name in data for a in arms]
    with _journal(out, arms, plan) as folder:
        task = StudentTask(sets.train, sets.heldout, objective)
        runner = WaveRunner(folder, model, plan, task, [TrainLoss(fixed_rows), *prepared])
        with track("training", len(students) * steps, "student steps") as progress:
            trained = runner.train("sweep", students, progress)
        metrics = tuple(folder.read_metrics())
    trees = trained.sweep.students(trained.state)
    return SweepResult(
        students=tuple(
            Student(row, model, adapter, jax.tree.map(lambda leaf, i=i: leaf[i], trees))
            for i, row in enumerate(trained.rows)
        ),
        metrics=metrics,
    )


def _split(model: Model, data: Mapping[str, Pairs], heldout: float) -> DataSets:
    """Training and held-out rows of data sets of one length."""
    sizes = {name: len(pairs.pairs) for name, pairs in data.items()}
    if not sizes or len(set(sizes.values())) > 1:
        raise InputError(f"a sweep needs data sets of one length, at least one; got {sizes}")
    rows = next(iter(sizes.values()))
    held = max(1, round(heldout * rows))
    if not 0 < heldout < 1 or held >= rows:
        raise InputError(f"heldout={heldout} of {rows} pairs leaves nothing on one side")
    return split_rows(data, model, held)


@contextlib.contextmanager
def _journal(
    out: str | Path | None, arms: Sequence[ArmChoice], plan: TrainConfig
) -> Iterator[RunFolder]:
    """The folder that keeps metrics and checkpoints, or one that goes when the sweep ends."""
    with contextlib.ExitStack() as stack:
        if out is None:
            out = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "sweep"
        labels = [[arm.optimizer.label, arm.learning_rate, arm.seed] for arm in arms]
        config = {"experiment": "sweep", "arms": labels, "plan": repr(plan)}
        yield stack.enter_context(RunFolder.open(out, config))
