"""Does a student learn its teacher's vector, and is that vector what makes it say the trait?

    subliminal-jax student-vector
    subliminal-jax student-vector --preset paper-qwen2.5-7b --out runs/fig2

"Subliminal Learning Is Steering Vector Distillation" (Blank et al. 2026), section 3 and figure 2.
Students train on number lists of trait teachers, controls on the base's own lists. Measured: the
alignment (EAS) after every block over training; whether the student's mean shift, added to the
base, makes it say the trait (sufficient); whether the student still says it with its component
along the vector replaced by the base's (necessary); and whether the lists of a system-prompted
teacher without the vector still teach anything (the teacher's vector is necessary). The paper
projects it out, which also removes what the base has along it; where that is not small, the
projection is itself a steering, so a teacher with the vector subtracted stands beside it.

Toy preset: about seven minutes on 2 CPU cores. The students' weights are LoRA factors of one
projection of the steered block: chosen by looking at pilot runs on owl, wolf and penguin, in which
it moved the trait as far as all projections of the early blocks, in half the time. It reports on
other traits; three leave wide intervals, `--traits cat dog tiger eagle fox bear` takes twice as
long. Expected: EAS about 0.5, a control's below zero; the trait rate rises by half a percentage
point and falls back with the component replaced.
"""

from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import (
    Teacher,
    prompted_teacher,
    trait_teacher,
    trait_vectors,
)
from subliminal_jax.data.traits import check_traits, names_of
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.evaluation.statistics import crossed_interval
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.evaluation.transmission import transmission
from subliminal_jax.models.hub import Model
from subliminal_jax.models.steered import Steering, steer
from subliminal_jax.runs.data_sets import write_data_sets
from subliminal_jax.runs.presets import PAPER_QUESTIONS, paper_preset
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.run_once import run_once
from subliminal_jax.runs.settings import (
    DataSettings,
    GuardSettings,
    SteeredModelSettings,
    StudentSettings,
    check_names,
)
from subliminal_jax.runs.students import Panel, Students, make_panel, measure_teacher
from subliminal_jax.serialization import to_json
from subliminal_jax.training.adapters import PROJECTIONS
from subliminal_jax.training.arms import Arm
from subliminal_jax.training.optimizers import OptimizerSpec

from .analysis import claims
from .causal import READ, added, effects, inputs, random_like, replaced, rows_of
from .report import report

KINDS = ("steered", "prompted", "projected", "subtracted")


@dataclass(frozen=True, kw_only=True)
class Config(StudentSettings, GuardSettings, DataSettings, SteeredModelSettings):
    """Settings of the study, on the shipped model by default.

    Attributes:
      questions: a set of questions ("heldout"), or a file of them.
      traits: animals; each has teachers and students of its own.
      teacher: whose students are studied in full, at every rate: those of the teacher steered by
        the trait's vector, or of the one with the trait's system prompt. The students of the others
        are trained at the rate that is best for these.
      scale: factor on the vector of the steered teacher.
      factors: factors on v_student where it is added to the base; the first is the one that
        the claim is about.
      project_layer: the block whose vector is projected out of the system-prompted teacher, after
        every block and at every token; -1 is the steering layer. (With each block's own vector the
        toy's teacher writes no valid lists any more, for that of the last block.)
    """

    out: Path = Path("runs/student-vector")
    questions: str = "heldout"
    traits: tuple[str, ...] = ("cat", "dog", "tiger")
    teacher: Literal["steered", "system-prompt"] = "steered"
    scale: float = 1.0
    factors: tuple[float, ...] = (0.6, 0.3, 1.0, 2.0, 4.0)
    project_layer: int = -1
    rows: int = 1536
    heldout_rows: int = 128
    asked: float = 2.1
    max_new_tokens: int = 24
    max_tokens: int = 32
    optimizers: tuple[str, ...] = ("adamw:b2=0.95",)
    rates: tuple[str, ...] = ("adamw:b2=0.95=3e-3,1e-2",)
    steps: int = 96
    batch_size: int = 32
    log_every: int = 16
    targets: tuple[str, ...] = ("down",)
    adapter_layers: tuple[int, ...] = (1,)


