"""Where does the gap between Adam and SGD appear: over size, rank, norm, samples and rare tokens?

    subliminal-jax scaling
    subliminal-jax scaling --models shipped path/to/another --depths 1 2 --plane rank norm

Around a base setting (random vectors after the last block, LoRA students) one factor is changed at
a time: the model, its depth (its first blocks alone), the LoRA rank, the vectors' norm, the number
of rows, and which tokens count in the loss (those most frequent in the plain model's answers alone,
or rare ones more). In every cell each of eight vectors has data of its own draw and of every
optimizer a student of its own seed; controls train on four draws of the plain model's answers and
are held against every vector. Intervals are over vectors. Every cell and optimizer has a rate of
its own, found by held-out loss on two further vectors with data and seeds of their own.

The loss budget is that of `--steps` steps of `--batch-size` rows, the same in all cells; beside the
EAS at its end stands the share of the loss between base and teacher that the students have made
good. The gap in EAS between the two optimizers of `--pair` is taken at the end of the budget, and
where the two students of a vector first reach one common training loss, if their logged rows
bracket it.

Toy preset: some 13,000 student-steps and 60 data sets, about 14 minutes on 2 free CPU cores.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np

from subliminal_jax.bounds import (
    MANY,
    Count,
    Items,
    Needs,
    Positive,
    Range,
    Text,
    as_flag,
    check_distinct,
)
from subliminal_jax.data import world
from subliminal_jax.data.teachers import Teacher, random_teacher, trait_teacher
from subliminal_jax.data.token_weights import reweighted, token_counts, token_weights
from subliminal_jax.data.traits import trait_names
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.measures import named_measures
from subliminal_jax.models.hub import Model
from subliminal_jax.models.truncate import truncate_model
from subliminal_jax.runs.checks import TRAIT, check_names
from subliminal_jax.runs.data_sets import DataSets, write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.plan_settings import AdapterKind
from subliminal_jax.runs.presets import PAPER_KINDS, paper_preset
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.sampled_sets import name_seed
from subliminal_jax.runs.settings import DataSettings, SteeredModelSettings
from subliminal_jax.runs.student_kinds import ControlSettings, StudentKindSettings
from subliminal_jax.runs.students import STANDARD, make_panel
from subliminal_jax.runs.waves import StudentTask, WaveRunner
from subliminal_jax.training.adapters import LARGEST_RANK
from subliminal_jax.training.arms import Arm, Room
from subliminal_jax.training.batch import max_targets
from subliminal_jax.training.losses import heldout_loss

from .analysis import CellStudents, Measured, Results, analyse
from .cells import FACTORS, Cell, change_one_factor
from .claims import make_claims
from .report import make_page
from .students import CellTrainer, VectorLosses, narrow_students, read_histories

# Rates of SGD are in units of the gradient, whose size is not known beforehand on a large model:
# they span the decades that were tried in vain [F] and two above.
PAPER_RATES = (
    "adamw=3e-5,1e-4,3e-4,1e-3",
    "signum=1e-5,3e-5,1e-4,3e-4",
    "sgd=0.03,0.3,3,30",
)
# The norm is the factor on the trait's vector, 3 in [C]. The samples go up to the 30,000 that [C]
# generates before its filter; the paper's 3,550 steps of 8 rows go through them about once. Ranks:
# 8 [C], 16 and 64 [N1], 2 and 4 for the rise that Nief et al. report.
PAPER: dict[str, Any] = {
    "students": PAPER_KINDS,
    "models": (),
    "depths": (),
    "traits": ("cat",),
    "tuning_traits": ("lion",),
    "norm": 3.0,
    "norms": (1.5, 6.0),
    "rank": 8,
    "ranks": (2, 4, 16, 64),
    "rows": 30_000,
    "sizes": (1_000, 3_000, 10_000),
    "tails": ("frequent-100",),
    "optimizers": ("adamw", "signum", "sgd"),
    "rates": PAPER_RATES,
}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "paper-qwen2.5-7b": paper_preset("qwen2.5-7b", **PAPER),
}


@dataclass(frozen=True, kw_only=True)
class Config(StudentKindSettings, ControlSettings, DataSettings, SteeredModelSettings):
    """Settings; the defaults are the toy's. Levels are those beside the base setting's own.

    Attributes:
      vectors: random vectors that are reported.
      tuning_vectors: random vectors that rates are chosen on.
      traits: animals whose vectors teachers add, in place of random ones.
      norm: of the base setting: the length of a random vector in units of the residual stream's, or
        the factor on a trait's vector.
      models: further models, by name.
      depths: numbers of blocks: the first ones of the base setting's model.
      ranks: LoRA ranks, at the same alpha.
      norms: further norms or factors.
      sizes: numbers of training rows.
      tails: which tokens count: "frequent-K" (the K that occur most), "rare-P" (weights count^-P).
      plane: two factors of which all levels are combined.
      pair: the optimizers between which the gap is taken, the first minus the second.
      level: an EAS that counts as having picked up the vector.
      place: where the vector is added, unless `layer` says so: after the last block, or after that
        at a third of the depth.
    """

    out: Path = Path("runs/scaling")
    model: str = "shipped-small"
    vectors: Annotated[Count, Needs("traits", unless=True)] = 8
    tuning_vectors: Annotated[Count, Needs("traits", unless=True)] = 2
    traits: Annotated[tuple[str, ...], TRAIT] = ()
    tuning_traits: Annotated[tuple[str, ...], Items(1), TRAIT, Needs("traits")] = ("owl", "lion")
    adapters: tuple[AdapterKind, ...] = ("lora",)
    norm: Positive = 1.4
    models: tuple[str, ...] = ("shipped",)
    depths: Annotated[tuple[int, ...], Range(1, 10_000)] = (2,)
    ranks: Annotated[tuple[int, ...], Range(1, LARGEST_RANK)] = (2, 32)
    norms: Annotated[tuple[float, ...], Range(above=0, most=1e6)] = (0.7, 2.8)
    sizes: Annotated[tuple[int, ...], Range(1, MANY)] = (64,)
    tails: tuple[str, ...] = ("frequent-16", "rare-0.5")
    plane: Annotated[tuple[str, ...], Text(choices=FACTORS)] = ()
    pair: tuple[str, str] = ("adamw", "sgd")
    level: Annotated[float, Range(-1, 1)] = 0.5
    place: Annotated[Literal["last", "third"], Needs("layer", (-1,))] = "last"
    prompts: Literal["numbers", "cloud-numbers", "chat"] = "chat"
    keep: Literal["numbers", "all"] = "all"
    rows: int = 512
    heldout_rows: int = 96
    asked: float = 2.4
    max_new_tokens: int = 12
    max_tokens: int = 28
    keep_unfinished: bool = True  # a large vector, or half a model, never comes to an end
    optimizers: tuple[str, ...] = ("adamw", "sgd")
    steps: int = 32
    batch_size: int = 16
    log_every: int = 4  # the rows between which equal losses are read

    def check(self) -> None:
        check_names("pair", self.pair, self.labels(), minimum=2)
        self.check_orders(len(self.reported), f"{len(self.reported)} vectors")
        if len(self.adapters) > 1:
            raise InputError(
                f"{as_flag('adapters', self.adapters)}: name one of them; one kind of student is "
                "trained here"
            )
        # Cells and claims are called by the last part of a model's name.
        models = dict.fromkeys((self.model, *self.models))
        check_names("models", [Path(model).name for model in models])
        if self.adapters != ("lora",) and self.ranks:
            raise InputError("--ranks need --adapters lora")
        if self.sizes and max(self.sizes) >= self.rows:
            raise InputError(
                f"{as_flag('sizes', self.sizes)}: give fewer rows than --rows {self.rows}"
            )
        check_distinct("norms", (self.norm, *self.norms), as_flag)
        for tail in self.tails:
            token_weights(np.zeros(1, int), tail)
        self.cells()

    def check_with_model(self, model: Model) -> None:
        self.check_adapter(self.adapters[0], model, len(self.reported))

    def check_models(self) -> None:
        cells = self.cells()
        for name, depth in dict.fromkeys(cell.network for cell in cells):
            model = self.outline_named(name)
            if depth and depth >= model.cfg.layers:
                raise InputError(
                    f"{as_flag('depths', self.depths)}: {name} has {model.cfg.layers} blocks; give "
                    f"1 to {model.cfg.layers - 1}"
                )
            network_model = truncate_model(model, depth) if depth else model
            for cell in cells:
                if cell.network == (name, depth):
                    replace(self, rank=cell.rank or self.rank).check_model(network_model)

    def cells(self) -> list[Cell]:
        """The base cell and those beside it, with models as they are to be loaded."""
        rank = self.rank if self.adapters == ("lora",) else 0
        base = Cell(self.model, 0, rank, self.norm, 0, "all")
        levels = {
            "model": self.models,
            "depth": self.depths,
            "rank": self.ranks,
            "norm": self.norms,
            "rows": self.sizes,
            "tail": self.tails,
        }
        return change_one_factor(base, levels, self.plane)

    def steering_layer(self, model: Model) -> int:
        """The layer that is asked for, or by `place`."""
        if self.layer == -1 and self.place == "last":
            return model.cfg.layers - 1
        return self.choose_layer(model)

    @property
    def reported(self) -> tuple[str, ...]:
        """The names of the vectors that are reported."""
        return self.traits or tuple(f"random-{i}" for i in range(self.vectors))

    @property
    def tuned(self) -> tuple[str, ...]:
        """The names of the vectors that rates are chosen on; none where all rates are given."""
        if self.traits:
            return self.searched_traits
        count = self.tuning_vectors if self.searches else 0
        return tuple(f"random-{self.vectors + i}" for i in range(count))

    def make_teacher(self, model: Model, layer: int, norm: float, vector: str) -> Teacher:
        """The plain model with a vector added."""
        if self.traits:
            return trait_teacher(model, layer, vector, norm)
        return random_teacher(model, layer, norm, name_seed(self.seed, vector))


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample and train the cells of one network after another.

    Raises InputError for a trait without a word, a depth that a model does not have, or too few
    answers that pass the filter.
    """
    cells = config.cells()
    measured: dict[Cell, CellStudents] = {}
    reports: dict[str, Any] = {}
    for i, network in enumerate(dict.fromkeys(cell.network for cell in cells)):
        name, depth = network
        model = config.load_named(name)
        network_model = truncate_model(model, depth) if depth else model
        stage = re.sub(r"[^\w.-]+", "_", f"{i}-{network_model.name}").strip("_")
        network_cells = [cell for cell in cells if cell.network == network]
        students, reports[network_model.name] = measure_network(
            folder, network_model, stage, network_cells, config
        )
        for cell, row in zip(network_cells, students, strict=True):
            measured[cell] = replace(row, cell=replace(cell, model=model.name))
    return Measured(
        preset=config.preset,
        traits=config.traits,
        vectors=config.reported,
        tuning_vectors=config.tuned,
        controls=config.list_controls(),
        optimizers=config.labels(),
        pair=config.pair,
        carrier=f"{'filtered' if config.keep == 'numbers' else 'unfiltered'} {config.prompts}",
        level=config.level,
        rows=config.rows,
        steps=config.steps,
        batch_size=config.batch_size,
        schedule=config.schedule,
        warmup=config.warmup,
        clipped=config.clip > 0,
        data=reports,
        students=tuple(measured[cell] for cell in cells),
    )


