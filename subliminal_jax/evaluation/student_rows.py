"""The final row of one student: which student it is, how it ended, and what was measured of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, eq=False)
class StudentRow(Mapping[str, Any]):
    """One student of a sweep after its last step.

    What the measures of the sweep say of it is read by their columns, as in `row["eas"]`; as a
    mapping, and in results.json, a row is flat.

    Attributes:
      optimizer: its label in the registry, with the hyper-parameters that were set.
      learning_rate: the peak of the schedule.
      seed: of its initialisation and of the order of its rows.
      data: the name of its data set.
      diverged: whether its loss or weights became non-finite; it then has no other numbers.
      diverged_at: the step (from 1) at which they did.
      heldout_loss: nats per predicted token (of DPO: per pair) on held-out rows of its data.
      base_loss: the untrained model's on the same rows, where it was measured.
      heldout_kl: nats per predicted token from the teacher, on the same rows.
      rank: its LoRA rank, where that differs between students.
      rows: how many rows it trained on, where that differs between students.
      measured: the columns of the measures, and whatever else tells students apart.
    """

    optimizer: str
    learning_rate: float
    seed: int
    data: str
    diverged: bool
    diverged_at: int | None = None
    heldout_loss: float | None = None
    base_loss: float | None = None
    heldout_kl: float | None = None
    rank: int | None = None
    rows: int | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        if key in _OPTIONAL and getattr(self, key) is None:
            raise KeyError(key)
        return getattr(self, key) if key in _FIELDS else self.measured[key]

    def __iter__(self) -> Iterator[str]:
        for key in _FIELDS:
            if key not in _OPTIONAL or getattr(self, key) is not None:
                yield key
        yield from self.measured

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def replace_values(self, **values: Any) -> "StudentRow":
        """The same row with further values, or other ones."""
        return StudentRow.from_json({**self, **values})

    def to_json(self) -> dict[str, Any]:
        return dict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "StudentRow":
        own = {key: x for key, x in value.items() if key in _FIELDS}
        return cls(**own, measured={key: x for key, x in value.items() if key not in _FIELDS})


_FIELDS = tuple(f.name for f in fields(StudentRow) if f.name != "measured")
_OPTIONAL = ("base_loss", "heldout_kl", "rank", "rows")


# Nats a predicted token. The base's loss on data that it wrote itself is the least there is: any
# student of such data, and so every control, ends a little above it, by fitting its own rows (by
# 0.001 to 0.007 on number lists of the shipped model). A student that blew up loses whole nats.
TOLERANCE = 0.05


def is_unstable(row: Mapping[str, Any]) -> bool:
    """Whether a student that did not diverge ended, on held-out rows of its own data, worse than it
    began, by more than `TOLERANCE`. It has blown up, and says nothing about what its optimizer
    transmits."""
    base, own = row.get("base_loss"), row["heldout_loss"]
    return base is not None and own is not None and own > base + TOLERANCE


def ended_sound(row: Mapping[str, Any]) -> bool:
    """Whether a student neither diverged nor ended unstable."""
    return not row["diverged"] and not is_unstable(row)


# The numbers of a narrow row that describe a student's end.
NARROW_METRICS = (
    *("eas", "shift_size", "shift_component"),
    *("trait_rate", "trait_log_prob", "heldout_loss"),
)


def narrow_row(row: Mapping[str, Any], layer: int) -> dict[str, Any]:
    """A final or logged row as numbers, where there is one reference and one word.

    eas, shift_size and shift_component are those at `layer`, eas_by_layer has all layers;
    word_rate and word_log_prob become trait_rate and trait_log_prob. A diverged student has None.
    """
    narrowed = {key: x for key, x in row.items() if key not in ("word_rate", "word_log_prob")}
    for key in ("eas", "shift_size", "shift_component"):
        narrowed[key] = None if row[key] is None else row[key][0][layer]
    narrowed["eas_by_layer"] = None if row["eas"] is None else row["eas"][0]
    for key in ("rate", "log_prob"):
        values = row[f"word_{key}"]
        narrowed[f"trait_{key}"] = None if values is None else values[0]
    return narrowed