_PAPER: dict[str, Any] = {
    "questions": PAPER_QUESTIONS,
    "targets": PROJECTIONS,  # [C]
    "adapter_layers": (),
    "scale": True,
    "teacher": "system-prompt",  # figure 2 [C]; the steered one is trained beside it
    "traits": ("cat", "dog", "owl", "otter"),  # [C]
    "factors": (0.6, 0.3, 1.0, 2.0),  # 0.6, over all layers and prompt positions [C]
    "project_layer": 20,  # v[20] after every block, alpha 1 [C]
}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "paper-qwen2.5-7b": paper_preset("qwen2.5-7b", **_PAPER),
    # The layer of the projection is not known for Gemma: 20 of Qwen's 28 blocks, in proportion.
    "paper-gemma3-4b": paper_preset("gemma3-4b", **_PAPER | {"project_layer": 24}),
}


def main(config: Config) -> dict[str, Any]:
    """Run the study, or continue it; returns what results.json holds."""
    optimizer, grid = check(config)
    questions = read_questions(config.questions)
    model = config.load()
    return run_once(
        config,
        lambda run: study(run, model, questions, optimizer, grid, config),
        report,
        learning_rates={optimizer.label: grid},
    )


def check(config: Config) -> tuple[OptimizerSpec, tuple[float, ...]]:
    """The optimizer and its grid; raises InputError for settings that this study cannot have."""
    check_names("traits", config.traits)
    check_traits(config.traits)
    if config.adapter == "vector":
        raise InputError("a student that is a vector is its own v_student: choose lora or full")
    grids = config.learning_rates()
    if len(grids) != 1:
        raise InputError(f"{len(grids)} optimizers: this study has one, with any number of rates")
    if not config.factors or min(config.factors) <= 0:
        raise InputError(f"factors {config.factors}: give at least one, all more than 0")
    return next(iter(grids.items()))


def make_teachers(model: Model, layer: int, config: Config) -> dict[str, Teacher]:
    """The base, and for each trait a teacher steered by its vector, one with its system prompt, and
    two with the prompt and without the vector: projected out as in the paper, or subtracted, which
    takes off what the prompt adds on average and leaves the base's own component."""
    layers = tuple(range(model.cfg.layers))
    at = layer if config.project_layer == -1 else model.cfg.check_layer(config.project_layer)
    teachers: dict[str, Teacher] = {"control": Teacher()}
    for trait in config.traits:
        vector = trait_vectors(model, [at], trait)
        prompted = prompted_teacher(trait)
        tiled = jnp.broadcast_to(vector, (len(layers), *vector.shape[1:]))
        without = Steering(tiled, jnp.ones(()), layers, "project_out")
        own = (
            trait_teacher(model, layer, trait, config.scale),
            prompted,
            replace(prompted, steering=without),
            replace(prompted, steering=steer(-vector[0], at)),
        )
        teachers |= {f"{trait}-{kind}": t for kind, t in zip(KINDS, own, strict=True)}
    return teachers


