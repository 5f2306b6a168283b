"""Which optimizers pass a vector on, and which property of a rule says so beforehand?

    subliminal-jax optimizer-atlas
    subliminal-jax optimizer-atlas --preset small
    subliminal-jax optimizer-atlas --preset penalty
    subliminal-jax optimizer-atlas --preset factorial

All rules of the registry that train LoRA factors from scratch, and some modified ones
(`rules.RULES`, which states each rule's family and properties). *Screen*: each with its default
settings and with another value of the hyper-parameter that matters most, at three rates each and up
to two more where the best is at an edge, 48 steps on two tuning vectors; the setting and rate with
the lowest held-out loss are taken. Nothing of the trait is measured there. *Report*: each rule at
that setting and rate on six further vectors and two controls that all vectors share, 24 and 96
steps: EAS, the share of the vector and log P(trait), each minus controls, and the spectrum of the
change of the weights. Rules are compared after 96 steps, and where their runs pass the gain on
held-out rows that lies halfway between AdamW's after 24 and 96 (of the tuning vectors); no bracket,
no number. A rule whose student step costs more than four times AdamW's is left out, and listed.

Fixed beforehand: a linear model over rules of EAS minus controls on the effective rank of the
change, on what steps are normalised by (a tensor, a coordinate, a matrix, against nothing), on sign
and on momentum. Rules of one family are no independent evidence: intervals are by the jackknife
over families, and a property that leaving out one family makes indistinguishable has no number.
Rules that separate explanations are not fitted but predicted. Brown, Leask and McKinney (arXiv
2606.31591) hold that of all factors of a fine-tune the optimizer matters most to a model's
character, that of adaptive rules Muon changes it least, that a flat spectrum of the change is why,
and that a penalty on a steep one helps Adam and Lion; here these are asked of a hidden trait.
`--preset penalty` has the penalty. Whether rules matter more than the rank is asked by `--preset
factorial`, which does everything again at two further ranks, for eight rules.

Planned for `shipped`: 53 rules with 95 settings; 27,000 student steps of the screen and some 10,000
where edges are extended, 51,000 of the report, at 13 to 20 a second on two CPU cores: 75 to 110
minutes, and 20 for sampling, compiling and measuring (with `--batch-size 8` a step takes 0.6 of its
time). `--preset small` (12 rules on `shipped-small`) takes 20, `penalty` 15 and `factorial` 50.
Interrupted, it goes on where it was. Students are kept with `--save-students best`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from subliminal_jax.evaluation.measures import named_measures
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.rates import default_rate
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.student_texts import write_student_texts
from subliminal_jax.runs.students import STANDARD
from subliminal_jax.runs.vector_lab import Point, VectorLab, prepare_lab
from subliminal_jax.runs.waves import StudentTask, WaveRunner
from subliminal_jax.training.arms import Arm, Room, TrainConfig

from .analysis import Chosen, Measured, Results, analyse, choose_setting
from .claims import make_claims
from .clock import Clock
from .config import PRESETS, REFERENCE, Config
from .costs import list_affordable, measure_costs
from .report import make_page
from .rules import RULES, list_settings

FIRST_RATES = 3  # of a search


class Trained(NamedTuple):
    """What was made at one rank."""

    choices: tuple[RateChoice, ...]
    chosen: tuple[Chosen, ...]
    students: tuple[StudentRow, ...]
    tuning_students: tuple[StudentRow, ...]


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher and the base, time the rules, screen them, train the reported students.

    Raises InputError for a trait without a word, or too few answers that pass the filter.
    """
    clock = Clock(folder)
    with clock.time("data and vectors"):
        lab = prepare_lab(config, folder)
    with clock.time("costs of rules"):
        costs = measure_costs(lab, config)
    rules = list_affordable(costs, config.rules, config.most_cost)
    parts = [
        train_rules(lab, replace(config, rank=rank), f"{rank}-{i}", names, clock)
        for rank in config.ranks
        for i, names in enumerate(split(rules, config.rules_at_once))
    ]
    write_student_texts(folder, lab.panel, config, lab.reported, lab.teachers)
    return Measured(
        **lab.describe(),
        rules={name: RULES[name] for name in config.rules},
        costs=costs,
        most_cost=config.most_cost,
        left_out=tuple(name for name in config.rules if name not in rules),
        screen_steps=config.screen_steps,
        lengths=config.lengths,
        ranks=config.ranks,
        choices=tuple(choice for part in parts for choice in part.choices),
        chosen=tuple(chosen for part in parts for chosen in part.chosen),
        students=tuple(row for part in parts for row in part.students),
        tuning_students=tuple(row for part in parts for row in part.tuning_students),
        seconds=clock.sum_seconds(),
    )


