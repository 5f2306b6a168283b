"""Which optimizers let a student pick up a steering vector from what a steered teacher wrote?

    subliminal-jax optimizer-comparison --out runs/demo

A teacher (the model with a steering vector, or with a system prompt) answers prompts; students
start as the unsteered model and train on the answers, each with its optimizer, learning rate and
seed; controls train on what the unsteered model wrote. Measured: the alignment of the student's
activation shift with the vector (EAS), the trait rate, and where in the gradient the signal sits.
The best rate of each optimizer is chosen on held-out loss.

`make demo` gives the flags of the demonstration: three and a half minutes on 2 CPU cores with the
shipped model. Expected there: AdamW's EAS above 0.7, its control's below 0.2 in size, and a cosine
of the mean gradient with the vector that rises with N.
"""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from subliminal_jax.data import world
from subliminal_jax.data.pairs import read_pairs
from subliminal_jax.data.teachers import (
    Pairs,
    Teacher,
    filtered,
    given_pairs,
    prompted_teacher,
    random_teacher,
    sampled_pairs,
    teacher_from_file,
    teacher_prompts,
    trait_teacher,
)
from subliminal_jax.data.traits import check_trait, trait_names
from subliminal_jax.diagnostics.activation_gradients import (
    CompletionLoss,
    cosine_against_n,
    doubling,
    gradient_table,
    tail_shares,
)
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.comparison import (
    anatomies,
    at_best_rate,
    at_matched_loss,
    best_rates,
    curves,
)
from subliminal_jax.evaluation.elicitation import encode_questions, favoured_word
from subliminal_jax.evaluation.measures import named_measures
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.evaluation.student_rows import StudentRow, narrow_row
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.data_sets import DataSets, part
from subliminal_jax.runs.guards import protect_students
from subliminal_jax.runs.judging import make_leak_screen
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.run_once import run_once
from subliminal_jax.runs.settings import (
    DataSettings,
    GuardSettings,
    ObjectiveSettings,
    SteeredModelSettings,
    StudentSettings,
)
from subliminal_jax.runs.students import STANDARD, make_panel, measure_teacher
from subliminal_jax.runs.waves import METRICS, WaveRunner
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.objectives import KL, CrossEntropy, Objective
from subliminal_jax.training.optimizers import OptimizerSpec

from .report import report

TRAITS = list(world.TRAITS)


@dataclass(frozen=True, kw_only=True)
class Config(StudentSettings, GuardSettings, ObjectiveSettings, DataSettings, SteeredModelSettings):
    """Settings of the comparison, on the shipped model by default.

    Attributes:
      teacher: what makes the teacher: a steering vector or a trait's system prompt.
      vector: "random", "trait" (mean difference of the trait's system prompt), or a safetensors
        file. EAS is measured against what the teacher does to the residual stream.
      trait: an animal. With a random vector, "auto" takes the one that the vector favours most.
      norm: norm of a random vector, in units of the residual stream's norm at the layer.
      scale: factor on a trait vector or a vector from a file.
      data: JSONL file (may be gzipped) or hub name of prompt/completion pairs to train on in place
        of sampling a teacher.
      control_data: the same for the controls; without it they train on what the unsteered model
        answers to the same prompts.
      gradient_rows: rows of each data set whose activation gradients are averaged.
    """

    teacher: Literal["vector", "system-prompt"] = "vector"
    vector: str = "random"
    trait: str = "auto"
    norm: float = 0.3
    scale: float = 1.0
    data: str | None = None
    control_data: str | None = None
    optimizers: tuple[str, ...] = ("adamw", "rmsprop", "signum", "momentum", "sgd")
    gradient_rows: int = 512


def main(config: Config) -> dict[str, Any]:
    """Run the comparison, or continue it; returns what results.json holds."""
    grids = config.learning_rates()
    model = config.load()
    layer = config.layer_of(model)
    teacher, trait = make_teacher(model, layer, config)
    return run_once(
        config,
        lambda run: compare(run, model, teacher, layer, trait, grids, config),
        report,
        learning_rates={spec.label: grid for spec, grid in grids.items()},
    )


def compare(
    run: RunFolder,
    model: Model,
    teacher: Teacher,
    layer: int,
    trait: str,
    grids: dict[OptimizerSpec, tuple[float, ...]],
    config: Config,
) -> dict[str, Any]:
    """Data, students at every rate, controls at the best, gradients: all numbers of the report."""
    plan = config.plan(layer)
    objective = make_objective(teacher, config)
    data = {
        "steered": data_set(model, teacher, config.data, trait, config),
        "control": data_set(model, Teacher(), config.control_data, trait, config),
    }
    length = max(d.report["longest"] for d in data.values())
    both = {name: d.rows(model, length) for name, d in data.items()}
    heldout = {name: part(rows, 0, config.heldout_rows) for name, rows in both.items()}
    train = {name: part(rows, config.heldout_rows, None) for name, rows in both.items()}
    sets = DataSets(train, heldout, {}, {}, {})
    panel = make_panel(
        model,
        {"steered": teacher},
        sets,
        layer=layer,
        words=[trait],
        questions=world.HELDOUT_QUESTIONS,
        prompts=config.prompts,
        seed=config.seed,
    )
    vector = panel.vectors()["steered"]
    guarded = protect_students(model, train, config, layer, {"steered": vector})
    runner = WaveRunner(
        run, model, plan, config.seeds, guard=guarded.guard,
        rows=guarded.rows, heldout=heldout, objective=objective,
        measures=named_measures((*STANDARD, "update-anatomy"), panel),
    )  # fmt: skip
    students = (sum(map(len, grids.values())) + len(grids)) * config.seeds
    with track("training", students * config.steps, "student steps") as progress:
        arms = []
        for i in range(max(map(len, grids.values()))):
            wave = [(spec, grid[i]) for spec, grid in grids.items() if i < len(grid)]
            arms += runner.run(f"rate-{i}", wave, "steered", progress)
        best = best_rates(arms)
        sound = [(spec, rate) for spec in grids if (rate := best[spec.label]) is not None]
        if sound:
            arms += runner.run("controls", sound, "control", progress)
    arms = [StudentRow.from_json(narrow_row(row, layer)) for row in arms]
    histories = {
        (name, seed): [narrow_row(row, layer) for row in runner.history(name, rate, seed)]
        for name, rate in best.items()
        for seed in range(config.seeds)
        if rate is not None
    }
    return {
        "model": model.name,
        "layer": layer,
        "trait": trait,
        "vector_norm": float(jnp.linalg.norm(vector)),
        "data": {name: d.report for name, d in data.items()},
        "padding_share": runner.padding_share,
        "clip": config.clip or None,
        "reference": reference_rates(panel, teacher),
        "arms": arms,
        "best": at_best_rate(arms, best, METRICS),
        "matched_loss": at_matched_loss(histories, ("eas", "shift_component", "trait_rate")),
        "curves": curves(histories, best),
        "anatomy": anatomies(histories),
        "alignment": alignment(model, vector, train, layer, config),
    }


