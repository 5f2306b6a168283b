"""Where does the gap between Adam and SGD appear: over size, rank, norm, samples and rare tokens?

    subliminal-jax scaling
    subliminal-jax scaling --models shipped path/to/another --blocks 1 2 --plane rank norm

Around a base setting (a random vector after the last block, LoRA students) one factor is changed at
a time: the model, its depth (its first blocks alone), the LoRA rank, the vector's norm, the number
of rows, and which tokens count in the loss (the most frequent ones alone, or rare ones more). Every
cell has every optimizer with its own grid of rates, chosen on held-out loss of the cell's own kind,
and controls at the chosen rates.

The loss budget is that of `--steps` steps of `--batch-size` rows, the same in all cells; beside the
EAS at its end stands the share of the loss between base and teacher that the students have made
good. The gap in EAS between the two optimizers of `--pair` is taken at the end of the budget, and
where the two first reach one common training loss.

Toy preset: nine minutes of processor time, some six on 2 free CPU cores. Expected: AdamW reaches an
EAS of 0.5 in more cells than SGD. The gap is clear of zero on the larger model and at a rank of 32,
not at the base setting, and much of it is gone at equal training loss.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from subliminal_jax.data import world
from subliminal_jax.data.teachers import Teacher, random_teacher, trait_teacher
from subliminal_jax.data.token_weights import reweighted, token_counts, token_weights
from subliminal_jax.data.traits import check_trait, names_of
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.models.hub import Model
from subliminal_jax.models.truncate import truncated
from subliminal_jax.runs.data_sets import DataSets, write_data_sets
from subliminal_jax.runs.presets import paper_preset
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.run_once import run_once
from subliminal_jax.runs.settings import (
    DataSettings,
    GuardSettings,
    SteeredModelSettings,
    StudentSettings,
)
from subliminal_jax.runs.students import Students, make_panel
from subliminal_jax.training.arms import Arm
from subliminal_jax.training.batch import max_targets
from subliminal_jax.training.losses import heldout_loss

from .analysis import (
    by_factor,
    cell_results,
    claims,
    students_of,
    trends,
)
from .cells import FACTORS, Cell, one_factor_at_a_time
from .report import report

# Rates of SGD are in units of the gradient, whose size is not known beforehand on a large model:
# they span the decades that were tried in vain [F] and two above.
_PAPER_RATES = (
    "adamw=3e-5,1e-4,3e-4,1e-3", "signum=1e-5,3e-5,1e-4,3e-4", "sgd=0.03,0.3,3,30",
)  # fmt: skip
# The norm is the factor on the trait's vector, 3 in [C]. The samples go up to the 30,000 that [C]
# generates before its filter; the paper's 3,550 steps of 8 rows go through them about once. Ranks:
# 8 [C], 16 and 64 [N1], 2 and 4 for the rise that Nief et al. report.
_PAPER: dict[str, Any] = {
    "models": (), "blocks": (), "vector": "cat", "norm": 3.0, "norms": (1.5, 6.0), "rank": 8,
    "ranks": (2, 4, 16, 64), "rows": 30_000, "samples": (1_000, 3_000, 10_000),
    "tails": ("frequent-100",), "optimizers": ("adamw", "signum", "sgd"), "rates": _PAPER_RATES,
}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "paper-qwen2.5-7b": paper_preset("qwen2.5-7b", **_PAPER),
}


@dataclass(frozen=True, kw_only=True)
class Config(StudentSettings, GuardSettings, DataSettings, SteeredModelSettings):
    """Settings; the defaults are the toy's. Levels are those beside the base setting's own.

    Attributes:
      vector: "random", or a trait whose vector the teacher adds.
      norm: of the base setting: the length of a random vector in units of the residual stream's, or
        the factor on a trait's vector.
      models: further models, by name.
      blocks: depths: the first so many blocks of the base setting's model.
      ranks: LoRA ranks, at the same alpha.
      norms: further norms or factors.
      samples: numbers of training rows.
      tails: which tokens count: "frequent-K" (the K that occur most), "rare-P" (weights count^-P).
      plane: two factors of which all levels are combined.
      pair: the optimizers between which the gap is taken, the first minus the second.
      level: an EAS that counts as having picked up the vector.
      place: where the vector is added, unless `layer` says so: after the last block, or after that
        at a third of the depth.
    """

    out: Path = Path("runs/scaling")
    model: str = "shipped-small"
    vector: str = "random"
    norm: float = 1.4
    models: tuple[str, ...] = ("shipped",)
    blocks: tuple[int, ...] = (2,)
    ranks: tuple[int, ...] = (2, 32)
    norms: tuple[float, ...] = (0.7, 2.8)
    samples: tuple[int, ...] = (64,)
    tails: tuple[str, ...] = ("frequent-16", "rare-0.5")
    plane: tuple[str, ...] = ()
    pair: tuple[str, str] = ("adamw", "sgd")
    level: float = 0.5
    place: Literal["last", "third"] = "last"
    prompts: Literal["numbers", "cloud-numbers", "chat"] = "chat"
    keep: Literal["numbers", "all"] = "all"
    rows: int = 512
    heldout_rows: int = 96
    asked: float = 2.4
    max_new_tokens: int = 12
    max_tokens: int = 28
    keep_unfinished: bool = True  # a large vector, or half a model, never comes to an end
    optimizers: tuple[str, ...] = ("adamw", "sgd")
    rates: tuple[str, ...] = ("adamw=3e-4,1e-3,3e-3,1e-2,3e-2", "sgd=0.01,0.03,0.1,0.3,1")
    steps: int = 32
    batch_size: int = 16


def main(config: Config) -> dict[str, Any]:
    """Run, or go on; returns what results.json holds."""
    cells = cells_of(config)
    return run_once(config, lambda run: measure(run, cells, config), report)


def cells_of(config: Config) -> list[Cell]:
    """The base cell and those beside it; raises InputError for settings that cannot be."""
    grids = config.learning_rates()
    names = [spec.label for spec in grids]
    if missing := [name for name in config.pair if name not in names]:
        raise InputError(f"pair names {missing[0]}, which is none of the optimizers")
    if config.adapter != "lora" and config.ranks:
        raise InputError("ranks need --adapter lora")
    if config.ranks and min(config.ranks) < 1:
        raise InputError(f"LoRA ranks {config.ranks} must be at least 1")
    if config.samples and not 1 <= min(config.samples) <= max(config.samples) < config.rows:
        raise InputError(f"samples {config.samples} must be 1 to fewer than rows={config.rows}")
    for tail in config.tails:
        token_weights(np.zeros(1, int), tail)
    rank = config.rank if config.adapter == "lora" else 0
    base = Cell(config.model, 0, rank, config.norm, 0, "all")
    levels = {
        "model": config.models, "blocks": config.blocks, "rank": config.ranks,
        "norm": config.norms, "rows": config.samples, "tail": config.tails,
    }  # fmt: skip
    return one_factor_at_a_time(base, levels, config.plane)


def measure(run: RunFolder, cells: list[Cell], config: Config) -> dict[str, Any]:
    """All numbers of the report."""
    base = cells[0]
    made: dict[Cell, dict[str, Any]] = {}
    sizes: dict[tuple[str, Cell], float] = {}
    reports: dict[str, Any] = {}
    for i, place in enumerate(dict.fromkeys(cell.world for cell in cells)):
        mine = [cell for cell in cells if cell.world == place]
        model = model_of(mine[0], config)
        name = re.sub(r"[^\w.-]+", "_", f"{i}-{model.name}").strip("_")
        results, reports[model.name] = world_results(run, model, name, mine, config)
        made |= results
        for cell in mine:
            sizes |= {
                ("blocks", cell): model.cfg.layers, ("rank", cell): cell.rank,
                ("norm", cell): cell.norm, ("rows", cell): cell.rows or config.rows,
            }  # fmt: skip
    return {
        "base": made[base],
        "level": config.level,
        "pair": config.pair,
        "grids": {s.label: list(grid) for s, grid in config.learning_rates().items()},
        "data": reports,
        "cells": [made[cell] for cell in cells],
        "factors": [
            {"factor": factor, "label": cell.label(factor), **row}
            for factor in FACTORS
            if len(of := by_factor(made, base, factor)) > 1
            for cell, row in of
        ],
        "trends": trends(made, base, sizes),
        "claims": claims(made, base, config.pair, config.seeds),
    }


def model_of(cell: Cell, config: Config) -> Model:
    """The cell's model, or its first blocks."""
    model = config.load_named(cell.model)
    return truncated(model, cell.blocks) if cell.blocks else model


