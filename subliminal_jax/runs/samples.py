"""A few of the texts that teachers and the base wrote, from the answers in a run's folder."""

from pathlib import Path

from subliminal_jax.errors import InputError
from subliminal_jax.reporting.tables import Column, Table
from subliminal_jax.runs.metrics import read_records

ROWS, SETS = 3, 6  # shown of one data set; data sets


def read_samples(folder: Path) -> Table | None:
    """The first answers of a control and of one data set of each kind (`steered`, `system-prompt`),
    as they were sampled; None for a run without data sets. Damaged ones are left out."""
    places = {name_data_set(folder, file): file for file in sorted(folder.rglob("data/*.jsonl"))}
    rows = []
    shown: set[str] = set()
    for name in sorted(places, key=lambda name: ("control" not in name, name)):
        kind = "control" if "control" in name else name.rpartition("/")[2].partition(":")[0]
        if kind in shown or len(shown) == SETS:
            continue
        try:
            answers = sorted(read_records(places[name]), key=lambda answer: answer["request"])
            texts = [{key: a[key] for key in ("prompt", "completion")} for a in answers[:ROWS]]
        except (InputError, KeyError, TypeError):
            continue
        shown.add(kind)
        kept = [{"kept": a.get("why", a.get("kept"))} for a in answers[:ROWS]]
        rows += [{"data": name, **a, **b} for a, b in zip(texts, kept, strict=True)]
    if not rows:
        return None
    columns = [
        Column("data", "data set"),
        Column("prompt", "prompt"),
        Column("completion", "text"),
        Column("kept", "kept, or why not"),
    ]
    caption = (
        "The first answers of a control (the base as it is) and of one teacher of each kind, as "
        "they were sampled, before any filter."
    )
    return Table("What teachers and the base wrote", columns, rows, caption)


def name_data_set(folder: Path, file: Path) -> str:
    """The name of a data set by the file of its answers in a run's folder."""
    place = file.relative_to(folder).with_suffix("")
    return "/".join(part for part in place.parts if part != "data")
