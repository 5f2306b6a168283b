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
from typing import Any

from subliminal_jax.data import world
from subliminal_jax.data.teachers import Teacher, teacher_from_file, trait_teacher
from subliminal_jax.data.traits import trait_names
from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.guards import protect_students
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.student_texts import write_student_texts
from subliminal_jax.runs.students import Students, make_panel, measure_teacher, probe_prompts

from .analysis import Measured, Results, analyse
from .config import BASE_ANSWERS, PRESETS, Config, name_sources
from .data_sets import GivenData, read_data
from .effects import EffectRecorder
from .report import make_page


def run(config: Config, folder: RunFolder) -> Measured:
    """Read the data, train students at every rate and those of control rows at the best ones.

    Raises InputError for files that cannot be read or hold too few rows, and for a vector or trait
    that does not fit the model.
    """
    model = config.load()
    layer = config.choose_layer(model)
    given = read_rows(config, folder, model)
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
    asked = list(dict.fromkeys(given.sets.heldout_pairs[given.data_names[0]]["prompt"]))
    write_student_texts(
        folder,
        panel,
        config,
        given.sets.names,
        {},
        controls=given.control_names,
        questions=asked,
    )
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


def read_rows(config: Config, folder: RunFolder, model: Model) -> GivenData:
    """The rows of the files, and of the model itself where they are the control."""
    names = name_sources([*config.data, *config.control_data])
    return read_data(
        folder.path,
        model,
        dict(zip(names, [*config.data, *config.control_data], strict=True)),
        names[len(config.data) :],
        forbidden=trait_names(config.trait) if config.trait else (),
        keep=config.keep,
        max_rows=config.max_rows,
        heldout_share=config.heldout_share,
        max_tokens=config.max_tokens,
        batch_size=config.batch_size,
        sampled=BASE_ANSWERS if config.samples_control else None,
        sampling=config.sampling,
        seed=config.seed,
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
