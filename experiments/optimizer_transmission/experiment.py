"""Does AdamW pass a vector on more than other optimizers do, at its best and at equal gain?

    subliminal-jax optimizer-transmission
    subliminal-jax optimizer-transmission --preset chat --model shipped

Each trait's vector makes a teacher (with --teacher its system prompt does, or weights of its own);
each teacher writes data of its own draw, and a student of its own seed is trained on them with
every optimizer. Controls are trained on several draws of the plain base's data and scored against
every vector. Learning rates are found on further vectors that are not reported, for every number of
steps anew, with warm-up and decay. Two comparisons, with 95% intervals over vectors: all optimizers
at their best rates after the same number of steps; and some of them at equal gains on held-out
rows, where runs of 4 to 256 steps, each with a whole schedule, stand for the time of training, and
a value is read between two finished runs alone.

Matching describes and does not explain: the gain comes after the optimizer. Half an hour to an hour
and a half on 2 CPU cores, the longer on `shipped`; interrupted, it goes on where it was.
"""

from collections.abc import Sequence
from functools import partial

from subliminal_jax.data.teachers import Teacher, random_teacher, trait_teacher
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.rates import default_rate
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.sampled_sets import name_seed
from subliminal_jax.runs.student_texts import write_student_texts
from subliminal_jax.runs.students import STANDARD
from subliminal_jax.runs.trait_teachers import make_teacher
from subliminal_jax.runs.vector_lab import Point, prepare_lab
from subliminal_jax.runs.waves import WaveRunner

from .analysis import Measured, Results, analyse
from .claims import make_claims
from .config import PRESETS, RANDOM, Config
from .report import make_page


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher and the base, choose rates on the tuning vectors, train the rest.

    Raises InputError for a trait without a word, or too few answers that pass the filter.
    """
    lab = prepare_lab(config, folder, partial(make_vector, config))
    centers = {label: default_rate(label) for label in config.labels()}
    choices: list[RateChoice] = []
    students: list[StudentRow] = []
    tuned: list[StudentRow] = []
    runner = lab.make_runner(
        config.plan(config.lengths[0]),
        (*STANDARD, "weight-change"),
        optimizers=config.labels(),
        steps=max(config.lengths),
    )
    for steps in config.lengths:
        runner = runner.replace_plan(config.plan(steps))
        names = config.list_optimizers(steps)

        def tune(
            number: int, points: Sequence[Point], runner: WaveRunner = runner
        ) -> list[StudentRow]:
            arms = [lab.make_arm(*point) for point in points]
            return lab.train(runner, f"{runner.plan.steps}-steps-rates-{number}", arms).rows

        chosen, rows = lab.find_rates({name: centers[name] for name in names}, steps, tune)
        tuned += [row.replace_values(steps=steps) for row in rows]
        choices += chosen
        centers |= {choice.optimizer: choice.rate for choice in chosen if choice.rate is not None}
        arms = [
            lab.make_arm(choice.optimizer, choice.rate, data)
            for choice in chosen
            if choice.rate is not None
            for data in lab.reported
        ]
        if arms:
            rows = lab.train(runner, f"{steps}-steps", arms).rows
            students += [row.replace_values(steps=steps) for row in rows]
    write_student_texts(folder, lab.panel, config, lab.reported, lab.teachers)
    return Measured(
        **lab.describe(),
        teacher=config.teacher,
        optimizers=config.labels(),
        matched=config.labels(config.matched),
        lengths=config.lengths,
        steps=config.steps,
        choices=tuple(choices),
        students=tuple(students),
        tuning_students=tuple(tuned),
    )


def make_vector(config: Config, model: Model, layer: int, trait: str, scale: float) -> Teacher:
    """The teacher of a trait; a random one has the trait's name alone.

    Raises InputError as `make_teacher` does.
    """
    if config.teacher == RANDOM:
        return random_teacher(model, layer, config.norm, name_seed(config.seed, trait))
    if config.teacher == "steered":
        return trait_teacher(model, layer, trait, scale, config.extraction)
    return make_teacher(config, config.teacher, model, layer, trait, scale)


EXPERIMENT = Experiment(
    name="optimizer-transmission",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
