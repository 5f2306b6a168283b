"""A few of the texts that teachers and the base wrote, from the data sets in a run's folder."""

from pathlib import Path

from datasets import load_from_disk

from subliminal_jax.reporting.tables import Column, Table
from subliminal_jax.seals import find_damage

ROWS, SETS = 3, 6  # shown of one data set; data sets


def read_samples(folder: Path) -> Table | None:
    """The first pairs of a control and of one data set of each kind (`steered`, `system-prompt`),
    as they were sampled; None for a run without data sets. Damaged ones are left out."""
    places = {name_data_set(folder, info.parent): info.parent for info in _find_sets(folder)}
    rows = []
    shown: set[str] = set()
    for name in sorted(places, key=lambda name: ("control" not in name, name)):
        kind = "control" if "control" in name else name.rpartition("/")[2].partition(":")[0]
        if kind in shown or len(shown) == SETS or find_damage(places[name]):
            continue
        pairs = load_from_disk(str(places[name]), keep_in_memory=True)
        if {"prompt", "completion"} <= set(pairs.column_names):
            shown.add(kind)
            rows += [{"data": name, **pair} for pair in pairs.select(range(min(ROWS, len(pairs))))]
    if not rows:
        return None
    columns = [Column("data", "data set"), Column("prompt", "prompt"), Column("completion", "text")]
    caption = (
        "The first answers of a control (the base as it is) and of one teacher of each kind, as "
        "they were sampled, before any filter."
    )
    return Table("What teachers and the base wrote", columns, rows, caption)


def name_data_set(folder: Path, place: Path) -> str:
    """The name of a data set by its place in a run's folder."""
    return "/".join(
        part for part in place.relative_to(folder).parts if part not in ("data", "texts")
    )


def _find_sets(folder: Path) -> list[Path]:
    return sorted(folder.rglob("dataset_info.json"))