def measure_network(
    folder: RunFolder, model: Model, stage: str, cells: list[Cell], config: Config
) -> tuple[list[CellStudents], dict[str, Any]]:
    """What was measured in the cells that share a network, and reports on their data.

    `stage` names the folder of the data, and begins the names of the stages of training.
    """
    layer = config.steering_layer(model)
    teachers = {
        cell.name_taught(vector): config.make_teacher(model, layer, cell.norm, vector)
        for cell in cells
        for vector in (*config.reported, *config.tuned)
    }
    names = {
        cell.name_taught(trait): trait_names(trait)
        for cell in cells
        for trait in (config.traits and (*config.reported, *config.tuned))
    }
    teachers |= dict.fromkeys(config.list_controls(), Teacher())
    sampled = write_data_sets(
        folder.path / stage,
        model,
        teachers,
        config,
        config.seed,
        forbidden=names,
        own_prompts=True,
    )
    data = weigh_tokens(sampled, cells, model, config)
    panel = make_panel(
        model,
        teachers,
        data,
        config,
        layer=layer,
        words=[*config.traits] or [world.TRAITS[0]],
        questions=world.HELDOUT_QUESTIONS[:1],  # the panel's rates are not reported
    )
    plan = config.plan_kind(config.adapters[0], layer)
    task = StudentTask(data.train, data.heldout)
    measures = named_measures((*STANDARD, *config.measures), panel)

    def make_runner(arms: Sequence[Arm]) -> WaveRunner:
        return WaveRunner(folder, model, plan, task, measures, Room(tuple(arms)))

    trainer = CellTrainer(
        make_runner=make_runner,
        cells=tuple(cells),
        settings=config,
        vectors=config.reported,
        tuning=config.tuned,
        controls=config.list_controls(),
        stage=stage,
    )
    choices, rows = trainer.train()
    logged = [row for row in folder.read_metrics() if row["stage"] == trainer.reported_stage]
    loss = jax.jit(heldout_loss, static_argnames=("cfg", "rows_at_once", "max_targets"))

    def measure_losses(cell: Cell, vector: str) -> VectorLosses:
        heldout = data.heldout[cell.name_data(vector)]
        values = [
            float(
                loss(
                    model.params,
                    heldout,
                    model.cfg,
                    steering,
                    rows_at_once=config.batch_size,
                    max_targets=max_targets(heldout),
                )
            )
            for steering in (None, teachers[cell.name_taught(vector)].steering)
        ]
        return VectorLosses(*values)

    measured = []
    for i, cell in enumerate(cells):
        losses = {vector: measure_losses(cell, vector) for vector in config.reported}
        references = {v: panel.references.index(cell.name_taught(v)) for v in config.reported}
        cell_rows = [row for name in config.labels() for row in rows[i, name]]
        base_loss, teacher_loss = np.mean([*losses.values()], axis=0).tolist()
        measured.append(
            CellStudents(
                cell=cell,
                layer=layer,
                depth=model.cfg.layers,
                base_loss=base_loss,
                teacher_loss=teacher_loss,
                choices=tuple(choices[i, name] for name in config.labels()),
                students=narrow_students(
                    cell, cell_rows, references, layer, losses, config.list_controls()
                ),
                histories=read_histories(cell, logged, references, layer),
            )
        )
    return measured, data.reports


def weigh_tokens(data: DataSets, cells: list[Cell], model: Model, config: Config) -> DataSets:
    """`data` with the data sets of all cells: those that weigh tokens, by their frequency in the
    plain model's training rows."""
    train, heldout = dict(data.train), dict(data.heldout)
    counts = sum(token_counts(data.train[draw], model.cfg.vocab) for draw in config.list_controls())
    for cell in cells:
        if cell.tail == "all":
            continue
        weights = token_weights(np.asarray(counts), cell.tail)
        vectors = (*config.reported, *config.tuned)
        names = {cell.name_data(vector): cell.name_taught(vector) for vector in vectors}
        names |= {cell.name_control(draw): draw for draw in config.list_controls()}
        for name, source in names.items():
            train[name] = reweighted(data.train[source], weights)
            heldout[name] = reweighted(data.heldout[source], weights)
    return data._replace(train=train, heldout=heldout)


EXPERIMENT = Experiment(
    name="scaling",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
