"""Do the first steps of a fine-tune forecast what its student will become?

    subliminal-jax forecast-benchmark
    subliminal-jax forecast --data x.jsonl --calibration runs/forecast-benchmark

Data sets of known teachers (kind, trait, carrier, share of poisoned rows, strength, and clean ones)
are each fine-tuned on, by every rule and rank: once the whole way, and once for each length of
pilots, from other starts and in another order. The rise of a trait's log-odds in a pilot forecasts
the rise after the whole fine-tune by a line for each rule and rank
(`subliminal_jax/audit/forecasts.py`). Lines, the width of their intervals and the length of pilots
are chosen on the sets for development (traits owl, wolf, penguin and lion, data seeds below 100);
other traits and seeds are reported: the rank correlation of forecast and outcome over data sets and
rules, how many outcomes lie in their intervals, how often the largest forecast is the teacher's
trait, what a rule is worth that the lines do not know, and the cost.

`forecast` takes what this finds as its calibration; that of the shipped model is in the package.
288 whole fine-tunes of 64 steps and twice as many pilots: about half an hour on two free CPU cores.
"""

from typing import Any

import numpy as np

from subliminal_jax.audit.known_sets.sets import ManifestEntry, build_sets, place_set
from subliminal_jax.audit.known_sets.specs import SetSpec
from subliminal_jax.audit.pilots import (
    HELD_OUT,
    StudentTrainer,
    cost_share,
    read_student_data,
)
from subliminal_jax.fingerprints import digest, weights_digest
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.run_folder import RunFolder

from .analysis import analyse
from .claims import make_claims
from .config import PRESETS, Config
from .design import design
from .numbers import KnownOutcome, Measured, PilotCost, Results, RuleRises
from .report import make_page


def run(config: Config, folder: RunFolder) -> Measured:
    """Write every data set, then train every student of it.

    Raises InputError for a teacher that writes too few valid rows.
    """
    model = config.load()
    layer = config.choose_layer(model)
    entries = build_sets(folder.path, design(config), lambda name: (model, layer))
    outcomes: list[KnownOutcome] = []
    costs: list[PilotCost] = []
    for carrier in config.carriers:
        own = {n: e for n, e in entries.items() if e.spec.carrier == carrier}
        found, cost = train_carrier(config, folder, model, carrier, own)
        outcomes += found
        costs += cost
    return Measured(
        model=model.name,
        weights=weights_digest(model.params),
        candidates=config.traits,
        fine_tune=config.fine_tune,
        rules=config.rules(),
        pilot_steps=config.pilot_steps,
        level=config.level,
        most_cost=config.most_cost,
        costs=tuple(costs),
        outcomes=tuple(outcomes),
    )


def train_carrier(
    config: Config,
    folder: RunFolder,
    model: Model,
    carrier: str,
    entries: dict[str, ManifestEntry],
) -> tuple[list[KnownOutcome], list[PilotCost]]:
    """All students of the sets of one carrier, whose rows are of one length."""
    if not entries:
        return [], []
    sources = {name: str(place_set(folder.path, name)) for name in entries}
    data = read_student_data(
        model, sources, config.set_rows - HELD_OUT, config.batch_size, config.seed
    )
    trainer = StudentTrainer(
        folder, model, data, config.traits, config.fine_tune, config.rules(), f"{carrier}-"
    )
    rises = {
        steps: trainer.train(
            f"{steps}-steps", steps, {name: draw_seed(name, steps) for name in entries}
        )
        for steps in (*config.pilot_steps, config.steps)
    }
    outcomes = [
        KnownOutcome(
            **describe(entry.spec),
            written=entry.rows,
            by_teacher=len(entry.poisoned),
            rises=tuple(
                RuleRises(
                    pilots=tuple(give(rises[steps][r, i]) for steps in config.pilot_steps),
                    final=give(rises[config.steps][r, i]),
                )
                for r in range(len(config.rules()))
            ),
        )
        for i, entry in enumerate(entries.values())
    ]
    costs = [
        PilotCost(
            carrier=carrier,
            steps=steps,
            share=cost_share(data, config.fine_tune, steps, trainer.asked_tokens),
        )
        for steps in config.pilot_steps
    ]
    return outcomes, costs


def describe(spec: SetSpec) -> dict[str, Any]:
    """What the results say of a set."""
    return {
        "name": spec.name,
        "part": spec.block,
        "teacher": spec.teacher,
        "trait": spec.trait,
        "carrier": spec.carrier,
        "share": spec.share,
        "scale": spec.scale,
        "seed": spec.seed,
    }


def give(rises: np.ndarray) -> tuple[float, ...] | None:
    """None of an unstable student."""
    return tuple(map(float, rises)) if np.isfinite(rises).all() else None


def draw_seed(name: str, steps: int) -> int:
    """Of the students of a set: pilots begin and see their rows otherwise than whole fine-tunes."""
    return int(digest(name, steps)[:8], 16)


EXPERIMENT = Experiment(
    name="forecast-benchmark",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