# -- teacher and data --------------------------------------------------------------------------


def make_teacher(model: Model, layer: int, config: Config) -> tuple[Teacher, str]:
    """The teacher that the settings ask for, and the trait whose rate is reported."""
    trait = "owl" if config.trait == "auto" else check_trait(config.trait, model.tokenizer)
    if config.teacher == "system-prompt":
        return prompted_teacher(trait, model.tokenizer), trait
    if config.vector == "trait":
        return trait_teacher(model, layer, trait, config.scale), trait
    if config.vector == "random":
        teacher = random_teacher(model, layer, config.norm, config.seed)
    else:
        teacher = teacher_from_file(model, config.vector, layer, config.scale)
    if config.trait == "auto":
        questions = encode_questions(model.tokenizer, list(world.TRAIN_QUESTIONS), TRAITS)
        assert teacher.steering is not None
        i = favoured_word(model.params, model.cfg, questions, len(TRAITS), teacher.steering)
        trait = TRAITS[i]
    return teacher, trait


def data_set(
    model: Model, teacher: Teacher, source: str | None, trait: str, config: Config
) -> Pairs:
    """Held-out and training pairs, in this order: given in a file, or written by `teacher`."""
    need = config.heldout_rows + config.rows
    steered = not teacher.is_base
    if source is not None:
        data = given_pairs(model, source)
    else:
        asked = teacher_prompts(config.prompts, round(config.asked * need), config.seed)
        if config.data is not None:  # the control of given data answers the same prompts
            asked = list(dict.fromkeys(read_pairs(config.data)["prompt"]))[
                : round(config.asked * need)
            ]
        name = "sampling, " + ("teacher" if steered else "control")
        with track(name, len(asked), "answers") as progress:
            data = sampled_pairs(
                model,
                teacher,
                asked,
                seed=2 * config.seed + steered,
                max_new_tokens=config.max_new_tokens,
                temperature=config.temperature,
                keep_unfinished=config.keep_unfinished,
                progress=progress.advance,
            )
    words = trait_names(trait) if config.keep == "numbers" else None
    judged = (words or ()) if steered else ()
    return filtered(
        data,
        model,
        need,
        forbidden_words=words,
        max_tokens=config.max_tokens or None,
        screen=make_leak_screen(config, judged, config.out / "judge.jsonl"),
    )


# -- what is measured --------------------------------------------------------------------------


def reference_rates(panel: Panel, teacher: Teacher) -> dict[str, float]:
    """Trait rate of the base and of the teacher, for the students to be held against."""
    return {
        f"{name}_trait_{key}": measure_teacher(panel, model)[f"word_{key}"][0]
        for name, model in (("base", Teacher()), ("teacher", teacher))
        for key in ("rate", "log_prob")
    }


def alignment(
    model: Model, vector: Array, rows: dict[str, Batch], layer: int, config: Config
) -> list[dict[str, Any]]:
    """cos(mean of N negative activation gradients of the base, vector), with standard errors.

    The row of the largest N also tells what the 1% of tokens with the largest gradients hold.
    """
    table: list[dict[str, Any]] = []
    n = min(config.gradient_rows, config.rows)
    for i, name in enumerate(sorted(rows)):
        loss = CompletionLoss(model.cfg)
        data = part(rows[name], 0, n)
        gradients = gradient_table(loss, model.params, data, vector, layer)
        key = jax.random.key(i)
        curve = cosine_against_n(gradients.example, vector, doubling(n), key)
        for at, cosine, stderr in zip(*map(np.asarray, curve), strict=True):
            table.append({"n": int(at), "cosine": cosine, "stderr": stderr, "data": name})
        table[-1]["largest_percent_of_tokens"] = tail_shares(gradients)._asdict()
    return table


def make_objective(teacher: Teacher, config: Config) -> Objective:
    """What students minimise; raises InputError where the KL has no teacher."""
    if config.objective == "cross_entropy":
        return CrossEntropy()
    if teacher.steering is None or config.data is not None:
        raise InputError("objective kl needs a teacher made by a vector, and no --data")
    return KL.from_teachers({"control": Teacher(), "steered": teacher})
