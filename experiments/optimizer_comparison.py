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

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax.data import world
from subliminal_jax.data.pairs import read_pairs
from subliminal_jax.data.teachers import (
    Pairs,
    PromptKind,
    Teacher,
    check_trait,
    default_layer,
    filtered,
    given_pairs,
    prompted_teacher,
    random_teacher,
    sampled_pairs,
    teacher_from_file,
    teacher_prompts,
    trait_teacher,
)
from subliminal_jax.diagnostics.activation_gradients import (
    CompletionLoss,
    cosine_against_n,
    doubling,
    gradient_table,
    tail_shares,
)
from subliminal_jax.diagnostics.alignment import make_probe
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.comparison import (
    anatomies,
    at_best_rate,
    at_matched_loss,
    best_rates,
    curves,
)
from subliminal_jax.evaluation.elicitation import encode_questions, favoured_word
from subliminal_jax.evaluation.measures import (
    MeasureContext,
    StudentMeasure,
    check_base_loss,
    measure_context,
)
from subliminal_jax.evaluation.waves import METRICS, WaveRunner
from subliminal_jax.models.hub import Model, load_model
from subliminal_jax.models.tokenizer import encode_chat
from subliminal_jax.reporting.comparison import report
from subliminal_jax.reporting.progress import track
from subliminal_jax.reporting.run_folder import RunFolder
from subliminal_jax.training import objective
from subliminal_jax.training.adapters import PROJECTIONS, Adapter, Full, LoRA, Vector
from subliminal_jax.training.arms import Schedule, TrainConfig
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.losses import Objective
from subliminal_jax.training.optimizers import OptimizerSpec, default_grid

TRAITS = list(world.TRAITS)


@dataclass(frozen=True)
class Config:
    """Settings of the comparison. Defaults are the demo's, on the shipped model.

    Attributes:
      out: folder of the run; the same command again continues it.
      model: "shipped", a local folder in Hugging Face format, or a hub name.
      dtype: dtype of the frozen weights; "checkpoint" keeps the checkpoint's.
      teacher: what makes the teacher: a steering vector or a trait's system prompt.
      vector: "random", "trait" (mean difference of the trait's system prompt), or a safetensors
        file. EAS is measured against what the teacher does to the residual stream.
      trait: an animal. With a random vector, "auto" takes the one that the vector favours most.
      layer: the steering layer (0-based); -1 takes the block at a third of the depth.
      norm: norm of a random vector, in units of the residual stream's norm at the layer.
      scale: factor on a trait vector or a vector from a file.
      data: JSONL file (may be gzipped) or hub name of prompt/completion pairs to train on in place
        of sampling a teacher.
      control_data: the same for the controls; without it they train on what the unsteered model
        answers to the same prompts.
      prompts: what the teacher is asked: to continue short number lists, lists in the style of
        Cloud et al., or whatever opens a conversation in the shipped model's corpus.
      keep: which answers stay: valid number lists without the trait's name, or all.
      rows: training pairs a data set.
      heldout_rows: held-out pairs a data set.
      max_new_tokens: limit of an answer.
      keep_unfinished: keep answers that reached the limit without an end, for a model that knows
        no end of an answer.
      max_tokens: longest pair that stays, prompt and answer together; 0 means the context.
      temperature: of the teacher.
      optimizers: names of the registry, with hyper-parameters as in "adamw:b1=0.8".
      rates: learning-rate grids as "adamw=1e-3,3e-3"; others keep their default grid.
      grid_points: how many of the middle rates of a default grid are tried.
      seeds: students an arm.
      steps: optimizer steps.
      batch_size: rows a step.
      adapter: what is trained: LoRA factors, all weights, or one vector at the steering layer.
      rank: LoRA rank.
      alpha: LoRA alpha.
      targets: adapted projections.
      adapter_layers: adapted blocks; empty means all.
      objective: cross-entropy on the sampled tokens, or KL to the teacher's distribution.
      schedule: what follows the warm-up.
      warmup: share of the steps.
      clip: bound on the global gradient norm; 0 means no clipping.
      accumulation: parts that a batch goes through in.
      log_every: steps between two measurements (and checkpoints).
      gradient_rows: rows of each data set whose activation gradients are averaged.
      seed: of vector and data; students have seeds of their own.
      overwrite: begin anew in a folder that holds another run.
    """

    out: Path
    model: str = "shipped"
    dtype: Literal["float32", "bfloat16", "checkpoint"] = "float32"
    teacher: Literal["vector", "system-prompt"] = "vector"
    vector: str = "random"
    trait: str = "auto"
    layer: int = -1
    norm: float = 0.3
    scale: float = 1.0
    data: str | None = None
    control_data: str | None = None
    prompts: PromptKind = "numbers"
    keep: Literal["numbers", "all"] = "numbers"
    rows: int = 1024
    heldout_rows: int = 128
    max_new_tokens: int = 32
    keep_unfinished: bool = False
    max_tokens: int = 0
    temperature: float = 1.0
    optimizers: tuple[str, ...] = ("adamw", "rmsprop", "signum", "momentum", "sgd")
    rates: tuple[str, ...] = ()
    grid_points: int = 3
    seeds: int = 3
    steps: int = 64
    batch_size: int = 16
    adapter: Literal["lora", "full", "vector"] = "lora"
    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = PROJECTIONS
    adapter_layers: tuple[int, ...] = ()
    objective: Objective = "cross_entropy"
    schedule: Schedule = "constant"
    warmup: float = 0.0
    clip: float = 0.0
    accumulation: int = 1
    log_every: int = 8
    gradient_rows: int = 512
    seed: int = 0
    overwrite: bool = False