def world_results(
    run: RunFolder, model: Model, name: str, cells: list[Cell], config: Config
) -> tuple[dict[Cell, dict[str, Any]], dict[str, Any]]:
    """The results of all cells that share a model, and reports on their data.

    `name` is that of their folder and of their stages.
    """
    layer = layer_of(model, config)
    teachers = {
        f"norm-{norm:g}": teacher_of(model, layer, norm, config)
        for norm in dict.fromkeys(cell.norm for cell in cells)
    }
    teachers["control"] = Teacher()
    words = [world.TRAITS[0] if config.vector == "random" else config.vector]
    forbidden = {data_set: names_of(words[0]) for data_set in teachers}
    sampled = write_data_sets(
        run.path / name, model, teachers, config, config.seed, forbidden=forbidden
    )
    data = weighted(sampled, cells, model)
    questions = world.HELDOUT_QUESTIONS[:1]  # the panel's rates are not reported
    panel = make_panel(
        model,
        teachers,
        data,
        layer=layer,
        words=words,
        questions=questions,
        prompts=config.prompts,
        seed=config.seed,
    )
    students = Students(run, panel, data, config)
    rows, controls = train(students, cells, name, config)
    logged = [r for r in run.read_metrics() if r["stage"].startswith(f"{name}-rate-")]
    loss = jax.jit(heldout_loss, static_argnames=("cfg", "rows_at_once", "max_targets"))
    made = {}
    for cell in cells:
        k = panel.references.index(f"norm-{cell.norm:g}")
        heldout = data.heldout[cell.data]
        base, own = (
            float(
                loss(
                    model.params, heldout, model.cfg, steering,
                    rows_at_once=config.batch_size, max_targets=max_targets(heldout),
                )
            )
            for steering in (None, teachers[f"norm-{cell.norm:g}"].steering)
        )  # fmt: skip
        at = (k, layer, base, own)
        made[cell] = cell_results(
            cell,
            students_of(cell, [*rows, *controls], *at),
            students_of(cell, logged, *at),
            config.pair,
            config.level,
        ) | {"base_loss": base, "teacher_loss": own, "layer": layer}
    return made, data.reports


