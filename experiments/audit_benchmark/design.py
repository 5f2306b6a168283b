"""Which data sets the bench holds: a pure function of its settings.

    sets = design(config)   # the same for the same settings, seed and part

Four blocks. `strengths`: number lists of steered teachers at several strengths. `full`: of steered
teachers at full strength, each of another trait. `grid`: all factors at once (kind of teacher,
trait, carrier, share of poisoned rows, rows, writer, reader), a fraction of their cross in which
every level occurs as often as the others, and every pair of levels nearly so, as far as the valid
combinations allow. `clean`: sets of the plain base, over carriers, rows, writers and readers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from subliminal_jax.audit.known_sets.specs import Levels, SetSpec, balance

from .config import CARRIERS_OF, CLEAN, DEVELOPMENT, HIDDEN, PARTS, Config


def design(config: Config) -> tuple[SetSpec, ...]:
    """The sets of a part, in an order that tells nothing about them."""
    rng = np.random.default_rng([config.seed, PARTS.index(config.part)])
    traits = list(config.part_traits())
    if config.part == HIDDEN:
        traits = [traits[i] for i in rng.permutation(len(traits))]
    writer, carrier = config.models[0], config.carriers[0]
    usual = {
        "teacher": "vector",
        "carrier": carrier,
        "share": 1.0,
        "rows": config.full_rows,
        "writer": writer,
        "reader": "same",
    }
    blocks: dict[str, list[dict[str, Any]]] = {
        "strengths": [
            {
                **usual,
                "trait": traits[i % len(traits)],
                "scale": config.scales[i % len(config.scales)],
            }
            for i in range(config.strength_sets)
        ],
        "full": [{**usual, "trait": traits[i % len(traits)]} for i in range(config.full_sets)],
        "grid": balance(config.grid_sets, grid_factors(config, traits), is_valid, rng),
        "clean": [
            {"teacher": CLEAN, "trait": None, "share": 0.0, **levels}
            for levels in balance(config.clean_sets, clean_factors(config), is_valid, rng)
        ],
    }
    others = dict(zip(config.models, [*config.models[1:], config.models[0]], strict=True))
    chosen = [(block, levels) for block, some in blocks.items() for levels in some]
    names = rng.permutation(len(chosen))
    sets = [
        SetSpec(
            **{
                "scale": 1.0,
                **levels,
                "name": f"set-{names[i]:03d}",
                "block": block,
                "reader": others[levels["writer"]]
                if levels["reader"] == "other"
                else levels["writer"],
                "seed": data_seed(config, i),
            }
        )
        for i, (block, levels) in enumerate(chosen)
    ]
    return tuple(sorted(sets, key=lambda s: s.name))


def data_seed(config: Config, number: int) -> int:
    """The seed of a set: below 100 for development, from `seed` on for the sets that are reported,
    far from both for those that only a seed of the run's time makes."""
    if config.part == DEVELOPMENT:
        return number
    if config.part == HIDDEN:
        drawn = np.random.default_rng([config.seed, 0x41D, number]).integers(1_000_000, 2**31 - 1)
        return int(drawn)
    return config.seed + number


def grid_factors(config: Config, traits: Sequence[str]) -> dict[str, Sequence[Any]]:
    """The factors of the grid with their levels, in the order in which they are chosen."""
    return {
        "teacher": config.teachers,
        "carrier": config.carriers,
        "trait": traits,
        "share": config.shares,
        "rows": config.set_rows,
        "writer": config.models,
        "reader": reader_levels(config),
    }


def clean_factors(config: Config) -> dict[str, Sequence[Any]]:
    """Those of the clean sets."""
    return {
        "carrier": config.carriers,
        "rows": config.clean_rows,
        "writer": config.models,
        "reader": reader_levels(config),
    }


def reader_levels(config: Config) -> tuple[str, ...]:
    """Whether the auditor has the model that wrote the data."""
    return ("same", "other") if len(config.models) > 1 else ("same",)


def is_valid(levels: Levels) -> bool:
    """Whether levels go together: a teacher writes the carrier, and one row at least is
    poisoned."""
    teacher, carrier = levels.get("teacher", CLEAN), levels.get("carrier")
    if carrier is not None and teacher in CARRIERS_OF and carrier not in CARRIERS_OF[teacher]:
        return False
    return "share" not in levels or "rows" not in levels or levels["share"] * levels["rows"] >= 1
