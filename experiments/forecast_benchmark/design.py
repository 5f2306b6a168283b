"""Which data sets forecasts are calibrated and tried on: a pure function of the settings."""

from collections.abc import Sequence

import numpy as np

from subliminal_jax.audit.known_sets.specs import SetSpec, balance

from .config import DEVELOPMENT_SEED, Config

DEVELOPMENT, REPORTED = "development", "reported"
CLEAN = "none"  # the kind of teacher of clean sets


def design(config: Config) -> tuple[SetSpec, ...]:
    """The sets of both parts; the block of each is its part."""
    return (
        *design_part(config, DEVELOPMENT, config.development_traits, config.development_sets, 0),
        *design_part(config, REPORTED, config.reported_traits, config.reported_sets, 1),
    )


def design_part(
    config: Config, part: str, traits: Sequence[str], count: int, stream: int
) -> list[SetSpec]:
    """`count` sets over all factors, balanced, and the clean ones."""
    rng = np.random.default_rng([config.seed, stream])
    factors = {
        "teacher": config.teachers,
        "carrier": config.carriers,
        "trait": traits,
        "share": config.shares,
        "scale": config.scales,
    }
    chosen = balance(count, factors, lambda levels: True, rng)
    chosen += [
        {"teacher": CLEAN, "trait": None, "share": 0.0, "carrier": carrier}
        for carrier in np.resize(config.carriers, config.clean_sets).tolist()
    ]
    first = DEVELOPMENT_SEED if part == DEVELOPMENT else config.seed
    return [
        SetSpec(
            **{
                **levels,
                "scale": levels.get("scale", 1.0) if levels["teacher"] == "vector" else 1.0,
                "name": f"{part}-{i:02d}",
                "block": part,
                "rows": config.set_rows,
                "writer": config.model,
                "reader": config.model,
                "seed": first + i,
            }
        )
        for i, levels in enumerate(chosen)
    ]