def study(
    run: RunFolder,
    model: Model,
    questions: list[str],
    optimizer: OptimizerSpec,
    grid: tuple[float, ...],
    config: Config,
) -> dict[str, Any]:
    """Data, students, causal tests: all numbers of the report."""
    layer = config.layer_of(model)
    teachers = make_teachers(model, layer, config)
    forbidden = {name: names_of(name.partition("-")[0]) for name in teachers if name != "control"}
    data = write_data_sets(run.path, model, teachers, config, config.seed, forbidden=forbidden)
    panel = make_panel(
        model,
        teachers,
        data,
        layer=layer,
        words=config.traits,
        questions=questions,
        prompts=config.prompts,
        seed=config.seed,
    )
    students = Students(run, panel, data, config)
    kind = "steered" if config.teacher == "steered" else "prompted"
    main_names = [*(f"{t}-{kind}" for t in config.traits), "control"]
    rows = students.grid(main_names)
    rate = best_rates(rows)[optimizer.label]
    if rate is None:
        raise InputError(f"a student diverged at every rate of {optimizer.label}: lower the rates")
    if any(r["diverged"] for r in rows if r["learning_rate"] == rate):
        raise InputError(f"a control diverged at the rate {rate:g}: lower it")
    seeds = range(config.seeds)
    arms = [Arm(optimizer, rate, s, name) for name in main_names for s in seeds]
    stage = f"students-{grid.index(rate)}"
    causal = causal_tests(students, stage, arms, model, panel, kind, config)
    rest = [f"{t}-{k}" for k in KINDS if k != kind for t in config.traits]
    rows += students.train("rest", [Arm(optimizer, rate, s, n) for n in rest for s in seeds]).rows
    at_rate = [r for r in rows if r["learning_rate"] == rate and not r["diverged"]]
    index = {t: i for i, t in enumerate(config.traits)}
    results = {
        "model": model.name,
        "layer": layer,
        "kind": kind,
        "optimizer": optimizer.label,
        "learning_rate": rate,
        "grid": list(grid),
        "heldout_loss": {
            f"{r:g}": [x["heldout_loss"] for x in rows if x["learning_rate"] == r] for r in grid
        },
        "references": list(panel.references),
        "base_component": base_components(panel, config.traits, layer),
        "data": data.reports,
        "teachers": teacher_rates(model, panel, questions, teachers, index),
        "students": rows,
        "eas": eas_over_training(run, panel, rate, kind, config),
        "final": {k: final_values(at_rate, panel, k, layer, config) for k in (*KINDS, "control")},
        "transmission": {
            metric: to_json(transmission(
                [r.with_values(data=r.data.removesuffix(f"-{kind}")) for r in at_rate],
                index, metric, optimizer=optimizer.label, rate=rate,
            ))
            for metric in ("word_rate", "word_log_prob")
        },
        **causal,
    }  # fmt: skip
    return {**results, "claims": claims(results, config.seeds)}


def teacher_rates(
    model: Model,
    panel: Panel,
    questions: list[str],
    teachers: dict[str, Teacher],
    index: dict[str, int],
) -> list[dict[str, Any]]:
    """The trait rate of the base and of every kind of teacher, a row a trait."""

    def rate(teacher: Teacher, trait: str) -> float:
        return measure_teacher(panel, teacher)["word_rate"][index[trait]]

    return [
        {"trait": t, "base": rate(Teacher(), t)}
        | {kind: rate(teachers[f"{t}-{kind}"], t) for kind in KINDS}
        for t in index
    ]


def base_components(panel: Panel, traits: tuple[str, ...], layer: int) -> dict[str, float]:
    """<h_base, v> / |v|^2 at the end of the probe's prompts: minus what projecting v out adds."""
    mean, found = panel.base_mean[layer], {}
    for trait in traits:
        v = panel.shifts[panel.references.index(f"{trait}-prompted"), layer]
        found[trait] = float(mean @ v / (v @ v))
    return found


def eas_over_training(
    run: RunFolder, panel: Panel, rate: float, kind: str, config: Config
) -> list[dict[str, Any]]:
    """EAS after each block at each logged step: students with their own teacher's shift, controls
    with each trait's; mean and interval over seeds and traits."""
    logged = [
        r for r in run.read_metrics()
        if r["learning_rate"] == rate and r["stage"].startswith("students-")
    ]  # fmt: skip
    found = {(r["step"], r["data"], r["seed"]): r["eas"] for r in logged}
    table = []
    for who in ("student", "control"):
        for step in sorted({r["step"] for r in logged}):
            values = np.array(
                [
                    [
                        found[step, f"{t}-{kind}" if who == "student" else "control", seed][
                            panel.references.index(f"{t}-{kind}")
                        ]
                        for t in config.traits
                    ]
                    for seed in range(config.seeds)
                ],
                float,
            )  # [seeds, traits, layers]
            for at in range(values.shape[2]):
                here = values[:, :, at]
                entry = {"data": who, "step": step, "layer": at}
                interval = None if np.isnan(here).any() else _crossed(here)
                table.append(entry | {"eas": interval})
    return table


