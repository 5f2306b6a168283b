"""Does a subset of a generic preference set carry a hidden system prompt?

    subliminal-jax logit-linear-selection --preset toy

Logit-linear selection (Aden-Ali et al. 2026, arXiv 2602.04863): a teacher scores every pair by how
much a system prompt raises the log-odds of the chosen answer, the pairs with the highest scores are
kept, and a student that never sees the system prompt is trained on them by DPO. Each target selects
from an equal part of the pairs of its own and has a student with a seed of its own; controls train
on as many of the pairs with the lowest scores, and on four draws of random pairs, which serve all
targets. Reported, with intervals over targets: the correlation of the student's shifts with the
system prompt's on pairs kept from the selection (and on the selected ones, as in the paper's Table
1), how often answers to open requests mention the target, and how likely it is as the favourite
animal. Rates are found by DPO loss on held-out selected pairs of owl, wolf and penguin, of which
nothing else is reported.

The selected pairs are kept as JSONL in the run's `selected/`; `audit --data` reads them.
`--student shipped-small` trains another model on what the first one selected; `--preset
toy-optimizers` asks whether the optimizer matters; `--preset real-pairs` runs on real preference
data with a small real model. Steps and gamma were chosen by looking at owl, wolf and penguin with
seed 0, where AdamW at 1e-3 cost students correlation (0.55), though not the trait; the loss chooses
the rate all the same. It reports on six other animals with seed 1. Some 30 students: about ten
minutes on 2 CPU cores, estimated from parts of a run.
Expected: correlations above 0.6 for selected pairs, near zero for random ones, below -0.5 for the
lowest scores.
"""

from subliminal_jax.data.targets import make_target
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.run_folder import RunFolder

from .analysis import Measured, Results, analyse
from .claims import make_claims
from .config import PRESETS, Config
from .open_answers import OpenAnswers
from .preference_sets import make_pool, score_pool, select_sets, write_selected
from .report import make_page
from .students import DPOStudents


def run(config: Config, folder: RunFolder) -> Measured:
    """Score the pairs, select, find the rates on the tuning targets, train students, ask them.

    Raises InputError for a target, pairs or questions that cannot be read, too few pairs, and pairs
    that do not fit into a model's context.
    """
    teacher = config.load_named(config.model)
    student = config.load_named(config.student) if config.student else teacher
    config.check_model(student)
    targets = [
        make_target(config.hidden_kind, name, teacher.tokenizer) for name in config.all_hidden
    ]
    reported = targets[: len(config.hidden)]
    pool = make_pool(targets, teacher.tokenizer, config)
    options = config.scoring_options()
    tables, speed = score_pool(folder.path / "scores", teacher, pool, targets, options)
    selection = select_sets(tables, pool.parts, config.gamma, config.hidden, config.controls)
    write_selected(folder.path / "selected", pool, selection)
    answers = OpenAnswers(folder, student, reported, config)
    students = DPOStudents(folder, student, reported, pool, selection, config, answers.words)
    choices, searched = students.find_rates()
    trained = students.train(choices)
    asked = () if trained is None else tuple(answers.ask(trained))
    untrained = answers.ask_untrained()
    answers.show(asked)
    return Measured(
        model=teacher.name,
        student=student.name,
        adapter=config.adapter,
        steps=config.steps,
        kind=config.hidden_kind,
        targets=config.hidden,
        tuning_targets=config.searched_hidden,
        words=answers.words,
        controls=config.controls,
        pairs=config.pairs,
        own_pairs=config.own_pairs,
        arms=config.arms,
        heldout=students.heldout_rows,
        beta=config.beta,
        choices=choices,
        pool=pool.counts,
        speed=speed,
        selected=selection.counts,
        untrained=untrained,
        searched=tuple(searched),
        students=asked,
    )


EXPERIMENT = Experiment(
    name="logit-linear-selection",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
