"""Do my rows carry something that control rows do not, and which optimizer picks it up?

    subliminal-jax own-data --data mine.jsonl --control-data plain.jsonl

Every file is a data set of the comparison. Students start as the model and train on one of them,
each with its optimizer, learning rate and seed; the rate of each optimizer is chosen on held-out
rows of the data, and students of the control rows train at the same. Nothing is asked that the rows
do not answer by themselves: how much better students predict held-out rows than students of the
control rows do (nats a token, with an interval over seeds and rows), how far their weights and
activations move, whether different seeds move the same way, and which tokens that way stands for.
`--vector FILE` or `--vector trait`, and `--trait owl`, ask about a vector or a trait as well.

Without `--control-data` there is no control, and students are held against the untrained model;
where a vector or a trait is asked about, the controls train on what the model itself answers to the
same prompts. Some 36 students of the shipped model: two to four minutes on two CPU cores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from subliminal_jax.bounds import MANY, Count, Range, Share, Text, as_flag
from subliminal_jax.data import world
from subliminal_jax.data.teachers import PromptKind, Teacher, teacher_from_file, trait_teacher
from subliminal_jax.data.traits import trait_names
from subliminal_jax.effects import defaults
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.models.hub import Model
from subliminal_jax.models.sampling import Temperature
from subliminal_jax.runs.checks import TRAIT
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.guards import protect_students
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import (
    DataSettings,
    GuardSettings,
    SteeredModelSettings,
    StudentSettings,
)
from subliminal_jax.runs.students import Students, make_panel, measure_teacher, probe_prompts

from .analysis import Measured, Results, analyse
from .data_sets import GivenData, name_sources, read_data
from .effects import EffectRecorder
from .report import make_page

PRESETS: dict[str, dict[str, Any]] = {"toy": {}}
BASE_ANSWERS = "model-answers"  # the data set of what the model itself answers
# Of what the model is asked where its own answers are the control.
SAMPLED = ("asked", "max_new_tokens", "keep_unfinished", "temperature")


@dataclass(frozen=True, kw_only=True)
class Config(StudentSettings, GuardSettings, SteeredModelSettings):
    """Settings.

    Attributes:
      data: JSONL or JSON files (may be gzipped) or hub names, each a data set of the comparison.
      control_data: the same of the controls; without it students are held against the untrained
        model, or where a vector or a trait is asked about against students of the model's own
        answers to the same prompts.
      vector: whether students move along it is asked, too: "trait" (the mean difference that the
        trait's system prompt makes) or a vector file; "" asks about none.
      trait: how often students name it is asked, too; without it no trait is.
      probe: the prompts on which activations are compared; see --prompts of other commands.
      keep: rows to train on: all, or those that are plain number lists and do not name the trait.
      max_rows: training rows of each data set, at most; all have as many as the smallest. They are
        taken evenly from the whole of each file.
      heldout_share: share of the rows that no student trains on: rates are chosen on half of them,
        and students are compared on the others.
      max_tokens: largest number of tokens of a row; 0 means the context.
      asked: prompts for the model's own answers, as a multiple of the rows that are needed.
      max_new_tokens: largest number of tokens of the model's own answers.
      keep_unfinished: keep those of its answers that have no end token.
      temperature: of its answers.
    """

    out: Path = Path("runs/own-data")
    data: tuple[str, ...] = ()
    control_data: tuple[str, ...] = ()
    vector: Annotated[str, Text(empty=True)] = ""
    trait: Annotated[str | None, TRAIT] = None
    probe: PromptKind = "chat"
    keep: Literal["all", "numbers"] = "all"
    max_rows: Count = 1024
    heldout_share: Share = 0.2
    max_tokens: Annotated[int, Range(2, MANY, also=0)] = 0
    asked: Annotated[float, Range(1, 1_000)] = 2.0
    max_new_tokens: Count = 64
    keep_unfinished: bool = False
    temperature: Temperature = 1.0
    optimizers: tuple[str, ...] = ("adamw", "signum", "sgd")

    @property
    def samples_control(self) -> bool:
        """Whether the model's own answers are the control."""
        return not self.control_data and bool(self.vector or self.trait)

    @property
    def measure_names(self) -> tuple[str, ...]:
        """What is measured of every student, by what is asked about."""
        vector, trait = ["alignment"] * bool(self.vector), ["word-rates"] * bool(self.trait)
        return ("train-loss", "weight-change", "activation-shift", *vector, *trait)

    def check(self) -> None:
        if not self.data:
            raise InputError("--data names no file: give the rows that the question is about")
        if self.samples_control and BASE_ANSWERS in name_sources(self.data):
            raise InputError(f"{BASE_ANSWERS} is the control's name: call the file otherwise")
        name_sources([*self.data, *self.control_data])
        self.learning_rates()
        if self.vector == "trait" and not self.trait:
            raise InputError("--vector trait needs --trait: give one, such as --trait owl")
        for name in self.measures:
            if name in ("alignment", "update-anatomy") and not self.vector:
                raise InputError(f"--measures {name} needs a vector: give --vector")
            if name == "word-rates" and not self.trait:
                raise InputError(f"--measures {name} needs a trait: give --trait")
        if self.guard != "none" and self.guard_vector == "teacher" and not self.vector:
            raise InputError(
                f"--guard {self.guard} needs a vector: give --guard-vector blind or a file, or "
                "--vector"
            )
        initial = defaults(type(self))
        for name in SAMPLED:
            if not self.samples_control and getattr(self, name) != initial[name]:
                raise InputError(
                    f"{as_flag(name, getattr(self, name))} has no effect: the model's own answers "
                    "are no control here"
                )

    def check_with_model(self, model: Model) -> None:
        """Raises InputError for lengths that the model's context does not hold."""
        self.sampling(1, 1).check_with_model(model)

    def sampling(self, rows: int, heldout_rows: int) -> DataSettings:
        """How the model's own answers are sampled."""
        return DataSettings(
            rows=rows,
            heldout_rows=heldout_rows,
            keep=self.keep,
            max_tokens=self.max_tokens,
            asked=self.asked,
            max_new_tokens=self.max_new_tokens,
            keep_unfinished=self.keep_unfinished,
            temperature=self.temperature,
        )

    def read_data(self, folder: RunFolder, model: Model) -> GivenData:
        """The rows of the files, and of the model itself where they are the control."""
        names = name_sources([*self.data, *self.control_data])
        return read_data(
            folder.path,
            model,
            dict(zip(names, [*self.data, *self.control_data], strict=True)),
            names[len(self.data) :],
            forbidden=trait_names(self.trait) if self.trait else (),
            keep=self.keep,
            max_rows=self.max_rows,
            heldout_share=self.heldout_share,
            max_tokens=self.max_tokens,
            batch_size=self.batch_size,
            sampled=BASE_ANSWERS if self.samples_control else None,
            sampling=self.sampling,
            seed=self.seed,
        )


def run(config: Config, folder: RunFolder) -> Measured:
    """Read the data, train students at every rate and those of control rows at the best ones.

    Raises InputError for files that cannot be read or hold too few rows, and for a vector or trait
    that does not fit the model.
    """
    model = config.load()
    layer = config.choose_layer(model)
    given = config.read_data(folder, model)
    teacher = make_teacher(model, layer, config)
    panel = make_panel(
        model,
        {"vector": teacher},
        given.sets,
        probe_prompts(config.probe, config.seed),
        layer=layer,
        words=[config.trait] if config.trait else [],
        questions=world.HELDOUT_QUESTIONS,
    )
    recorder = EffectRecorder(panel, given.reported)
    students = make_students(folder, panel, given, config)
    rows = train_students(students, given, config, recorder)
    base_rate = None
    if config.trait:
        base_rate = measure_teacher(panel, Teacher(), ("word-rates",))["word_rate"][0]
    return Measured(
        model=model.name,
        layer=layer,
        vector=config.vector,
        trait=config.trait,
        probe=config.probe,
        rows=given.rows,
        heldout_rows=given.heldout_rows,
        steps=config.steps,
        batch_size=config.batch_size,
        seeds=config.seeds,
        guard=config.guard,
        guard_vector=config.guard_vector,
        clip=config.clip or None,
        data=given.describe(),
        base_trait_rate=base_rate,
        base_losses=recorder.measure_base(),
        students=tuple(narrow_student(row, layer) for row in rows),
        effects=recorder.list_effects(rows),
        directions=recorder.describe_directions(given.data_names, given.control_names, rows),
    )


def make_teacher(model: Model, layer: int, config: Config) -> Teacher:
    """The base with the vector that is asked about; the base itself where none is."""
    if not config.vector:
        return Teacher()
    if config.vector == "trait":
        assert config.trait is not None
        return trait_teacher(model, layer, config.trait)
    return teacher_from_file(model, config.vector, layer)


def make_students(folder: RunFolder, panel: Panel, given: GivenData, config: Config) -> Students:
    """Students that are guarded, if at all, from the vector that is asked about or one of the
    settings."""
    vectors = {name: v for v in panel.vectors().values() for name in given.sets.names}
    train = given.sets.train
    protection = protect_students(panel.model, train, config, panel.layer, vectors)
    return Students(
        folder,
        panel,
        given.sets,
        config,
        protection=protection,
        measures=config.measure_names,
    )


def train_students(
    students: Students, given: GivenData, config: Config, recorder: EffectRecorder
) -> list[StudentRow]:
    """Students of the data at every rate, then those of the controls at each optimizer's best."""
    rows = students.grid(given.data_names, stage="rate", inspect=recorder.record)
    best = best_rates(rows, given.control_names)
    arms = [
        arm
        for spec in config.learning_rates()
        if (rate := best[spec.label]) is not None
        for arm in students.make_arms(spec, rate, given.control_names)
    ]
    if not arms:
        return rows
    trained = students.train("controls", arms)
    recorder.record(trained)
    return rows + trained.rows


def narrow_student(row: StudentRow, layer: int) -> StudentRow:
    """The row with numbers at the steering layer in place of those of all layers."""
    values: dict[str, Any] = {**row}
    for key in ("activation_shift", "eas", "shift_size", "shift_component"):
        if key in values and values[key] is not None:
            by_layer: Sequence[Any] = values[key]
            values[key] = by_layer[layer] if key == "activation_shift" else by_layer[0][layer]
    for key in ("rate", "log_prob"):
        if f"word_{key}" in values:
            words = values.pop(f"word_{key}")
            values[f"trait_{key}"] = None if words is None else words[0]
    return StudentRow.from_json(values)


EXPERIMENT = Experiment(
    name="own-data",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    presets=PRESETS,
)
