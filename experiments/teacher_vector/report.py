"""The report of `teacher-vector`, drawn from its results.json alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from subliminal_jax.reporting import maps
from subliminal_jax.reporting.claims import claims_text, print_claims
from subliminal_jax.reporting.page import Picture, Text, write_page
from subliminal_jax.reporting.tables import (
    Column,
    Table,
    format_learning_rate,
    print_table,
    wide_console,
)

Results = Mapping[str, Any]
PANELS = {
    "rate": "names the trait",
    "off_topic": "off-topic answers that name it",
    "valid_numbers": "valid number lists",
    "kl": "KL from the base, nats a token",
}


def report(folder: str | Path, results: Results, settings: Mapping[str, Any], command: str) -> Path:
    """Print the tables and write report.html and its PNGs; returns the page's path."""
    console = wide_console()
    tables = [vectors(results), students(results)]
    for shown in tables:
        print_table(shown, console)
    print_claims(results["claims"], console)
    return write_page(
        folder,
        title="How well is a system prompt approximated by a vector?",
        summary=summary(results),
        command=command,
        config=settings,
        blocks=[
            tables[0],
            Picture(
                "sweep",
                "Over layers and scales",
                "Means over traits, for the trait's vector added after a layer at a scale: how "
                "often favourite questions are answered with the trait, and what else changes.",
                maps.heat_maps(
                    {title: grid_of(results, key) for key, title in PANELS.items()},
                    results["layers"],
                    results["scales"],
                    row_label="layer",
                    column_label="scale of the vector",
                ),
            ),
            Picture(
                "rates",
                "The trait's rate, by trait",
                "How often each trait is named by the base, with its vector at its best setting, "
                "with a random vector of the same norm, and with the system prompt.",
                maps.grouped_bars(
                    [{**t, "label": t["trait"]} for t in results["zoo"]],
                    {
                        "base": "base",
                        "prompted": "system prompt",
                        "best_rate": "vector",
                        "random": "random vector",
                    },
                    y_label="answers that name the trait",
                ),
            ),
            tables[1],
            *_scatter(results),
            claims_text(results["claims"]),
            Text(notes(results), "How it was measured"),
        ],
    )


def grid_of(results: Results, key: str) -> list[list[float | None]]:
    """Means over traits [layers][scales] of the steered models' `key`."""
    cells: dict[tuple[int, float], list[float]] = {}
    for row in results["cells"]:
        if row["kind"] == "steered" and row[key] is not None:
            cells.setdefault((row["layer"], row["scale"]), []).append(row[key])
    return [
        [
            float(np.mean(cells[at, scale])) if (at, scale) in cells else None
            for scale in results["scales"]
        ]
        for at in results["layers"]
    ]


def summary(results: Results) -> str:
    """What came out, in sentences."""
    zoo = [t for t in results["zoo"] if t["best"] is not None]
    parts = [
        f"{results['model']}, {len(results['zoo'])} traits. The vector of a trait is the mean "
        "difference that its system prompt makes at the last token of number prompts."
    ]
    if zoo:
        means = {k: np.mean([t[k] for t in zoo]) for k in ("base", "prompted", "best_rate")}
        parts.append(
            f"On average the trait is {means['base']:.1%} of the base's answers to favourite "
            f"questions, {means['prompted']:.1%} with the system prompt, and "
            f"{means['best_rate']:.1%} with the vector alone at each trait's best setting, "
            f"where a random vector of the same norm gives "
            f"{np.mean([t['random'] for t in zoo]):.1%}."
        )
    if len(zoo) < len(results["zoo"]):
        parts.append(
            f"{len(results['zoo']) - len(zoo)} traits have no setting whose off-topic answers "
            "name the trait in at most 10%."
        )
    found = results["prediction"]
    if results["learning_rate"] is None:
        parts.append("All students diverged at every rate.")
        return "\n\n".join(parts)
    r, auc = found["teacher_gain"]["rate"], found["teacher_gain"]["auc"]
    text = (
        f"{found['transmitted']} of {found['traits']} traits pass to students (paired interval "
        f"above zero). Steered rate minus base rate at the students' teacher's setting against "
        f"what passes: Spearman {_number(r)}"
    )
    text += (
        f", AUC {_number(auc)}."
        if auc["mean"] is not None
        else "; an AUC needs traits of both kinds, so there is none."
    )
    parts.append(text)
    grid, rate = results["grid"], results["learning_rate"]
    if len(grid) > 1 and rate in (grid[0], grid[-1]):
        parts.append(f"The chosen rate, {format_learning_rate(rate)}, is at the edge of its grid.")
    return "\n\n".join(parts)


