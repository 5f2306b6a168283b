"""The report of `logit-linear-selection`, drawn from its results.json alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subliminal_jax.reporting import plots
from subliminal_jax.reporting.claims import claims_text
from subliminal_jax.reporting.page import Block, Picture, Text, write_page
from subliminal_jax.reporting.tables import (
    Column,
    Table,
    format_learning_rate,
    print_table,
    wide_console,
)

Results = Mapping[str, Any]
ARMS = {"lls": "selected", "random": "random", "bottom": "lowest scores"}
PICTURES = {
    "cosine": ("correlation", "Do students shift pairs as the system prompt does?",
               "Corr (uncentred) of shifts, on pairs kept from the selection"),
    "share": ("mentions", "How often do answers mention the target?",
              "share of all animals mentioned"),
    "rate": ("rates", "How often do answers show the target?", "share of answers"),
    "word_rate": ("favorites", "Is the target the favourite?", "P(target) as favourite animal"),
}  # fmt: skip


def report(folder: str | Path, results: Results, settings: Mapping[str, Any], command: str) -> Path:
    """Print the tables and write report.html and its PNGs; returns the page's path."""
    tables = [table(results), by_target(results)]
    console = wide_console()
    for shown in tables:
        print_table(shown, console)
    pictures: list[Block] = []
    for metric, (name, title, label) in PICTURES.items():
        rows = lines(results, metric)
        if rows:
            text = (
                f"{label}; each line is one target and the pairs that its students were trained "
                "on. Pale points are seeds, bars 95% t intervals over them."
            )
            figure = plots.forest(rows, x_label=label)
            pictures.append(Picture(name, title, text, figure))
    return write_page(
        folder,
        title="Does a subset of generic preferences carry a hidden system prompt?",
        summary=summary(results),
        command=command,
        config=settings,
        blocks=[
            tables[0], *pictures, tables[1],
            Text(pool_text(results), "The pairs"),
            claims_text(results["claims"]),
        ],
    )  # fmt: skip


def summary(results: Results) -> str:
    """What came out, in sentences."""
    who = results["student"]
    if who != results["model"]:
        who += f" (the pairs were scored by {results['model']})"
    parts = [
        f"Students of {who} were trained by DPO on pairs selected for a system prompt that none of "
        "them saw; their controls on as many random pairs."
    ]
    for optimizer, made in results["optimizers"].items():
        said = []
        for metric, what in (
            ("cosine", "correlation with the system prompt's shifts"),
            ("share", "share of the target among mentioned animals"),
            ("rate", "answers that show the target"),
            ("word_rate", "probability of the target as favourite animal"),
        ):
            found = {a: of.get(metric) for a, of in made["arms"].items()}
            if found.get("lls") and found.get("random"):
                values = " against ".join(_text(found[a]["pooled"]) for a in ("lls", "random"))
                said.append(f"{what} {values}")
        rate = format_learning_rate(made["learning_rate"])
        edge = made["learning_rate"] in _edges(results["grids"][optimizer])
        parts.append(
            f"{optimizer} at {rate}{' (the edge of its grid)' if edge else ''}: "
            + ("; ".join(said) or "no student stayed sound")
            + "."
        )
    lost = [name for name, rate in results["best"].items() if rate is None]
    if lost:
        parts.append(f"All students of {', '.join(lost)} diverged at every rate.")
    return "\n\n".join(parts)