def main(config: Config) -> dict[str, Any]:
    """Run the comparison, or continue it; returns what results.json holds."""
    grids = learning_rates([OptimizerSpec.parse(text) for text in config.optimizers], config)
    settings = {k: v for k, v in asdict(config).items() if k not in ("out", "overwrite")}
    settings["learning_rates"] = {spec.label: grid for spec, grid in grids.items()}
    model = load_model(config.model, dtype=None if config.dtype == "checkpoint" else config.dtype)
    layer = default_layer(model) if config.layer == -1 else model.cfg.check_layer(config.layer)
    teacher, trait = make_teacher(model, layer, config)
    with RunFolder.open(config.out, settings, overwrite=config.overwrite) as run:
        if not run.finished:
            run.write_results(compare(run, model, teacher, layer, trait, grids, config))
        results = run.read_results()
        command = " ".join(["subliminal-jax", *sys.argv[1:]])
        page = report(run.path, results, settings, command)
    print(f"report: {page}")
    return results


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
    plan = train_config(layer, config)
    kl_teacher = teacher_of_kl(teacher, config)
    data = {
        "steered": data_set(model, teacher, config.data, trait, config),
        "control": data_set(model, Teacher(), config.control_data, trait, config),
    }
    length = max(d.report["longest"] for d in data.values())
    both = {name: d.rows(model, length) for name, d in data.items()}
    check_base_loss(model.params, model.cfg, both)
    heldout = {name: part(rows, 0, config.heldout_rows) for name, rows in both.items()}
    train = {name: part(rows, config.heldout_rows, None) for name, rows in both.items()}
    context, measure = measurements(model, teacher, layer, trait, train, config)
    runner = WaveRunner(
        run, model, plan, config.seeds,
        rows=train, heldout=heldout, measure=measure, context=context, teacher=kl_teacher,
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
    histories = {
        (name, seed): runner.history(name, rate, seed)
        for name, rate in best.items()
        for seed in range(config.seeds)
        if rate is not None
    }
    return {
        "model": model.name,
        "layer": layer,
        "trait": trait,
        "vector_norm": float(jnp.linalg.norm(context.vector)),
        "data": {name: d.report for name, d in data.items()},
        "clip": config.clip or None,
        "reference": reference_rates(model, teacher, context, measure),
        "arms": arms,
        "best": at_best_rate(arms, best, METRICS),
        "matched_loss": at_matched_loss(histories, ("eas", "shift_component", "trait_rate")),
        "curves": curves(histories, best),
        "anatomy": anatomies(histories),
        "alignment": alignment(model, context, train, layer, config),
    }


# -- teacher and data --------------------------------------------------------------------------


def make_teacher(model: Model, layer: int, config: Config) -> tuple[Teacher, str]:
    """The teacher that the settings ask for, and the trait whose rate is reported."""
    trait = "owl" if config.trait == "auto" else check_trait(config.trait)
    if config.teacher == "system-prompt":
        return prompted_teacher(trait), trait
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
    steered = teacher != Teacher()
    if source is not None:
        data = given_pairs(model, source)
    else:
        asked = teacher_prompts(config.prompts, 2 * need, config.seed)
        if config.data is not None:  # the control of given data answers the same prompts
            asked = list(dict.fromkeys(read_pairs(config.data)["prompt"]))[: 2 * need]
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
    words = (trait, world.PLURALS[trait]) if config.keep == "numbers" else None
    limit = config.max_tokens or None
    return filtered(data, model, need, forbidden_words=words, max_tokens=limit)


def part(rows: Batch, start: int, stop: int | None) -> Batch:
    """Some of the rows."""
    return jax.tree.map(lambda x: x[start:stop], rows)


# -- what is measured --------------------------------------------------------------------------


def measurements(
    model: Model,
    teacher: Teacher,
    layer: int,
    trait: str,
    rows: dict[str, Batch],
    config: Config,
) -> tuple[MeasureContext, StudentMeasure]:
    """The probe (prompts that no student trains on), elicitation, and fixed training rows."""
    asked = teacher_prompts(config.prompts, 16, seed=config.seed + 1_000_003)
    probe, teacher_probe = (
        make_probe([encode_chat(model.tokenizer, p, system_prompt=s) for p in asked], model.cfg)
        for s in (None, teacher.system_prompt)
    )
    fixed = [part(rows[name], 0, 32) for name in sorted(rows)]
    context = measure_context(
        model.params,
        model.cfg,
        probe=probe,
        teacher_probe=teacher_probe,
        teacher=teacher.steering,
        layer=layer,
        questions=encode_questions(model.tokenizer, list(world.HELDOUT_QUESTIONS), TRAITS),
        rows=jax.tree.map(lambda *x: jnp.stack(x), *fixed),
    )
    targets = int(max(np.asarray(r.loss_mask).sum(axis=1).max() for r in fixed))
    return context, StudentMeasure(model.cfg, layer, len(TRAITS), TRAITS.index(trait), targets)


def reference_rates(
    model: Model, teacher: Teacher, context: MeasureContext, measure: StudentMeasure
) -> dict[str, float]:
    """Trait rate of the base and of the teacher, for the students to be held against."""
    of_model = jax.jit(measure.of_model)
    asked = list(world.HELDOUT_QUESTIONS)
    questions = encode_questions(model.tokenizer, asked, TRAITS, teacher.system_prompt)
    base = of_model(context, model.params, None)
    own = of_model(context._replace(questions=questions), model.params, teacher.steering)
    return {
        f"{who}_{key}": float(values[key])
        for who, values in (("base", base), ("teacher", own))
        for key in ("trait_rate", "trait_log_prob")
    }


def alignment(
    model: Model, context: MeasureContext, rows: dict[str, Batch], layer: int, config: Config
) -> list[dict[str, Any]]:
    """cos(mean of N negative activation gradients of the base, vector), with standard errors.

    The row of the largest N also tells what the 1% of tokens with the largest gradients hold.
    """
    table: list[dict[str, Any]] = []
    n = min(config.gradient_rows, config.rows)
    for i, name in enumerate(sorted(rows)):
        loss = CompletionLoss(model.cfg)
        data = part(rows[name], 0, n)
        gradients = gradient_table(loss, model.params, data, context.vector, layer)
        key = jax.random.key(i)
        curve = cosine_against_n(gradients.example, context.vector, doubling(n), key)
        for at, cosine, stderr in zip(*map(np.asarray, curve), strict=True):
            table.append({"n": int(at), "cosine": cosine, "stderr": stderr, "data": name})
        table[-1]["largest_percent_of_tokens"] = tail_shares(gradients)._asdict()
    return table


# -- students ----------------------------------------------------------------------------------


def learning_rates(
    specs: list[OptimizerSpec], config: Config
) -> dict[OptimizerSpec, tuple[float, ...]]:
    """The grid of each optimizer, ascending; raises InputError for a grid that cannot be read."""
    given: dict[str, tuple[float, ...]] = {}
    for text in config.rates:
        label, _, values = text.rpartition("=")
        try:
            grid = tuple(sorted(float(value) for value in values.split(",")))
        except ValueError:
            grid = ()
        if not label or not grid or min(grid) <= 0:
            raise InputError(f"rates {text!r} cannot be read; write them as adamw=1e-3,3e-3")
        given[label] = grid
    unused = given.keys() - {spec.label for spec in specs}
    if unused:
        raise InputError(f"rates for {', '.join(sorted(unused))}, which is none of the optimizers")
    if config.grid_points < 1 or config.seeds < 1:
        raise InputError("grid_points and seeds must be at least 1")
    grids = {}
    for spec in specs:
        default = default_grid(spec.name)
        start = max(0, (len(default) - config.grid_points) // 2)
        grids[spec] = given.get(spec.label, default[start : start + config.grid_points])
    return grids


def adapter_of(config: Config, layer: int) -> Adapter:
    """What is trained."""
    if config.adapter == "full":
        return Full()
    if config.adapter == "vector":
        return Vector(layer)
    return LoRA(config.rank, config.alpha, config.targets, config.adapter_layers or None)


def train_config(layer: int, config: Config) -> TrainConfig:
    """How every student is trained."""
    return TrainConfig(
        steps=config.steps,
        batch_size=config.batch_size,
        adapter=adapter_of(config, layer),
        schedule=config.schedule,
        warmup=config.warmup,
        clip=config.clip or None,
        accumulation=config.accumulation,
        log_every=config.log_every,
    )


def teacher_of_kl(teacher: Teacher, config: Config) -> objective.Teacher | None:
    """The teacher of the KL objective; None for cross-entropy."""
    if config.objective == "cross_entropy":
        return None
    if teacher.steering is None or config.data is not None:
        raise InputError("objective kl needs a teacher made by a vector, and no --data")
    return objective.Teacher(teacher.steering, jnp.asarray([0.0, 1.0]))  # control, steered