def vectors(results: Results) -> Table:
    """One row a trait: prompted and steered."""
    rows = [
        {
            **t,
            **{f"at_{k}": v for k, v in (t["best"] or {}).items()},
        }
        for t in results["zoo"]
    ]
    columns = [
        Column("trait", "trait"),
        Column("base", "base", "rate", digits=1),
        Column("prompted", "prompted", "rate", digits=1),
        Column("best_rate", "steered", "rate", digits=1),
        Column("at_sampled_rate", "in samples", "rate", digits=0),
        Column("random", "random vector", "rate", digits=1),
        Column("share", "share of the prompt's rise", "rate", digits=0),
        Column("at_layer", "layer", "count"),
        Column("at_scale", "scale", "number", digits=1),
        Column("at_off_topic", "off-topic", "rate", digits=0),
        Column("prompted_off_topic", "prompted off-topic", "rate", digits=0),
        Column("at_valid_numbers", "valid lists", "rate", digits=0),
        Column("at_kl", "KL", "number"),
    ]
    caption = (
        "Rates are teacher-forced, on questions that chose nothing. The best setting has the "
        "largest rate on other questions with off-topic mentions of at most 10%"
        + (" and a rate at least-favourite questions of at most 10%." if results["sets"]["negative"]
           else "; the paper's bound on least-favourite questions is left out: this model knows "
           "none.")
        + " In samples: share of sampled answers whose exact first word is the trait. KL: from the "
        "base's next-token distribution, on its own answers to off-topic questions."
    )  # fmt: skip
    return Table("Prompt against vector", columns, rows, caption)


def students(results: Results) -> Table:
    """One row a trait: teacher and students."""
    columns = [
        Column("trait", "trait"),
        Column("base", "base", "rate", digits=1),
        Column("teacher", "teacher", "rate", digits=1),
        Column("random-teacher", "random vector", "rate", digits=1),
        Column("student", "student", "rate", digits=1),
        Column("control", "control", "rate", digits=1),
        Column("difference", "student - control", "number", digits=3),
        Column("log_difference", "of log P", "number"),
        Column("eas", "EAS", "number"),
        Column("transmitted", "passes"),
    ]
    rate = results["learning_rate"]
    caption = (
        f"Teachers steer after layer {results['layer']} at scale {results['scale']:g} and write "
        f"filtered number lists; {results['seeds']} seeds; differences are paired by seed, with t "
        f"intervals. Rate {format_learning_rate(rate) if rate else 'none'} of "
        f"{', '.join(map(format_learning_rate, results['grid']))}, by held-out loss. EAS: cosine "
        "with the teacher's shift at that layer."
    )
    return Table("What passes to students", columns, results["zoo"], caption)


def notes(results: Results) -> str:
    """What a reader should know about the numbers."""
    found = results["prediction"]
    logs, base = found["teacher_gain"]["log_prob"], found["base"]["rate"]
    kept = [d["kept"] / d["pairs"] for d in results["data"].values() if "kept" in d]
    sets = results["sets"]
    parts = [
        f"{sets['questions']} reported questions, {sets['selection']} that choose settings, "
        f"{sets['off_topic']} off-topic ones, {sets['negative']} about least favourites.",
        "Rates are not alike in scale from trait to trait: both the steered rate and what passes "
        "depend on how probable the trait is to begin with. In log-probabilities of the student "
        f"the rank correlation with the steered gain is {_number(logs)}; that of the base's rate "
        f"with what passes is {_number(base)}.",
    ]
    if results["model"] == "shipped":
        parts.append(
            "The students' setting on this model (layer, scale, adapter, grid) was found by "
            "looking at owl, wolf, penguin and lion with the same data seed; the other traits had "
            "no part in it."
        )
    if kept:
        parts.append(
            f"Between {min(kept):.0%} and {max(kept):.0%} of the answers passed the filter."
        )
    return "\n\n".join(parts)


def _scatter(results: Results) -> list[Picture]:
    points = [
        {
            "label": t["trait"],
            "x": t["teacher_gain"],
            "y": t["difference"],
            "strong": t["transmitted"],
        }
        for t in results["zoo"]
        if t["difference"] is not None
    ]
    if not points:
        return []
    return [
        Picture(
            "prediction",
            "Does steerability predict transmission?",
            "Each point is a trait: how much the teacher's vector raises its probability, against "
            "how much of that its students show over their controls (with 95% intervals over "
            "seeds; grey where that holds zero).",
            maps.scatter(
                points,
                x_label="P(trait), steered teacher minus base",
                y_label="P(trait), student minus control",
            ),
        )
    ]


def _number(interval: Mapping[str, Any]) -> str:
    if interval["mean"] is None:
        return "undefined"
    if interval["low"] is None:
        return f"{interval['mean']:.2f}"
    return f"{interval['mean']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"