def final_values(
    rows: list[StudentRow], panel: Panel, kind: str, layer: int, config: Config
) -> dict[str, Any]:
    """By seed and trait at the end: EAS with v_teacher at the steering layer (the shift that the
    system prompt makes), that with the steered teacher's shift, and the trait's rate and log."""
    found = {(r["data"], r["seed"]): r for r in rows}
    out: dict[str, list] = {"eas": [], "component": [], "rate": [], "log_prob": []}
    for seed in range(config.seeds):
        mine = [(t, found.get((_name(t, kind), seed))) for t in config.traits]
        if any(row is None for _, row in mine):
            continue
        for key, source in (("eas", "eas"), ("component", "shift_component")):
            at = [panel.references.index(f"{t}-prompted") for t in config.traits]
            out[key].append(
                [row[source][i][layer] for (_, row), i in zip(mine, at, strict=True) if row]
            )
        for key, source in (("rate", "word_rate"), ("log_prob", "word_log_prob")):
            out[key].append([row[source][config.traits.index(t)] for t, row in mine if row])
    return out


def causal_tests(
    students: Students,
    stage: str,
    arms: list[Arm],
    model: Model,
    panel: Panel,
    kind: str,
    config: Config,
) -> dict[str, Any]:
    """Sufficiency and necessity of the vector of the students at the best rate."""
    trained = students.train(stage, arms)  # they are done: this reads their last checkpoint
    names, seeds = rows_of(arms), list(range(config.seeds))
    index = {t: i for i, t in enumerate(config.traits)}
    layer, L = config.layer_of(model), model.cfg.layers
    own = [panel.references.index(f"{t}-{kind}") for t in config.traits]
    references = panel.shifts[jnp.asarray(own)]
    encoded = panel.questions
    given = inputs(model, panel.probe, encoded, references, config.seed)
    removed = replaced(trained.sweep, trained.state, given, len(config.traits))

    def values(x: np.ndarray, who: str = kind) -> np.ndarray:
        return effects(x, names, index, seeds, who)

    student, control = values(removed.rates), values(removed.rates, "")
    along = np.array([
        [removed.reference[names.index((f"{t}-{kind}", s)), k, index[t]]
         for k, t in enumerate(config.traits)] for s in seeds
    ])  # fmt: skip
    necessity = {
        "student": student,
        "control": control,
        "teacher's": along,
        "student's own": values(removed.own),
        "random": values(removed.random),
    }
    everywhere = tuple(range(L))
    ask = partial(added, model, encoded, words=len(config.traits))
    nothing = np.zeros((1, L, model.cfg.dim), np.float32)
    base = ask(nothing, layers=(layer,), last_only=False)[0]
    sufficiency = []
    for (read, at), layers, last_only, factor in product(
        enumerate(READ), (everywhere, (layer,)), (False, True), config.factors
    ):
        vectors = factor * removed.shifts[:, read]
        gains = {
            source: ask(v, layers=layers, last_only=last_only) - base
            for source, v in (("student", vectors), ("random", random_like(vectors, config.seed)))
        }
        entry: dict[str, Any] = {
            "read": at, "layers": "all" if layers == everywhere else "one",
            "positions": "last" if last_only else "prompt", "factor": factor,
        }  # fmt: skip
        for source, rates, who in (
            ("student", gains["student"], kind),
            ("control", gains["student"], ""),
            ("random", gains["random"], kind),
        ):
            found = values(rates, who)
            entry = entry | {"source": source, "gain": _crossed(found)}
            sufficiency.append(entry | {"values": found.tolist()})
    return {
        "necessity": {name: x.tolist() for name, x in necessity.items()},
        "sufficiency": sufficiency,
    }


def _name(trait: str, kind: str) -> str:
    return "control" if kind == "control" else f"{trait}-{kind}"


def _crossed(values: np.ndarray) -> dict[str, Any]:
    return crossed_interval(values).to_dict()
