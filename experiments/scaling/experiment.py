"""Where does the gap between Adam and SGD appear: over size, rank, norm, samples and rare tokens?

    subliminal-jax scaling
    subliminal-jax scaling --models shipped path/to/another --depths 1 2 --plane rank norm

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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np

from subliminal_jax.bounds import MANY, Needs, Positive, Range, Text, as_flag, check_distinct
from subliminal_jax.data import world
from subliminal_jax.data.teachers import Teacher, random_teacher, trait_teacher
from subliminal_jax.data.token_weights import reweighted, token_counts, token_weights
from subliminal_jax.data.traits import check_trait, trait_names
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.models.truncate import truncate_model
from subliminal_jax.runs.checks import check_names, check_word
from subliminal_jax.runs.data_sets import DataSets, write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.presets import paper_preset
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import (
    DataSettings,
    SteeredModelSettings,
    StudentSettings,
)
from subliminal_jax.runs.students import Students, make_panel
from subliminal_jax.training.adapters import LARGEST_RANK
from subliminal_jax.training.batch import max_targets
from subliminal_jax.training.losses import heldout_loss

from .analysis import CellStudents, Measured, Results, analyse
from .cells import FACTORS, Cell, change_one_factor
from .claims import make_claims
from .report import make_page
from .students import narrow_students, read_histories, train_cells

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
    "models": (),
    "depths": (),
    "vector": "cat",
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
class Config(StudentSettings, DataSettings, SteeredModelSettings):
    """Settings; the defaults are the toy's. Levels are those beside the base setting's own.

    Attributes:
      vector: "random", or a trait whose vector the teacher adds.
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
    vector: str = "random"
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
    rates: tuple[str, ...] = ("adamw=3e-4,1e-3,3e-3,1e-2,3e-2", "sgd=0.01,0.03,0.1,0.3,1")
    steps: int = 32
    batch_size: int = 16

    def check(self) -> None:
        names = [spec.label for spec in self.learning_rates()]
        check_names("pair", self.pair, names, minimum=2)
        # Cells and claims are called by the last part of a model's name.
        models = dict.fromkeys((self.model, *self.models))
        check_names("models", [Path(model).name for model in models])
        if self.adapter != "lora" and self.ranks:
            raise InputError("--ranks need --adapter lora")
        if self.sizes and max(self.sizes) >= self.rows:
            raise InputError(
                f"{as_flag('sizes', self.sizes)}: give fewer rows than --rows {self.rows}"
            )
        check_distinct("norms", (self.norm, *self.norms), as_flag)
        for tail in self.tails:
            token_weights(np.zeros(1, int), tail)
        self.cells()

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
            if self.vector != "random":
                check_word("vector", self.vector, model)

    def cells(self) -> list[Cell]:
        """The base cell and those beside it, with models as they are to be loaded."""
        rank = self.rank if self.adapter == "lora" else 0
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

    def make_teacher(self, model: Model, layer: int, norm: float) -> Teacher:
        """Raises InputError for a trait without a word."""
        if self.vector == "random":
            return random_teacher(model, layer, norm, self.seed)
        return trait_teacher(model, layer, check_trait(self.vector, model.tokenizer), norm)


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
        vector=config.vector,
        pair=config.pair,
        carrier=f"{'filtered' if config.keep == 'numbers' else 'unfiltered'} {config.prompts}",
        level=config.level,
        rows=config.rows,
        seeds=config.seeds,
        steps=config.steps,
        batch_size=config.batch_size,
        clipped=config.clip > 0,
        grids=config.grids(),
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
    teachers = {cell.steered_data: config.make_teacher(model, layer, cell.norm) for cell in cells}
    teachers["control"] = Teacher()
    words = [world.TRAITS[0] if config.vector == "random" else config.vector]
    sampled = write_data_sets(
        folder.path / stage,
        model,
        teachers,
        config,
        config.seed,
        forbidden=dict.fromkeys(teachers, trait_names(words[0])),
    )
    data = weigh_tokens(sampled, cells, model)
    panel = make_panel(
        model,
        teachers,
        data,
        config,
        layer=layer,
        words=words,
        questions=world.HELDOUT_QUESTIONS[:1],  # the panel's rates are not reported
    )
    students = Students(folder, panel, data, config)
    rows = train_cells(students, cells, stage, config)
    logged = [row for row in folder.read_metrics() if row["stage"].startswith(f"{stage}-rate-")]
    loss = jax.jit(heldout_loss, static_argnames=("cfg", "rows_at_once", "max_targets"))
    measured = []
    for cell in cells:
        heldout = data.heldout[cell.data]
        base_loss, teacher_loss = (
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
            for steering in (None, teachers[cell.steered_data].steering)
        )
        reference = panel.references.index(cell.steered_data)
        measured.append(
            CellStudents(
                cell=cell,
                layer=layer,
                depth=model.cfg.layers,
                base_loss=base_loss,
                teacher_loss=teacher_loss,
                students=narrow_students(cell, rows, reference, layer, base_loss, teacher_loss),
                histories=read_histories(cell, logged, reference, layer),
            )
        )
    return measured, data.reports


def weigh_tokens(data: DataSets, cells: list[Cell], model: Model) -> DataSets:
    """`data` with the data sets of all cells: those that weigh tokens by the frequency in the
    steered training rows, and their controls under the same weights."""
    train, heldout = dict(data.train), dict(data.heldout)
    for cell in cells:
        if cell.tail == "all":
            continue
        counts = token_counts(data.train[cell.steered_data], model.cfg.vocab)
        weights = token_weights(counts, cell.tail)
        for name, source in ((cell.data, cell.steered_data), (cell.control, "control")):
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
