"""The report of `steering-bridge`, drawn from its results.json alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from subliminal_jax.evaluation.statistics import mean_interval
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.claims import claims_text
from subliminal_jax.reporting.page import Picture, write_page
from subliminal_jax.reporting.tables import (
    Column,
    Table,
    format_learning_rate,
    print_table,
    wide_console,
)

Results = Mapping[str, Any]
MEASURES = {
    "preference": "preference for the trait in comparisons, student minus control (logits)",
    "steerability": "steerability, student minus control (logits a multiplier)",
}


def report(folder: str | Path, results: Results, settings: Mapping[str, Any], command: str) -> Path:
    """Print the tables and write report.html and its PNGs; returns the page's path."""
    tables = [by_trait(results), ranks(results)]
    console = wide_console()
    for shown in tables:
        print_table(shown, console)
    pictures = [
        Picture(
            name,
            name.capitalize(),
            f"{label[0].upper()}{label[1:]}; pale points are seeds, bars 95% t intervals.",
            plots.forest(lines(results, name), x_label=label),
        )
        for name, label in MEASURES.items()
    ]
    return write_page(
        folder,
        title="Does learning from a vector's teacher change what the vector does?",
        summary=summary(results),
        command=command,
        config=settings,
        blocks=[*pictures, *tables, claims_text(results["claims"])],
    )


def summary(results: Results) -> str:
    """What came out, in sentences."""
    rate = format_learning_rate(results["learning_rate"])
    edge = results["learning_rate"] in (results["grid"][0], results["grid"][-1])
    parts = [
        f"Students of {results['model']} ({results['adapter']}, {results['optimizer']} {rate}"
        f"{', the edge of its grid' if edge and len(results['grid']) > 1 else ''}) read the number "
        f"lists of {len(results['traits'])} teachers with a trait's vector, controls the plain "
        "model's; then the vector was tried on both."
    ]
    parts += [f"{claim['claim']}: {claim['number']}." for claim in results["claims"]]
    return "\n\n".join(parts)


def by_trait(results: Results) -> Table:
    """One row a trait."""
    rows = []
    for trait in results["traits"]:
        base, found = results["base"][trait], results["differences"]
        rows.append(
            {
                "trait": trait,
                **base,
                "student": float(np.mean([s["steerability"] for s in results["students"][trait]])),
                "control": float(np.mean([s["steerability"] for s in results["controls"][trait]])),
                **{f"d_{m}": _interval(found[m]["traits"][trait]) for m in MEASURES},
                "log_prob": results["log_prob"][trait],
            }
        )
    columns = [
        Column("trait", "trait"),
        Column("preference", "base: preference", "number"),
        Column("steerability", "base: steerability", "number"),
        Column("anti_steerable", "base: works backwards", "rate", digits=1),
        Column("student", "steerability, student", "number"),
        Column("control", "steerability, control", "number"),
        Column("d_preference", "preference, student - control", "number", digits=3),
        Column("d_steerability", "steerability, student - control", "number", digits=3),
        Column("log_prob", "log P(trait), student - control", "number", digits=3),
    ]
    caption = f"Differences with 95% t intervals over {results['seeds']} seeds."
    return Table("By trait", columns, rows, caption)


def ranks(results: Results) -> Table:
    """The rank correlations over traits."""
    rows = [
        {"of": name.partition("-")[0], "with": name.partition("-")[2], "rho": interval}
        for name, interval in results["prediction"].items()
    ]
    columns = [
        Column("of", "of the base"),
        Column("with", "with the students'"),
        Column("rho", "Spearman", "number"),
    ]
    return Table("Does it predict transmission?", columns, rows, "Over traits, 95% intervals.")


def lines(results: Results, measure: str) -> list[dict[str, Any]]:
    """The rows of one picture."""
    return [
        {"label": trait, "interval": _interval(values), "values": values}
        for trait, values in results["differences"][measure]["traits"].items()
    ]


def _interval(values: list[float]) -> dict[str, Any]:
    return mean_interval(values).to_dict()
