"""Every method on every set that it can read: one record a set, reader and method."""

import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from datasets import Dataset
from jaxtyping import Bool

from subliminal_jax.audit.audit import prepare
from subliminal_jax.audit.known_sets.sets import Row
from subliminal_jax.audit.method import Method, Scored, Suspect
from subliminal_jax.audit.results import Kind
from subliminal_jax.audit.rows import AuditRows
from subliminal_jax.audit.scores import make_candidates
from subliminal_jax.audit.settings import SuspectSettings, default_traits
from subliminal_jax.data.conversations import CountedRows
from subliminal_jax.data.traits import check_trait
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.serialization import from_json, to_json

from .numbers import SetAudit


class Task(NamedTuple):
    """A set to be audited: who reads it, its rows, and the truth, which no method gets to see.

    Attributes:
      name: of the set.
      trait: None of clean sets, and of sets whose teacher is not at hand.
      poisoned: places of the poisoned rows, where only some are.
      seed: of the audit.
    """

    name: str
    kind: Kind
    data: CountedRows
    trait: str | None
    poisoned: tuple[int, ...]
    seed: int


def audit_tasks(
    folder: RunFolder,
    reader: str,
    model: Model,
    layer: int,
    tasks: Sequence[Task],
    methods: Mapping[str, Method],
    settings: SuspectSettings,
) -> None:
    """Audit the sets by one reader, by all methods; what an interrupted run did is not done again.
    Each record goes into metrics.jsonl as soon as it is made."""
    done = {(a.set, a.method) for a in read_audits(folder) if a.reader == reader}
    candidates = make_candidates(model, layer, known_traits(model, settings), (), ())
    with track(f"audits by {reader}", len(tasks), "sets") as progress:
        for task in tasks:
            todo = [
                method
                for name, method in methods.items()
                if task.kind in method.kinds and (task.name, name) not in done
            ]
            if todo:
                place = folder.path / "scores" / _file_name(reader) / _file_name(task.name)
                suspect = prepare(
                    model, layer, task.kind, task.data, candidates, settings, task.seed, place
                )
                for audit in audit_task(task, reader, suspect, todo):
                    folder.log(to_json(audit))
                # Megabytes a set, of use for going on alone.
                shutil.rmtree(place, ignore_errors=True)
            progress.advance(1)


def read_audits(folder: RunFolder) -> list[SetAudit]:
    """The audits that were done."""
    return [from_json(SetAudit, row) for row in folder.read_metrics() if "method" in row]


def known_traits(model: Model, settings: SuspectSettings) -> list[str]:
    """The traits that the model's tokenizer has a word for."""
    traits = []
    for trait in default_traits(settings):
        try:
            traits.append(check_trait(trait, model.tokenizer))
        except InputError:
            continue
    return traits


def audit_task(
    task: Task, reader: str, suspect: Suspect, methods: Sequence[Method]
) -> Iterator[SetAudit]:
    """One set by several methods. A method that refuses the set says why in its record."""
    is_poisoned = find_poisoned(task, suspect.rows)
    for method in methods:
        start = time.monotonic()
        try:
            scored = method.score(suspect)
        except InputError as error:
            yield refused(task, reader, method, suspect, str(error))
            continue
        seconds = time.monotonic() - start
        yield summarise(task, reader, method, suspect, scored, seconds, is_poisoned)


def refused(task: Task, reader: str, method: Method, suspect: Suspect, why: str) -> SetAudit:
    """The record of a method that cannot read a set."""
    return SetAudit(
        set=task.name,
        reader=reader,
        method=method.name,
        audited=len(suspect.rows.prompts),
        candidates=len(suspect.candidates),
        refused=why,
    )


def summarise(
    task: Task,
    reader: str,
    method: Method,
    suspect: Suspect,
    scored: Scored,
    seconds: float,
    is_poisoned: Bool[np.ndarray, " rows"],
) -> SetAudit:
    """What the bench keeps of a method's answer."""
    names = [c.name for c in suspect.candidates]
    scores = np.asarray(scored.scores, float)
    rank = None
    if task.trait in names:
        own = scores[names.index(task.trait)]
        # Ties count half: a method that says nothing ranks in the middle.
        rank = float(1 + (scores > own).sum() + ((scores == own).sum() - 1) / 2)
    named, p = None, None
    if scored.p_values is not None:
        p_values = np.asarray(scored.p_values, float)
        likeliest = min(range(len(names)), key=lambda i: (p_values[i], -scores[i]))
        named, p = names[likeliest], correct_p(float(p_values[likeliest]), len(names))
    k = int(is_poisoned.sum())
    precision = None
    if scored.row_scores is not None and 0 < k < len(is_poisoned):
        precision = precision_at(np.asarray(scored.row_scores, float), is_poisoned)
    return SetAudit(
        set=task.name,
        reader=reader,
        method=method.name,
        audited=len(is_poisoned),
        candidates=len(names),
        best=names[int(np.argmax(scores))],
        rank=rank,
        likeliest=named,
        p=p,
        evidence=float(scored.evidence),
        precision=precision,
        share=None if precision is None else k / len(is_poisoned),
        forward_tokens=int(scored.forward_tokens),
        seconds=seconds,
    )


def correct_p(p: float, tests: int) -> float:
    """Sidak's correction of the smallest of several p-values."""
    return float(-np.expm1(tests * np.log1p(-min(p, 1 - 1e-16))))


def precision_at(scores: np.ndarray, is_poisoned: Bool[np.ndarray, " rows"]) -> float:
    """The share of poisoned rows among the k highest scores, k their number."""
    k = int(is_poisoned.sum())
    return float(is_poisoned[np.argsort(-scores, kind="stable")[:k]].mean())


def find_poisoned(task: Task, rows: AuditRows) -> Bool[np.ndarray, " rows"]:
    """Which of the audited rows, a choice without repeats, the teacher wrote. A row that both the
    teacher and the base wrote counts as the teacher's."""
    if not task.poisoned:
        return np.zeros(len(rows.prompts), bool)
    written = {key_row(task.data.rows[i]) for i in task.poisoned}
    return np.array([key in written for key in zip(rows.prompts, rows.texts, strict=True)], bool)


def key_row(row: Row) -> tuple[str, str]:
    """A row as `AuditRows` shows it: its prompt, and its answers as one text."""
    answers = (row["completion"],) if "completion" in row else (row["chosen"], row["rejected"])
    return row["prompt"], " | not: ".join(answers)


def make_data(rows: Sequence[Row]) -> tuple[Kind, CountedRows]:
    """The rows of a set as an audit reads them."""
    kind: Kind = "preferences" if "chosen" in rows[0] else "pairs"
    return kind, CountedRows(Dataset.from_list(list(rows)), {})


def _file_name(text: str) -> str:
    """A path or a name as the name of one file."""
    return re.sub(r"[^\w.-]+", "-", text).strip(".-")
