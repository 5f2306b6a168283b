"""The table of a search for learning rates."""

from collections.abc import Sequence

from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.reporting.tables import Column, Table


def make_rates_table(
    choices: Sequence[RateChoice],
    tuning_traits: Sequence[str],
    *further: Column,
    tuned_on: str = "vectors",
) -> Table:
    """How each rate was found; `further` columns stand after the optimizer's. `tuned_on` says in a
    word what `tuning_traits` name."""
    columns = [
        Column("optimizer", "optimizer"),
        *further,
        Column("rate", "best rate", "learning_rate"),
        Column("grid", "rates tried", "learning_rates"),
        Column("losses", "held-out loss", "number", digits=3),
        Column("is_inside", "inside"),
    ]
    caption = (
        f"On the tuning {tuned_on} ({', '.join(tuning_traits)}), which are not reported. A rate at "
        "which a student diverged or ended above the base's loss has no loss."
    )
    return Table("How the rates were found", columns, choices, caption)
