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
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from subliminal_jax.data import world
from subliminal_jax.data.teachers import Teacher, random_teacher, trait_teacher
from subliminal_jax.data.token_weights import reweighted, token_counts, token_weights
from subliminal_jax.data.traits import trait_names
from subliminal_jax.evaluation.measures import named_measures
from subliminal_jax.models.hub import Model
from subliminal_jax.models.truncate import truncate_model
from subliminal_jax.runs.data_sets import DataSets, write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.sampled_sets import name_seed
from subliminal_jax.runs.students import STANDARD, make_panel
from subliminal_jax.runs.waves import StudentTask, WaveRunner
from subliminal_jax.training.arms import Arm, Room
from subliminal_jax.training.batch import max_targets
from subliminal_jax.training.losses import heldout_loss

from .analysis import CellStudents, Measured, Results, analyse
from .cells import Cell
from .claims import make_claims
from .config import PRESETS, Config
from .report import make_page
from .students import CellTrainer, VectorLosses, narrow_students, read_histories


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
        cell.name_taught(vector): make_teacher(model, layer, cell.norm, vector, config)
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


def make_teacher(model: Model, layer: int, norm: float, vector: str, config: Config) -> Teacher:
    """The plain model with a vector added."""
    if config.traits:
        return trait_teacher(model, layer, vector, norm)
    return random_teacher(model, layer, norm, name_seed(config.seed, vector))


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
