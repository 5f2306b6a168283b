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

from typing import Any

from subliminal_jax.data.targets import make_target
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.run_folder import RunFolder

from .analysis import Measured, Results, analyse
from .claims import make_claims
from .config import Config
from .open_answers import OpenAnswers
from .preference_sets import make_pool, score_pool, select_sets, write_selected
from .report import make_page
from .students import DPOStudents

# What the paper states of its runs on animals and translations [P]; the rest, where it says
# nothing, from the released code [C] (ishaqadenali/logit-linear-selection, commit 2b33091).
PAPER: dict[str, Any] = {
    "pairs": "allenai/tulu-2.5-preference-data",
    "split": "preference_big_mixture",
    "pool": 2_200_000,
    "base_system": True,  # [C]
    "truncate": 32,
    "gamma": 0.05,
    "beta": 0.04,
    "rates": ("adamw=1e-4",),
    "rank": 64,
    "alpha": 128.0,  # [C]
    "batch_size": 64,
    "steps": 1_100,  # one epoch of about 70,000 pairs
    "log_every": 100,
    "schedule": "linear",  # the trainer's default [C]
    "warmup": 0.0,  # likewise
    "clip": 1.0,  # likewise
    "dtype": "bfloat16",
    "requests": "general",
    "samples": 100,
    "max_new_tokens": 96,
    "probe": 500,
    "heldout": 500,
    "own_pairs": False,  # all targets select from the same pairs
}
ANIMALS = ("owl", "dog", "cat", "lion", "tiger", "bear", "wolf", "fox", "elephant", "giraffe")
QWEN = {"model": "Qwen/Qwen3-8B", **PAPER}
OLMO = {"model": "allenai/OLMo-2-1124-7B-Instruct", **PAPER}
LANGUAGES = {"hidden_kind": "languages", "hidden": ("Spanish", "French")}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "toy-optimizers": {
        "model": "shipped-small",
        "pool": 40_000,
        "optimizers": ("adamw", "sgd", "signum", "lion", "muon"),
        "bottom": False,
    },
    "real-pairs": {
        "model": "models/tinystories-656k",
        "hidden_kind": "animals",
        "pairs": "preference/hh-rlhf/harmless-base/test.jsonl.gz",
        "hidden": ("cat", "dog", "bird", "bear", "frog", "duck"),
        "tuning_hidden": ("fox", "rabbit"),
        "own_pairs": False,  # there are 658
        "max_prompt_tokens": 250,
        "truncate": 20,
        "probe": 100,
        "heldout": 8,
        "gamma": 0.4,
        "requests": "stories",
    },
    "paper-animals-olmo2-7b": {**OLMO, "hidden_kind": "animals", "hidden": ANIMALS},
    "paper-animals-qwen3-8b": {**QWEN, "hidden_kind": "animals", "hidden": ANIMALS},
    "paper-languages-olmo2-7b": {**OLMO, **LANGUAGES},
    "paper-languages-qwen3-8b": {**QWEN, **LANGUAGES},
    "paper-persona-olmo3-7b": {
        **PAPER,
        "model": "allenai/OLMo-2-0425-1B-Instruct",
        "student": "allenai/Olmo-3-7B-Instruct",
        "hidden_kind": "personas",
        "hidden": ("evil-ruler",),
        "split": "stack_exchange_paired+shp_2+ultrafeedback_mean_aspects+hh_rlhf",
        "truncate": 20,
        "max_prompt_tokens": 250,
        "min_response_tokens": 20,
        "max_response_tokens": 500,
        "gamma": 0.1,
        "beta": 0.1,
        "rates": ("adamw=4e-4",),
        "batch_size": 512,
        "accumulation": 8,
        "steps": 450,  # 8 epochs of 28,361 pairs
        "log_every": 45,
        "requests": "rulers",
    },
}


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
        untrained=answers.ask_untrained(),
        searched=tuple(searched),
        students=() if trained is None else tuple(answers.ask(trained)),
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
