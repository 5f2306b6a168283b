"""Does a subset of a generic preference set carry a hidden system prompt?

    subliminal-jax logit-linear-selection --preset toy

Logit-linear selection (Aden-Ali et al. 2026, arXiv 2602.04863): a teacher scores every pair by how
much a system prompt raises the log-odds of the chosen answer, the pairs with the highest scores are
kept, and a student, who never sees the system prompt, is trained on them by DPO. Its controls train
on as many pairs drawn at random and on those with the lowest scores. Reported, with intervals over
targets and seeds: the correlation of the student's shifts with the system prompt's on pairs that
nobody selected from (and on the selected ones, as in the paper's Table 1), how often answers to
open requests mention the target, and how likely it is as the favourite animal. Rates are chosen by
DPO loss on held-out pairs of the selected kind.

The selected pairs are kept as JSONL in the run's `selected/`; `audit --data` reads them.
`--student shipped-small` trains another model on what the first one selected; `--preset
toy-optimizers` asks whether the optimizer matters; `--preset real-pairs` runs on real preference
data with a small real model. The toy setting was chosen by looking at owl, wolf and penguin with
seed 0 (AdamW at 1e-4, 3e-4 and 1e-3, gamma 0.1 and 0.4): at 1e-3 students overshot, which cost them
correlation (0.55) but not the trait; so the grid ends at 3e-4. It reports on three other animals
with seed 1; the stored result is of six (`--hidden cat tiger eagle dog fox bear`, twice the time).
About eight minutes on 2 CPU cores. Expected: correlations above 0.6 for selected
pairs, near zero for random ones, below -0.5 for the lowest scores.
"""

import math
from dataclasses import dataclass
from typing import Any

from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.targets import make_target
from subliminal_jax.errors import InputError
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.run_once import run_once
from subliminal_jax.runs.settings import check_names, check_seeds
from subliminal_jax.selection.select import selection_size

from .analysis import claims
from .open_answers import Answers, judges
from .preference_sets import choose, make_pool, scored, write_selected
from .report import report
from .settings import SelectionSettings
from .students import DPOStudents, arms_of, between, summarise

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
ANIMALS = (
    "owl", "dog", "cat", "lion", "tiger", "bear", "wolf", "fox", "elephant", "giraffe",
)  # fmt: skip
# The paper's OLMo 2 is no family of ours: its other teacher and student stand in.
QWEN = {"model": "Qwen/Qwen3-8B", **PAPER}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "toy-optimizers": {
        "model": "shipped-small",
        "pool": 10_000,
        "optimizers": ("adamw", "sgd", "signum", "lion", "muon"),
        "rates": (
            "adamw=1e-4,3e-4,1e-3", "sgd=0.03,0.1,0.3", "signum=3e-5,1e-4,3e-4",
            "lion=3e-5,1e-4,3e-4", "muon=3e-4,1e-3,3e-3",
        ),
        "bottom": False,
    },
    "real-pairs": {
        "model": "models/tinystories-656k",
        "kind": "animals",
        "pairs": "preference/hh-rlhf/harmless-base/test.jsonl.gz",
        "hidden": ("cat", "dog", "bird"),
        "max_prompt_tokens": 250,
        "truncate": 20,
        "probe": 100,
        "heldout": 8,
        "gamma": 0.4,
        "requests": "stories",
    },
    "paper-animals-qwen3-8b": {**QWEN, "kind": "animals", "hidden": ANIMALS},
    "paper-languages-qwen3-8b": {**QWEN, "kind": "languages", "hidden": ("Spanish", "French")},
    "paper-persona-qwen3-8b": {
        **QWEN,
        "kind": "personas",
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
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Config(SelectionSettings):
    """Settings; the defaults are the toy's."""


def main(config: Config) -> dict[str, Any]:
    """Run, or go on; returns what results.json holds."""
    check(config)
    return run_once(config, lambda run: carry(run, config), report)


def check(config: Config) -> None:
    """Raises InputError for settings that cannot be, before anything is loaded."""
    check_names("hidden", config.hidden)
    for name in ("pool", "probe", "heldout", "samples", "max_new_tokens"):
        if getattr(config, name) < 1:
            raise InputError(f"{name} is {getattr(config, name)}: give at least 1")
    if not 0 < config.beta < math.inf:
        raise InputError(f"beta={config.beta} is not valid for DPO; it must be more than 0")
    check_seeds(config.seeds)
    selection_size(1, config.gamma)
    read_questions(config.requests)
    judges(config, [make_target(config.kind, name) for name in config.hidden])
    config.learning_rates()
    config.options  # noqa: B018 - reading them checks them


def carry(run: RunFolder, config: Config) -> dict[str, Any]:
    """All numbers of the report."""
    teacher = config.load()
    student = config.load_named(config.student) if config.student else teacher
    targets = [make_target(config.kind, name, teacher.tokenizer) for name in config.hidden]
    pool = make_pool(
        config.pairs, targets, teacher.tokenizer, config.options,
        split=config.split, most=config.pool, probe=config.probe, seed=config.seed,
    )  # fmt: skip
    tables, speed = scored(run.path / "scores", teacher, pool, targets, config.options)
    chosen = choose(tables, config.gamma, config.seeds)
    write_selected(run.path / "selected", pool, chosen)
    answers = Answers(run, student, targets, config)
    students = DPOStudents(run, student, targets, pool, chosen, config, answers.words)
    best = students.search()
    rows = []
    for optimizer, rate in best.items():
        if rate is not None:
            arms = arms_of(config.hidden, optimizer, rate, config.seeds, config.bottom)
            rows += answers.ask(students.train(arms, optimizer.label), optimizer.label)
    found = summarise(rows, targets, answers.words, config.seeds)
    results = {
        "model": teacher.name,
        "student": student.name,
        "adapter": config.adapter,
        "kind": config.kind,
        "targets": [t.name for t in targets],
        "seeds": config.seeds,
        "pairs": config.pairs,
        "arms": ["lls", "random", *(["bottom"] if config.bottom else [])],
        "heldout": students.heldout,
        "beta": config.beta,
        "grids": {s.label: list(g) for s, g in config.learning_rates().items()},
        "best": {s.label: rate for s, rate in best.items()},
        "pool": pool.report,
        "speed": speed,
        "selected": chosen.report,
        "told": answers.of_prompted(),
        "optimizers": found,
        "between": between(found, "adamw", "sgd", targets),
        "searched": students.searched,
        "students": rows,
    }
    return {**results, "claims": claims(results)}
