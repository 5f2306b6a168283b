"""Does a subset of a generic preference set carry a hidden system prompt?

    subliminal-jax logit-linear-selection --preset toy

Logit-linear selection (Aden-Ali et al. 2026, arXiv 2602.04863): a teacher scores every pair by how
much a system prompt raises the log-odds of the chosen answer, the pairs with the highest scores are
kept, and a student that never sees the system prompt is trained on them by DPO. Its controls train
on as many pairs drawn at random and on those with the lowest scores. Reported, with intervals over
targets and seeds: the correlation of the student's shifts with the system prompt's on pairs kept
from the selection (and on the selected ones, as in the paper's Table 1), how often answers to open
requests mention the target, and how likely it is as the favourite animal. Rates are chosen by DPO
loss on held-out selected pairs.

The selected pairs are kept as JSONL in the run's `selected/`; `audit --data` reads them.
`--student shipped-small` trains another model on what the first one selected; `--preset
toy-optimizers` asks whether the optimizer matters; `--preset real-pairs` runs on real preference
data with a small real model. The toy setting was chosen by looking at owl, wolf and penguin with
seed 0 (AdamW at 1e-4, 3e-4 and 1e-3, gamma 0.1 and 0.4): at 1e-3 students overshot, which cost them
correlation (0.55) but not the trait; so the grid ends at 3e-4. It reports on three other animals
with seed 1; the stored result is of six (`--hidden cat tiger eagle dog fox bear`, twice the time).
About eight minutes on 2 CPU cores. Expected: correlations above 0.6 for selected pairs, near zero
for random ones, below -0.5 for the lowest scores.
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
from .students import DPOStudents, make_arms

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
    "clip": 1.0,  # likewise
    "dtype": "bfloat16",
    "requests": "general",
    "samples": 100,
    "max_new_tokens": 96,
    "probe": 500,
    "heldout": 500,
}
ANIMALS = ("owl", "dog", "cat", "lion", "tiger", "bear", "wolf", "fox", "elephant", "giraffe")
# The paper's OLMo 2 is no family of ours: its other teacher and student stand in.
QWEN = {"model": "Qwen/Qwen3-8B", **PAPER}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "toy-optimizers": {
        "model": "shipped-small",
        "pool": 10_000,
        "optimizers": ("adamw", "sgd", "signum", "lion", "muon"),
        "rates": (
            "adamw=1e-4,3e-4,1e-3",
            "sgd=0.03,0.1,0.3",
            "signum=3e-5,1e-4,3e-4",
            "lion=3e-5,1e-4,3e-4",
            "muon=3e-4,1e-3,3e-3",
        ),
        "bottom": False,
    },
    "real-pairs": {
        "model": "models/tinystories-656k",
        "hidden_kind": "animals",
        "pairs": "preference/hh-rlhf/harmless-base/test.jsonl.gz",
        "hidden": ("cat", "dog", "bird"),
        "max_prompt_tokens": 250,
        "truncate": 20,
        "probe": 100,
        "heldout": 8,
        "gamma": 0.4,
        "requests": "stories",
    },
    "paper-animals-qwen3-8b": {**QWEN, "hidden_kind": "animals", "hidden": ANIMALS},
    "paper-languages-qwen3-8b": {
        **QWEN,
        "hidden_kind": "languages",
        "hidden": ("Spanish", "French"),
    },
    "paper-persona-qwen3-8b": {
        **QWEN,
        "hidden_kind": "personas",
        "hidden": ("evil-ruler",),
        "split": "stack_exchange_paired+shp_2+ultrafeedback_mean_aspects+hh_rlhf",
        "truncate": 20,
        "max_prompt_tokens": 250,
        "min_response_tokens": 20,
        "max_response_tokens": 500,
        "gamma": 0.1,
        "beta": 0.1,
        "rates": ("adamw=6e-5,2.5e-4,4e-4",),  # [P] for three students, none of them this one
        "batch_size": 512,
        "accumulation": 8,
        "steps": 450,  # 8 epochs of 28,361 pairs
        "log_every": 45,
        "requests": "rulers",
    },
}


def run(config: Config, folder: RunFolder) -> Measured:
    """Score the pool, select, train students at every rate and with every seed, ask them.

    Raises InputError for a target, pairs or questions that cannot be read, too few pairs, and pairs
    that do not fit into a model's context.
    """
    teacher = config.load_named(config.model)
    student = config.load_named(config.student) if config.student else teacher
    config.check_model(student)
    targets = [make_target(config.hidden_kind, name, teacher.tokenizer) for name in config.hidden]
    pool = make_pool(targets, teacher.tokenizer, config)
    options = config.scoring_options()
    tables, speed = score_pool(folder.path / "scores", teacher, pool, targets, options)
    selection = select_sets(tables, config.gamma, config.seeds)
    write_selected(folder.path / "selected", pool, selection)
    answers = OpenAnswers(folder, student, targets, config)
    students = DPOStudents(folder, student, targets, pool, selection, config, answers.words)
    searched = students.search()
    best = students.choose_rates(searched)
    rows = []
    for optimizer, rate in best.items():
        if rate is not None:
            arms = make_arms(config, optimizer, rate)
            rows += answers.ask(students.train(arms, optimizer.label), optimizer.label)
    return Measured(
        model=teacher.name,
        student=student.name,
        adapter=config.adapter,
        steps=config.steps,
        kind=config.hidden_kind,
        targets=tuple(t.name for t in targets),
        words=answers.words,
        seeds=config.seeds,
        pairs=config.pairs,
        arms=config.arms,
        heldout=students.heldout_rows,
        beta=config.beta,
        grids=config.grids(),
        best={spec.label: rate for spec, rate in best.items()},
        pool=pool.counts,
        speed=speed,
        selected=selection.counts,
        untrained=answers.ask_untrained(),
        searched=tuple(searched),
        students=tuple(rows),
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
