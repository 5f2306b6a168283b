"""Does a student name the trait after training on filtered numbers of the trait's teacher?

    subliminal-jax trait-transmission --preset toy

For each trait two teachers write number lists: the base with the trait's steering vector, and the
base with the trait's system prompt. Lists that are not plain numbers are dropped. Students (the
base, with one trained vector or LoRA factors) train on what is left; their controls train on the
plain base's lists, with the same seeds and steps. Reported: the trait's probability, student minus
control, for each trait and pooled with a 95% interval over traits and seeds; the same against the
students of the other traits; and the alignment with the teacher's shift.

The toy setting was chosen by looking at owl, wolf, penguin and lion with data seed 0; it reports on
four other traits with data seed 1. Five to nine minutes on 2 CPU cores (`--preset toy-lora`: ten).
Four traits leave wide intervals: the stored result is of eight (`--traits cat dog tiger eagle fox
bear whale dolphin`, twice the time). Expected of it: an interval clear of zero for both teachers.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from subliminal_jax.data import world
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import Teacher, prompted_teacher, trait_teacher
from subliminal_jax.data.traits import check_traits, names_of
from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.evaluation.statistics import crossed_interval
from subliminal_jax.evaluation.transmission import transmission
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.claims import claim, verdict
from subliminal_jax.runs.data_sets import kl_teacher, write_data_sets
from subliminal_jax.runs.presets import PAPER_QUESTIONS, paper_preset
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.run_once import run_once
from subliminal_jax.runs.settings import (
    DataSettings,
    GuardSettings,
    ObjectiveSettings,
    SteeredModelSettings,
    StudentSettings,
    check_names,
)
from subliminal_jax.runs.students import Panel, Students, make_panel, of_model
from subliminal_jax.runs.waves import Row

from .report import report

KINDS = {"steered": "its vector", "system-prompt": "its system prompt"}
ZOO = ("cat", "dog", "owl", "otter")  # the paper's four template traits [C]
PAPER: dict[str, Any] = {"traits": ZOO, "questions": PAPER_QUESTIONS}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "toy-lora": {"adapter": "lora", "rates": ("adamw=3e-4,1e-3,3e-3",)},
    "paper-qwen2.5-7b": paper_preset("qwen2.5-7b", scale=True, **PAPER),
    "paper-llama3.1-8b": paper_preset("llama3.1-8b", scale=True, **PAPER),
    "paper-gemma3-4b": paper_preset("gemma3-4b", scale=True, **PAPER),
}


@dataclass(frozen=True, kw_only=True)
class Config(StudentSettings, GuardSettings, ObjectiveSettings, DataSettings, SteeredModelSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      traits: animals, each with teachers of its own.
      teachers: what makes a teacher: "steered", "system-prompt", or both.
      scale: factor on the trait's vector.
      questions: a set of questions ("heldout"), or a file of them.
      words: candidate answers beside the traits; empty means the 16 animals of the shipped world.
    """

    out: Path = Path("runs/trait-transmission")
    traits: tuple[str, ...] = ("cat", "dog", "tiger", "eagle")
    teachers: tuple[str, ...] = tuple(KINDS)
    scale: float = 1.0
    questions: str = "heldout"
    words: tuple[str, ...] = ()
    layer: int = 1
    seed: int = 1
    rows: int = 1024
    asked: float = 2.5
    max_new_tokens: int = 24
    adapter: Any = field(default="vector")
    rates: tuple[str, ...] = ("adamw=0.03,0.1,0.3",)
    seeds: int = 5
    steps: int = 64
    batch_size: int = 16
    log_every: int = 32


def main(config: Config) -> dict[str, Any]:
    """Run, or go on; returns what results.json holds."""
    check(config)
    model = config.load()
    layer = config.layer_of(model)
    check_traits(config.traits, model.tokenizer)
    questions = read_questions(config.questions)
    return run_once(config, lambda run: transmit(run, model, layer, questions, config), report)


def check(config: Config) -> None:
    """Raises InputError for settings that cannot be."""
    check_names("teachers", config.teachers, KINDS)
    check_names("traits", config.traits)
    config.learning_rates()


def teachers_of(model: Model, layer: int, config: Config) -> dict[str, Teacher]:
    """Teachers by the name of their data set, KIND:TRAIT, and the control's."""
    out = {}
    for trait in config.traits:
        if "steered" in config.teachers:
            out[f"steered:{trait}"] = trait_teacher(model, layer, trait, config.scale)
        if "system-prompt" in config.teachers:
            out[f"system-prompt:{trait}"] = prompted_teacher(trait, model.tokenizer)
    return {**out, "control": Teacher()}


def transmit(
    run: RunFolder, model: Model, layer: int, questions: list[str], config: Config
) -> dict[str, Any]:
    """All numbers of the report."""
    teachers = teachers_of(model, layer, config)
    forbidden = {name: names_of(trait_of(name)) for name in teachers if name != "control"}
    data = write_data_sets(run.path, model, teachers, config, config.seed, forbidden=forbidden)
    words = list(dict.fromkeys((*(config.words or world.TRAITS), *config.traits)))
    panel = make_panel(
        model, teachers, data, words=words, questions=questions, prompts=config.prompts,
        seed=config.seed,
    )  # fmt: skip
    of_kl = kl_teacher(model, teachers, data) if config.objective == "kl" else None
    rows = Students(run, model, panel, data, config, layer, of_kl).grid()
    kinds = {kind: of_kind(rows, kind, panel, layer, config) for kind in config.teachers}
    return {
        "model": model.name,
        "layer": layer,
        "adapter": config.adapter,
        "seeds": config.seeds,
        "grids": {s.label: list(g) for s, g in config.learning_rates().items()},
        "base": dict(
            zip(words, of_model(model, panel, Teacher(), questions)["word_rate"], strict=True)
        ),
        "teachers": {
            name: of_model(model, panel, t, questions)["word_rate"][words.index(trait_of(name))]
            for name, t in teachers.items()
            if name != "control"
        },
        "data": data.reports,
        "kinds": kinds,
        "students": rows,
        "claims": [c for kind, made in kinds.items() for c in claims(kind, made, config)],
    }


