"""The files of the students that a run keeps, and how one of them is found by its name.

`students/STAGE/NUMBER.safetensors` in the run's folder holds the trained tensors of one student;
its header says which student it is and what it belongs to. Needs no JAX, so that a command can
refuse a name before it imports any.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

from subliminal_jax.errors import InputError
from subliminal_jax.ledger import Ledger
from subliminal_jax.reading import parse_json
from subliminal_jax.serialization import from_json
from subliminal_jax.tensor_files import open_tensors

KeptStudents = Literal["none", "best", "all"]  # which students stay in the folder of a run
STUDENTS = "students"  # the folder in that of a run
RECORD = "subliminal_jax.student.1"  # the key of the header
CLOSE = 1e-3  # learning rates as pages and lists print them
MOST_LISTED = 30  # names in a message
_CONTROL = re.compile(r"control(-[0-9]+)?")  # data sets that the plain base wrote


@dataclass(frozen=True)
class Base:
    """The model that a student was trained from.

    Attributes:
      name: as vectors and adapters name it.
      source: what it is loaded from: a shipped model's or the hub's name, or a folder.
      folder: where its files lay.
      dtype: of its weights.
      layers: how many of its blocks were taken, from the first.
      digest: of its weights (`fingerprints.weights_digest`).
      quantize: how the matrices of its blocks were held.
    """

    name: str
    source: str
    folder: str
    dtype: str
    layers: int
    digest: str
    quantize: Literal["none", "int8"] = "none"


@dataclass(frozen=True)
class StudentRecord:
    """Which student a file holds.

    Attributes:
      stage: of the run that trained it.
      rank, rows: where they differ between the students of a stage.
      kind: what was trained.
      lora_rank, alpha, rslora, targets, layers: of LoRA; `layers` empty means all.
      layer: the steering layer of a vector.
    """

    optimizer: str
    learning_rate: float
    seed: int
    data: str
    stage: str
    steps: int
    heldout_loss: float | None
    base: Base
    kind: Literal["lora", "full", "vector"]
    rank: int | None = None
    rows: int | None = None
    lora_rank: int | None = None
    alpha: float | None = None
    rslora: bool = False
    targets: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    layer: int | None = None

    @property
    def name(self) -> str:
        """optimizer/rate/seed/data."""
        return f"{self.optimizer}/{self.learning_rate:.6g}/{self.seed}/{self.data}"

    @property
    def further_parts(self) -> tuple[str, ...]:
        """What tells students of one name apart."""
        numbers = {"rank": self.rank, "rows": self.rows}
        return (self.stage, *(f"{key}={n}" for key, n in numbers.items() if n is not None))

    @property
    def is_control(self) -> bool:
        return _CONTROL.fullmatch(self.data) is not None

    def matches(self, name: str) -> bool:
        """Whether `name` is optimizer/rate/seed, with any of data set and further parts in order.

        Rates match as they are printed.
        """
        optimizer, _, rest = name.partition("/")
        rate, _, rest = rest.partition("/")
        seed, _, rest = rest.partition("/")
        try:
            is_rate = math.isclose(float(rate), self.learning_rate, rel_tol=CLOSE)
        except ValueError:
            return False
        if not is_rate or (optimizer, seed) != (self.optimizer, str(self.seed)):
            return False
        parts = (self.data, *self.further_parts)
        chosen = (c for n in range(len(parts) + 1) for c in combinations(parts, n))
        return any("/".join(c) == rest for c in chosen)


def read_students(run: Path) -> dict[Path, StudentRecord]:
    """The students that the run in the folder keeps, by file, sorted.

    Raises InputError for a folder that is no run's, and for a damaged file.
    """
    if not run.is_dir():
        raise InputError(f"{run}: no such folder")
    ledger = Ledger.read(run)
    if ledger is None:
        raise InputError(f"{run} is no folder of a run: name the one that its --out said")
    files = sorted(run.glob(f"{STUDENTS}/*/*.safetensors"))
    return {file: _read_record(file) for file in files if ledger.owns(file)}


def find_student(run: Path, name: str) -> tuple[Path, StudentRecord]:
    """The file and the record of the student called `name` (`StudentRecord.matches`).

    Where students of a teacher and controls share the name, it is the former's.

    Raises InputError as `read_students` does, for a run without students, and for a name of none
    or of several; lists what there is.
    """
    students = read_students(run)
    if not students:
        raise InputError(
            f"{run} keeps no students: remove its results.json and repeat its command with "
            "--save-students best, which goes on from its checkpoints"
        )
    matching = {file: record for file, record in students.items() if record.matches(name)}
    if len(matching) > 1:
        taught = {file: r for file, r in matching.items() if not r.is_control}
        matching = taught or matching
    if len(matching) == 1:
        return next(iter(matching.items()))
    problem = "is none of the students that it keeps (--save-students)"
    if matching:
        problem = "fits several students"
    listed = list_names(list((matching or students).values()), list(students.values()))
    shown = ", ".join(listed[:MOST_LISTED])
    more = f", and {len(listed) - MOST_LISTED} more" if len(listed) > MOST_LISTED else ""
    raise InputError(f"{run}: {name!r} {problem}: {shown}{more}")


def describe_students(run: Path) -> str | None:
    """How many students a run keeps, where, and how large they are; None for none."""
    sizes = [file.stat().st_size for file in run.glob(f"{STUDENTS}/*/*.safetensors")]
    if not sizes:
        return None
    return f"students: {len(sizes)} in {run / STUDENTS} ({sum(sizes) / 1e6:.2g} MB), for export"


def list_names(records: Sequence[StudentRecord], among: Sequence[StudentRecord]) -> list[str]:
    """The names of students, with their further parts where `among` others have the same name."""
    counts = Counter(record.name for record in among)
    return ["/".join((r.name, *r.further_parts)) if counts[r.name] > 1 else r.name for r in records]


def _read_record(file: Path) -> StudentRecord:
    with open_tensors(file) as (_, metadata):
        if RECORD not in metadata:
            raise InputError(f"{file}: no student of this version; train it again")
        return from_json(StudentRecord, parse_json(metadata[RECORD], str(file)), str(file))