def table(results: Results) -> Table:
    """One row for each optimizer and kind of pairs."""
    rows = [
        {
            "optimizer": optimizer,
            "arm": ARMS[arm],
            "learning_rate": made["learning_rate"],
            "grid": ", ".join(map(format_learning_rate, results["grids"][optimizer])),
            **{m: None if of.get(m) is None else of[m]["pooled"] for m in _METRICS},
        }
        for optimizer, made in results["optimizers"].items()
        for arm, of in made["arms"].items()
    ]
    columns = [
        Column("optimizer", "optimizer"),
        Column("arm", "pairs"),
        Column("learning_rate", "best rate", "learning_rate"),
        Column("grid", "rates tried"),
        *(Column(m, title, "number", digits=digits) for m, (title, digits) in _METRICS.items()),
    ]
    caption = (
        f"Over {results['seeds']} seeds and all targets, with 95% t intervals over "
        "both (two-way). Corr: of the student's shifts with the system prompt's, uncentred, on "
        "pairs kept from the selection and on the selected ones. The rate was chosen by DPO loss "
        "on held-out selected pairs."
    )
    return Table("Students", columns, rows, caption)


def by_target(results: Results) -> Table:
    """One row for each target, optimizer and kind of pairs; base and prompted model above."""
    rows = []
    told = results["told"]
    for i, name in enumerate(results["targets"]):
        for who, of in (("base", told["base"]), ("system prompt", told["prompted"][name])):
            rows.append(
                {
                    "target": name,
                    "who": who,
                    "share": None if of["share"] is None else _point(of["share"][i]),
                    "rate": None if of["rate"][i] is None else _point(of["rate"][i]),
                }
            )
        for optimizer, made in results["optimizers"].items():
            for arm, of in made["arms"].items():
                values = {
                    m: None if of.get(m) is None else of[m]["by_target"][name]["interval"]
                    for m in _METRICS
                }
                rows.append({"target": name, "who": f"{ARMS[arm]}, {optimizer}", **values})
    columns = [
        Column("target", "target"),
        Column("who", "who"),
        *(Column(m, title, "number", digits=digits) for m, (title, digits) in _METRICS.items()),
    ]
    return Table("By target", columns, rows, "Means with 95% t intervals over seeds.")


def lines(results: Results, metric: str) -> list[dict[str, Any]]:
    """The rows of one picture."""
    several = len(results["optimizers"]) > 1
    return [
        {
            "label": name + (f", {optimizer}" if several else ""),
            "group": ARMS[arm],
            "interval": of[metric]["by_target"][name]["interval"],
            "values": of[metric]["by_target"][name]["values"],
        }
        for name in results["targets"]
        for optimizer, made in results["optimizers"].items()
        for arm, of in made["arms"].items()
        if of.get(metric) is not None
    ]


def pool_text(results: Results) -> str:
    """What was read, left out, scored and selected."""
    pool = dict(results["pool"])
    read, probe, size = (pool.pop(k) for k in ("read", "probe", "pool"))
    dropped = ", ".join(f"{n} for {why}" for why, n in pool.items() if n) or "none"
    parts = [
        f"{read} pairs were read ({results['pairs']}), left out: {dropped}; {probe} were set aside "
        f"as probe pairs, {size} scored."
    ]
    if results["speed"]:
        speed = results["speed"]
        parts[0] += (
            f" Scoring took {speed['seconds']:.0f} s: {speed['pairs_per_second']:.0f} pairs a "
            f"second and system prompt or base, {speed['padding_share']:.0%} of the computed "
            "positions padding."
        )
    for name, of in results["selected"].items():
        parts.append(
            f"{name}: {of['positive']:.0f} of {of['scored']:.0f} pairs have a positive score; "
            f"students read {of['kept']:.0f} of them, {of['gamma']:.1%}."
        )
    return "\n\n".join(parts)


_METRICS = {
    "cosine": ("Corr", 2),
    "selected": ("Corr on selected", 2),
    "rate": ("shows the target", 3),
    "share": ("share of mentions", 3),
    "word_rate": ("P(favourite)", 3),
}


def _edges(grid: list[float]) -> list[float]:
    return [grid[0], grid[-1]] if len(grid) > 1 else []


def _point(value: float) -> dict[str, float | None]:
    return {"mean": value, "low": None, "high": None}


def _text(interval: Mapping[str, Any]) -> str:
    return f"{interval['mean']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"