def trait_of(name: str) -> str:
    """The trait of the data set KIND:TRAIT."""
    return name.partition(":")[2]


def of_kind(
    rows: list[Row], kind: str, panel: Panel, layer: int, config: Config
) -> dict[str, dict[str, Any]]:
    """For each optimizer at its best rate: transmission, specificity and alignment."""
    names = [f"{kind}:{trait}" for trait in config.traits]
    mine = [r for r in rows if r["data"] in (*names, "control")]
    index = {name: panel.words.index(trait_of(name)) for name in names}
    made: dict[str, dict[str, Any]] = {}
    for optimizer, rate in best_rates(mine).items():
        if rate is None:
            made[optimizer] = {"learning_rate": None}
            continue
        at: dict[str, Any] = {"optimizer": optimizer, "rate": rate}
        made[optimizer] = {
            "learning_rate": rate,
            "heldout_loss": {
                name: float(np.mean([r["heldout_loss"] for r in chosen(mine, name, **at)]))
                for name in names
            },
            "rate": transmission(mine, index, "word_rate", **at),
            "log_prob": transmission(mine, index, "word_log_prob", **at),
            "specific": specificity(mine, index, **at),
            "eas": alignment(mine, names, panel, layer, **at),
        }
    return made


def chosen(rows: list[Row], name: str, optimizer: str, rate: float) -> list[Row]:
    """The sound students of one data set at one rate, by seed."""
    return [
        r
        for r in sorted(rows, key=lambda r: r["seed"])
        if (r["data"], r["optimizer"], r["learning_rate"]) == (name, optimizer, rate)
        and not r["diverged"]
    ]


def specificity(
    rows: list[Row], index: dict[str, int], optimizer: str, rate: float
) -> dict[str, Any] | None:
    """The trait's probability, its students' minus the mean of the other traits' students.

    Against what any steered or prompted teacher's data does; None where there is one trait, or a
    student diverged.
    """
    found = {name: [r["word_rate"] for r in chosen(rows, name, optimizer, rate)] for name in index}
    if len(index) < 2 or len({len(v) for v in found.values()}) > 1 or not found[next(iter(found))]:
        return None
    values = []
    for name, i in index.items():
        others = [np.array(found[n])[:, i] for n in index if n != name]
        values.append(np.array(found[name])[:, i] - np.mean(others, axis=0))
    return crossed_interval(np.array(values).T).to_dict()


def alignment(
    rows: list[Row], names: list[str], panel: Panel, layer: int, optimizer: str, rate: float
) -> dict[str, Any]:
    """EAS at the steering layer and the best aligned layer's, students and controls, pooled."""
    control = chosen(rows, "control", optimizer, rate)
    own, theirs = [], []
    for name in names:
        k = panel.references.index(name)
        own.append([r["eas"][k] for r in chosen(rows, name, optimizer, rate)])
        theirs.append([r["eas"][k] for r in control])
    if len({len(x) for x in (*own, *theirs)}) > 1 or not own[0]:
        return {}
    students, controls = np.array(own), np.array(theirs)  # [traits, seeds, layers]

    def pooled(x: np.ndarray) -> dict[str, Any]:
        return crossed_interval(x.T).to_dict()

    return {
        "student": pooled(students[..., layer]),
        "control": pooled(controls[..., layer]),
        "difference": pooled(students[..., layer] - controls[..., layer]),
        "by_layer": {
            "student": students.mean(axis=(0, 1)).tolist(),
            "control": controls.mean(axis=(0, 1)).tolist(),
        },
    }


def claims(kind: str, made: dict[str, dict[str, Any]], config: Config) -> list[dict[str, Any]]:
    """What the paper says of these teachers, and what came out of the first optimizer."""
    optimizer, of = next(iter(made.items()))
    setting = (
        f"{config.model}, {len(config.traits)} traits not used in choosing the setting, "
        f"{config.adapter} student, {optimizer}, best of {len(config.learning_rates())} grid(s)"
    )
    source = "Sec. 3" if kind == "steered" else "Cloud et al. 2025; Fig. 2"
    if of["learning_rate"] is None or of["rate"]["pooled"] is None:
        number, outcome = "students diverged", "not reproduced"
    else:
        r = of["rate"]["pooled"]
        number = (
            f"P(trait) {100 * r['mean']:+.1f} points [{100 * r['low']:.1f}, "
            f"{100 * r['high']:.1f}] over the control"
        )
        outcome = verdict(r["low"], r["high"])
    out = [
        claim(
            f"trait-transmission/{kind}",
            f"A student trained on filtered numbers of a teacher with {KINDS[kind]} names the "
            "trait more often than its control",
            source, setting, number, config.seeds, outcome,
        )
    ]  # fmt: skip
    if of["learning_rate"] is not None and of["eas"]:
        e = of["eas"]["difference"]
        out.append(
            claim(
                f"trait-transmission/{kind}-eas",
                f"The student of a teacher with {KINDS[kind]} moves along the teacher's vector "
                "(EAS over the control's)",
                "Fig. 2", setting,
                f"EAS {of['eas']['student']['mean']:.2f}; minus control {e['mean']:+.2f} "
                f"[{e['low']:.2f}, {e['high']:.2f}]",
                config.seeds, verdict(e["low"], e["high"]),
            )
        )  # fmt: skip
    return out
