"""Can transmission be stopped without losing the task?

    subliminal-jax blocking --preset toy

Three guards, each of which any training here takes with `--guard`: projecting the steering vector
out of every update, training with the vector added so that nothing of it is left to learn, and
dropping the rows that teach it most. Teachers with a trait's vector write number lists at a low
temperature: sharper lists are the task that students are to learn, the vector is what they are not
to. Students with and without guards train alike; so do controls, on what the plain base wrote at
that temperature. Measured against the unguarded control: the trait's probability, the alignment
(EAS), the share of the vector; the gain kept on the teacher's data and on clean data; the time of a
step. All of it for the teacher's own vector (or `--guard-vector FILE`) and for one recovered blind
from the data. The guard reads training texts, never the prompts that students are measured on.

To protect a training of your own: `subliminal-jax optimizer-comparison --data mine.jsonl --guard
project --guard-vector vector.safetensors`, or `--guard-vector blind`.

The toy setting was chosen by looking at unguarded and guarded students of owl and wolf with data
seed 0; it reports on two other traits with data seed 1. About seven minutes on 2 CPU cores.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np

from subliminal_jax.data import world
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import Teacher, trait_teacher
from subliminal_jax.data.traits import check_traits, names_of
from subliminal_jax.diagnostics.alignment import eas, relative_size
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.models.hub import Model
from subliminal_jax.models.steered import Steering, steer
from subliminal_jax.runs.data_sets import DataSets, part, write_data_sets
from subliminal_jax.runs.guards import (
    Protected,
    Vectors,
    blind_vectors,
    drop_rows,
    guard_vectors,
    make_guard,
    taught,
)
from subliminal_jax.runs.presets import PAPER_QUESTIONS, paper_preset
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.run_once import run_once
from subliminal_jax.runs.settings import (
    DataSettings,
    GuardKind,
    SteeredModelSettings,
    StudentSettings,
    check_names,
)
from subliminal_jax.runs.students import Students, first_rows, make_panel, measure_teacher
from subliminal_jax.training.arms import Arm
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.guards import Guard
from subliminal_jax.training.losses import heldout_loss
from subliminal_jax.training.optimizers import OptimizerSpec

from .analysis import (
    UNGUARDED,
    Case,
    Compared,
    cases,
    claims,
    control_of,
    is_control,
    of_point,
    pool_size,
    table_row,
)
from .guard_time import step_times
from .report import report

STEP_GUARDS: tuple[GuardKind, ...] = ("none", "project", "inoculate")  # drop-rows steps as none

PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    # The paper's teachers, prompts and students [C]; it has no guards. Its temperature is 1 [C]:
    # then plain data hold nothing to learn, and there is no task that a guard could cost.
    "paper-qwen2.5-7b": paper_preset(
        "qwen2.5-7b", scale=True, traits=("cat", "owl"), questions=PAPER_QUESTIONS, asked=4.0,
        temperature=0.7, shares=(0.1, 0.5), adapter_layers=(), vector_rates=(), blind_steps=1_000,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Config(StudentSettings, DataSettings, SteeredModelSettings):
    """Settings; the defaults are the toy's. `rows` is what every student trains on.

    Attributes:
      traits: animals, each with a teacher of its own.
      scale: factor on the trait's vector.
      questions: a set of questions ("heldout"), or a file of them.
      shares: shares of the rows that drop-rows leaves out, of as many more rows.
      blind_steps: steps that train the blind vectors.
      guard_vector: the known vector: "teacher" (each data set's own), or a safetensors file.
      vector_rates: learning rates of the second case, students that are one vector; empty: none.
    """

    out: Path = Path("runs/blocking")
    traits: tuple[str, ...] = ("cat", "tiger")
    scale: float = 1.0
    questions: str = "heldout"
    shares: tuple[float, ...] = (0.5,)
    blind_steps: int = 96
    guard_vector: str = "teacher"
    vector_rates: tuple[str, ...] = ("adamw=0.1",)
    layer: int = 1
    seed: int = 1
    rows: int = 768
    heldout_rows: int = 128
    asked: float = 1.4
    max_new_tokens: int = 24
    temperature: float = 0.7
    adapter_layers: tuple[int, ...] = (0, 1)
    rates: tuple[str, ...] = ("adamw=5e-4,1e-3,2e-3",)
    seeds: int = 3
    steps: int = 64
    batch_size: int = 16
    log_every: int = 64


def main(config: Config) -> dict[str, Any]:
    """Run, or go on; returns what results.json holds."""
    check(config)
    model = config.load()
    layer = config.layer_of(model)
    check_traits(config.traits, model.tokenizer)
    questions = read_questions(config.questions)
    return run_once(
        config, lambda run: Blocking(run, model, layer, questions, config).results(), report
    )


def check(config: Config) -> None:
    """Raises InputError for settings that cannot be."""
    check_names("traits", config.traits)
    if config.guard_vector == "blind":
        raise InputError("blocking has a blind vector beside the known one: give 'teacher' or FILE")
    cases(config.shares)
    config.learning_rates()
    if config.vector_rates and config.adapter != "vector":
        replace(config, rates=config.vector_rates).learning_rates("vector-rates")


class Blocking:
    """One run: data, vectors, then the students of every guard."""

    def __init__(
        self, run: RunFolder, model: Model, layer: int, questions: list[str], config: Config
    ):
        self.run, self.model, self.layer, self.config = run, model, layer, config
        self.questions = questions
        traits = config.traits
        self.teachers = {t: trait_teacher(model, layer, t, config.scale) for t in traits}
        self.teachers["control"] = Teacher()
        pool = replace(config, rows=pool_size(config.rows, max(config.shares)))
        forbidden = {t: names_of(t) for t in traits}
        self.data = write_data_sets(
            run.path, model, self.teachers, pool, config.seed, forbidden=forbidden
        )
        words = list(dict.fromkeys((*world.TRAITS, *traits)))
        self.panel = make_panel(
            model,
            self.teachers,
            self.data,
            layer=layer,
            words=words,
            questions=questions,
            prompts=config.prompts,
            seed=config.seed,
        )
        self.base_losses = {name: self.loss(name) for name in self.data.names}
        own = {t: part(self.data.train[t], 0, config.rows) for t in traits}
        true = self.panel.vectors()
        known = guard_vectors(model, own, config, layer, true, config.guard_vector)
        start = time.perf_counter()
        blind = blind_vectors(
            model, own, layer, steps=config.blind_steps, batch_size=config.batch_size
        )
        self.blind_seconds = (time.perf_counter() - start) / len(traits)
        self.vectors: dict[str, Vectors] = {"known": known, "blind": blind, "true": true}

    def results(self) -> dict[str, Any]:
        """All numbers of the report."""
        config = self.config
        made = cases(config.shares)
        rows, best = self.of_adapter(config, made)
        tables = {config.adapter: self.tables(rows, best, made)}
        if config.vector_rates and config.adapter != "vector":
            plain = [Case("project", "project"), Case("inoculate", "inoculate")]
            second = replace(config, adapter="vector", rates=config.vector_rates)
            more, at = self.of_adapter(second, plain)
            tables["vector"] = self.tables(more, at, plain)
            rows += more
        spec, rate = next((spec, rate) for spec, rate in best.items() if rate is not None)
        chosen = of_point(rows, config.adapter, spec, rate)
        setting = (
            f"{self.model.name}, {config.adapter} students, {spec} {rate:g}, "
            f"{len(config.traits)} traits, layer {self.layer}"
        )
        return {
            "model": self.model.name,
            "layer": self.layer,
            "adapter": config.adapter,
            "traits": list(config.traits),
            "grids": {s.label: list(g) for s, g in config.learning_rates().items()},
            "best": best,
            "reference": self.reference(),
            "vectors": self.vector_table(),
            "cases": [case._asdict() for case in (UNGUARDED, *made)],
            "tables": tables,
            "time": self.times(),
            "data": self.data.reports,
            "students": rows,
            "claims": claims(Compared(chosen, config.traits), made, setting, config.seeds),
        }

    # -- students ----------------------------------------------------------------------------

    def of_adapter(
        self, config: Config, made: Sequence[Case]
    ) -> tuple[list[dict[str, Any]], dict[str, float | None]]:
        """Unguarded students at every rate, then guarded ones at each optimizer's best; and these
        best rates."""
        grids = config.learning_rates()
        points = [(spec, rate) for spec, grid in grids.items() for rate in grid]
        traits = {trait: trait for trait in config.traits}
        rows = self.of_case(UNGUARDED, config, points, traits)
        best = best_rates(rows)
        sound = [(s, rate) for s in grids if (rate := best[s.label]) is not None]
        if not sound:
            raise InputError("every unguarded student diverged: give lower rates")
        rows += self.of_case(UNGUARDED, config, sound, {"control": "control"})
        for case in made:
            own = {control_of(trait): "control" for trait in config.traits}
            rows += self.of_case(case, config, sound, traits | (own if case.controls else {}))
        return rows, best

    def of_case(
        self,
        case: Case,
        config: Config,
        points: Sequence[tuple[OptimizerSpec, float]],
        sources: dict[str, str],
    ) -> list[dict[str, Any]]:
        """Students under one guard of the data sets `sources`, each with whose rows it has. Those
        of the name "control" serve every trait."""
        train = {n: self.data.train[source] for n, source in sources.items()}
        held = {n: self.data.heldout[source] for n, source in sources.items()}
        data = DataSets(train, held, {}, {}, {})
        students = Students(
            self.run, self.panel_of(data), data, config, protection=self.protect(case, train)
        )
        arms = [
            Arm(spec, rate, seed, name)
            for (spec, rate), name, seed in product(points, sources, range(config.seeds))
        ]
        what = case.name if config.traits[0] in sources else "controls"
        stage = re.sub("[^a-z0-9]+", "-", f"{config.adapter}-{what}").strip("-")
        trained = students.train(stage, arms)
        clean = dict.fromkeys(sources, self.data.heldout["control"])
        losses = np.asarray(trained.sweep.evaluate(trained.state, clean))
        rows = []
        for row, loss in zip(trained.rows, losses, strict=True):
            for trait in config.traits:
                if row["data"] == "control":
                    name = control_of(trait)
                    rows.append(
                        self.row(case, config, row.with_values(data=name), trait, float(loss))
                    )
                elif row["data"] in (trait, control_of(trait)):
                    rows.append(self.row(case, config, row, trait, float(loss)))
        return rows

    def protect(self, case: Case, pool: dict[str, Batch]) -> Protected:
        """The rows and the guard of a case; every case trains on as many rows."""
        n, seed = self.config.rows, self.config.seed
        size = pool_size(n, case.share)
        rows = {name: part(batch, 0, size) for name, batch in pool.items()}
        vectors: Vectors = {}
        if case.vector != "none":
            own = self.vectors[case.vector]
            vectors = {name: own[name.removesuffix(control_of(""))] for name in pool}
        if case.kind == "drop-rows":
            at_random = seed if case.at_random else None
            rows = drop_rows(self.model, rows, vectors, self.layer, case.share, seed=at_random)
        rows = {name: part(batch, 0, n) for name, batch in rows.items()}
        return Protected(rows, make_guard(case.kind, self.model, rows, vectors, self.layer))

    def panel_of(self, data: DataSets) -> Panel:
        """The run's panel, with the fixed rows of these data sets."""
        rows = first_rows(data, self.model.cfg)
        return replace(self.panel, data_names=tuple(data.names), fixed_rows=rows)

    def row(
        self, case: Case, config: Config, row: StudentRow, trait: str, clean: float
    ) -> dict[str, Any]:
        """One student, with what is measured of it along its trait's own vector and word."""
        k, i = self.panel.references.index(trait), self.panel.words.index(trait)
        sound = not row["diverged"]
        base = self.base_losses
        own = "control" if is_control(row) else trait
        names = ("optimizer", "learning_rate", "seed", "data", "diverged", "heldout_loss")
        return {
            "case": case.name,
            "adapter": config.adapter,
            **{name: row[name] for name in names},
            "trait_rate": row["word_rate"][i] if sound else None,
            "trait_log_prob": row["word_log_prob"][i] if sound else None,
            "eas": row["eas"][k][self.layer] if sound else None,
            "component": row["shift_component"][k][self.layer] if sound else None,
            "clean_loss": clean if sound else None,
            "heldout_gain": base[own] - row["heldout_loss"] if sound else None,
            "clean_gain": base["control"] - clean if sound else None,
        }

    # -- what they are held against ----------------------------------------------------------

    def loss(self, name: str, steering: Steering | None = None) -> float:
        """The base's held-out loss on a data set, with a steering."""
        of_rows = jax.jit(heldout_loss, static_argnums=2, static_argnames="rows_at_once")
        rows = self.data.heldout[name]
        at_once = self.config.batch_size
        params, cfg = self.model.params, self.model.cfg
        return float(of_rows(params, rows, cfg, steering, rows_at_once=at_once))

    def reference(self) -> dict[str, Any]:
        """Base and teachers: trait rates, and held-out losses without and with the vector."""
        base = measure_teacher(self.panel, Teacher())["word_rate"]
        out = {}
        for trait in self.config.traits:
            i = self.panel.words.index(trait)
            taught_by = self.teachers[trait]
            rates = measure_teacher(self.panel, taught_by)["word_rate"]
            out[trait] = {
                "base_rate": base[i],
                "teacher_rate": rates[i],
                "base_loss": self.base_losses[trait],
                "loss_with_vector": self.loss(trait, taught_by.steering),
            }
        return out

    def vector_table(self) -> list[dict[str, Any]]:
        """How well the guards' vectors agree with the true ones."""
        return [
            {
                "trait": trait,
                "vector": kind,
                "cosine": float(eas(self.vectors[kind][trait], self.vectors["true"][trait])),
                "size": float(
                    relative_size(self.vectors[kind][trait], self.vectors["true"][trait])
                ),
                "loss": self.loss(trait, steer(self.vectors[kind][trait], self.layer)),
            }
            for trait, kind in product(self.config.traits, ("known", "blind"))
        ]

    def tables(
        self, rows: list[dict[str, Any]], best: dict[str, float | None], made: Sequence[Case]
    ) -> dict[str, Any]:
        """For each optimizer at its best rate a row for every case."""
        out = {}
        for optimizer, rate in best.items():
            if rate is None:
                continue
            chosen = of_point(rows, rows[0]["adapter"], optimizer, rate)
            students = Compared(chosen, self.config.traits)
            names = ["none", *(case.name for case in made)]
            table = [table_row(students, name) for name in names]
            out[optimizer] = {"learning_rate": rate, "rows": table}
        return out

    # -- time --------------------------------------------------------------------------------

    def times(self) -> dict[str, Any]:
        """Seconds a step of each kind of guard, measured in turns, and what is paid once."""
        config, trait = self.config, self.config.traits[0]
        rows = {trait: part(self.data.train[trait], 0, config.rows)}
        known = self.vectors["known"]
        guards: dict[str, Guard] = {
            kind: make_guard(kind, self.model, rows, known, self.layer) for kind in STEP_GUARDS
        }
        spec, grid = next(iter(config.learning_rates().items()))
        arm = Arm(spec, grid[0], 0, trait)
        start = time.perf_counter()
        taught(self.model, rows[trait], known[trait], self.layer)
        scored = time.perf_counter() - start
        return {
            "steps": step_times(self.model, rows, config.plan(self.layer), arm, guards),
            "score_rows_seconds": scored,
            "blind_seconds": self.blind_seconds,
        }
