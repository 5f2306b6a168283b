"""The report of `cross-model`, drawn from its results.json alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subliminal_jax.reporting import plots
from subliminal_jax.reporting.claims import claims_text, print_claims
from subliminal_jax.reporting.page import Picture, Text, write_page
from subliminal_jax.reporting.tables import Column, Table, print_table, wide_console

Results = Mapping[str, Any]
KINDS = {"numbers": "number lists", "semantic": "chat answers"}
SENTENCES = {
    "numbers": "Number lists that passed the filter: how many nats a token each model's own "
    "vector adds to their likelihood, over what it adds to plain lists and what a random vector "
    "does.",
    "semantic": "Chat answers, which name the trait openly: the same gain. A vector's meaning is "
    "shared between models as far as it raises the likelihood of another model's answers.",
}


def report(folder: str | Path, results: Results, settings: Mapping[str, Any], command: str) -> Path:
    """Print the tables and write report.html and its PNGs; returns the page's path."""
    console = wide_console()
    tables = [scores(results), contrasts(results)]
    for shown in tables:
        print_table(shown, console)
    print_claims(results["claims"], console)
    return write_page(
        folder,
        title="Does a vector explain another model's numbers?",
        summary=summary(results),
        command=command,
        config=settings,
        blocks=[
            tables[1],
            *(
                Picture(
                    f"gain_{kind}",
                    f"Gain on {name}",
                    SENTENCES[kind] + " Points are traits, bars 95% intervals over them.",
                    plots.forest(lines(results, kind), x_label="specific gain, nats a token"),
                )
                for kind, name in KINDS.items()
            ),
            tables[0],
            claims_text(results["claims"]),
            Text(notes(results), "How it was measured"),
        ],
    )


def lines(results: Results, kind: str) -> list[dict[str, Any]]:
    """The rows of a picture: who reads whom, by teacher."""
    out = []
    for found in results["summaries"]:
        if found["kind"] != kind:
            continue
        for cell in found["cells"]:
            values = [
                c["specific_gain"]
                for c in results["cells"]
                if all(c[k] == found[k] for k in ("kind", "teacher"))
                and all(c[k] == cell[k] for k in ("scorer", "source"))
            ]
            reads = "its own" if cell["own"] else cell["source"]
            out.append(
                {
                    "label": f"{cell['scorer']} reads {reads}",
                    "group": f"{found['teacher']} teachers",
                    "interval": cell["specific_gain"],
                    "values": values,
                }
            )
    return out


def scores(results: Results) -> Table:
    """One row for each scorer, source, kind of data and kind of teacher."""
    rows = [
        {**cell, "kind": KINDS[found["kind"]], "teacher": found["teacher"]}
        for found in results["summaries"]
        for cell in found["cells"]
    ]
    columns = [
        Column("kind", "data"),
        Column("teacher", "teachers"),
        Column("scorer", "scorer"),
        Column("source", "written by"),
        Column("gain", "gain", "number", digits=4),
        Column("plain_gain", "on plain data", "number", digits=4),
        Column("random_gain", "of a random vector", "number", digits=4),
        Column("random_plain_gain", "of it on plain data", "number", digits=4),
        Column("specific_gain", "specific gain", "number", digits=4),
        Column("gain_per_completion", "gain a completion", "number", digits=3),
    ]
    caption = (
        "Gain: NLL(base) - NLL(steered by the scorer's own vector), nats a token, means over "
        f"{len(results['traits'])} traits with 95% t intervals; {results['rows']} rows a data set. "
        "Plain data: what the source wrote to such prompts without prompt or vector. Specific "
        "gain: gain minus that on plain data, minus the same difference for a random vector of the "
        "same norm."
    )
    return Table("Every model reads every model", columns, rows, caption)


def contrasts(results: Results) -> Table:
    """Own against foreign, one row for each kind of data and of teacher."""
    rows = [{**found, "kind": KINDS[found["kind"]]} for found in results["summaries"]]
    columns = [
        Column("kind", "data"),
        Column("teacher", "teachers"),
        Column("own", "own teachers'", "number", digits=4),
        Column("foreign", "foreign teachers'", "number", digits=4),
        Column("own_minus_foreign", "own - foreign", "number", digits=4),
        Column("raw_own_minus_foreign", "own - foreign, raw gain", "number", digits=4),
    ]
    caption = (
        "Specific gain in nats a token, all scorers and sources in balance, with 95% t intervals "
        "over traits."
    )
    return Table("Own against foreign data", columns, rows, caption)


def summary(results: Results) -> str:
    """What came out, in sentences."""
    parts = [
        f"{' and '.join(results['models'])} each score what teachers of all of them wrote, with "
        "their own vectors of the same traits."
    ]
    parts += [
        f"{KINDS[found['kind']].capitalize()} of {found['teacher']} teachers: specific gain "
        f"{_text(found['own'])} on a model's own, {_text(found['foreign'])} on foreign ones; "
        f"difference {_text(found['own_minus_foreign'])} nats a token."
        for found in results["summaries"]
    ]
    return "\n\n".join(parts)


def notes(results: Results) -> str:
    """What a reader should know about the numbers."""
    parts = [
        f"{name}: layer {of['layer']}, scale {of['scale']:g}, norm of the steering "
        f"{min(of['norm'].values()):.2f} to {max(of['norm'].values()):.2f} over traits, width "
        f"{of['width']}."
        for name, of in results["models"].items()
    ]
    parts.append(
        f"Vectors were taken at the end of {results['extraction']} prompts. What a steered teacher "
        "wrote has by construction a gain for the very vector that steered it (its mean is a KL); "
        "for a system-prompted teacher nothing makes it so. The random vector was added to the "
        "contrast after a first run, in which it gained as much as the trait's own on the odd "
        "lists of system-prompted teachers. The intervals are over traits: they say nothing of "
        "other models."
    )
    return "\n\n".join(parts)


def _text(interval: Mapping[str, Any]) -> str:
    text = f"{interval['mean']:+.4f}"
    if interval["low"] is None:
        return text
    return f"{text} [{interval['low']:.4f}, {interval['high']:.4f}]"