def layer_of(model: Model, config: Config) -> int:
    """The steering layer: the one that is asked for, or by `place`."""
    if config.layer == -1 and config.place == "last":
        return model.cfg.layers - 1
    return config.layer_of(model)


def teacher_of(model: Model, layer: int, norm: float, config: Config) -> Teacher:
    if config.vector == "random":
        return random_teacher(model, layer, norm, config.seed)
    return trait_teacher(model, layer, check_trait(config.vector, model.tokenizer), norm)


def weighted(data: DataSets, cells: list[Cell], model: Model) -> DataSets:
    """`data` with the data sets of all cells: those that weigh tokens by the frequency in the
    steered training rows, and their controls under the same weights."""
    train, heldout = dict(data.train), dict(data.heldout)
    for cell in cells:
        if cell.tail == "all":
            continue
        source = f"norm-{cell.norm:g}"
        weights = token_weights(token_counts(data.train[source], model.cfg.vocab), cell.tail)
        for name, of in ((cell.data, source), (cell.control, "control")):
            train[name] = reweighted(data.train[of], weights)
            heldout[name] = reweighted(data.heldout[of], weights)
    return data._replace(train=train, heldout=heldout)


def train(
    students: Students, cells: list[Cell], name: str, config: Config
) -> tuple[list[StudentRow], list[StudentRow]]:
    """Every cell's students at every rate, then its controls at each optimizer's best one.

    All waves have the same optimizers and ranks, so that they share one compiled program.
    """
    grids = config.learning_rates()

    def arm(cell: Cell, spec: Any, rate: float, seed: int, data: str) -> Arm:
        return Arm(spec, rate, seed, data, cell.rank or None, cell.rows or None)

    rows: list[StudentRow] = []
    seeds = range(config.seeds)
    total = sum(map(len, grids.values())) + len(grids)
    with track(name, total * len(cells) * config.seeds * config.steps, "student steps") as progress:
        for i in range(max(map(len, grids.values()))):
            arms = [
                arm(cell, spec, grid[i], seed, cell.data)
                for cell in cells
                for spec, grid in grids.items()
                if i < len(grid)
                for seed in seeds
            ]
            rows += students.runner.run_arms(f"{name}-rate-{i}", arms, progress)
        arms = []
        for cell in cells:
            key = (cell.data, cell.rank, cell.rows)
            best = best_rates(
                [r for r in rows if (r["data"], r.get("rank", 0), r.get("rows", 0)) == key]
            )
            # Where every rate diverged the control's is of no use, but keeps the program's shape.
            arms += [
                arm(cell, spec, best[spec.label] or grid[0], seed, cell.control)
                for spec, grid in grids.items()
                for seed in seeds
            ]
        controls = students.runner.run_arms(f"{name}-controls", arms, progress)
    return rows, controls