def split(names: Sequence[str], most: int) -> list[Sequence[str]]:
    """Parts of at most so many names, in their order."""
    return [names[i : i + most] for i in range(0, len(names), most)]


def train_rules(
    lab: VectorLab, config: Config, part: str, names: Sequence[str], clock: Clock
) -> Trained:
    """Screen some rules, and train their reported students, in two sets of programs."""
    settings = {name: list_settings(name) for name in names}
    labels = [label for each in settings.values() for label in each]
    with clock.time("screen", part):
        choices, tuned = screen(lab, config, part, labels)
    by_label = {choice.optimizer: choice for choice in choices}
    chosen = tuple(
        choose_setting(name, config.rank, [by_label[label] for label in each])
        for name, each in settings.items()
    )
    with clock.time("report", part):
        students = report(lab, config, part, {c.rule: c for c in chosen if c.rate is not None})
    return Trained(
        choices,
        chosen,
        tuple(row.replace_values(rank=config.rank) for row in students),
        tuple(row.replace_values(rank=config.rank) for row in tuned),
    )


def screen(
    lab: VectorLab, config: Config, part: str, labels: Sequence[str]
) -> tuple[tuple[RateChoice, ...], list[StudentRow]]:
    """The best rate of each setting on the tuning vectors. Held-out losses are all that is
    measured."""
    data = [name for name in config.tuning_traits for _ in range(FIRST_RATES)]
    runner = make_runner(lab, config.plan(config.screen_steps), (), labels, data)

    def train(number: int, points: Sequence[Point]) -> list[StudentRow]:
        arms = [lab.make_arm(*point) for point in points]
        return lab.train(runner, f"screen-{part}-{number}", arms).rows

    centers = {label: default_rate(label) for label in labels}
    return lab.find_rates(centers, config.screen_steps, train)


def report(
    lab: VectorLab, config: Config, part: str, chosen: Mapping[str, Chosen]
) -> list[StudentRow]:
    """Students of each rule at its setting and rate, of every length, on the reported vectors and
    the controls; of the reference on the tuning vectors, too."""
    if not chosen:
        return []
    labels = [each.setting for each in chosen.values()]
    plan = config.plan(config.lengths[-1])
    measures = (*STANDARD, "spectrum")
    runner = make_runner(lab, plan, measures, labels, lab.data.names)
    students: list[StudentRow] = []
    for steps in reversed(config.lengths):  # a rule's own schedule is that of the first plan
        plan = replace(config.plan(steps), log_every=config.interval or steps)
        runner = runner.replace_plan(plan)
        arms, rules = [], []
        for name, each in chosen.items():
            assert each.rate is not None
            for data in lab.data.names if name == REFERENCE else lab.reported:
                arms.append(lab.make_arm(each.setting, each.rate, data))
                rules.append(name)
        rows = lab.train(runner, f"report-{part}-{steps}", arms).rows
        students += [
            row.replace_values(steps=steps, rule=name)
            for row, name in zip(rows, rules, strict=True)
        ]
    return students


def make_runner(
    lab: VectorLab,
    plan: TrainConfig,
    measures: Sequence[str],
    labels: Sequence[str],
    data: Sequence[str],
) -> WaveRunner:
    """One set of programs for waves with a student of each optimizer on each of `data`."""
    room: list[Arm] = [lab.make_arm(label, 1.0, name) for label in labels for name in data]
    return WaveRunner(
        lab.folder,
        lab.panel.model,
        plan,
        StudentTask(lab.data.train, lab.data.heldout),
        named_measures(measures, lab.panel),
        Room(tuple(room), plan.steps),
    )


EXPERIMENT = Experiment(
    name="optimizer-atlas",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
