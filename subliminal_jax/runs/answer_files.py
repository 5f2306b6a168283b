"""What teachers answered, a JSON line each: written while they answer, read when a run goes on.

A line has `prompt`, `completion`, the request's number, its tokens, and whether the answer `ended`;
once it is known also whether it is `kept`, and if not `why`.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from subliminal_jax import processes
from subliminal_jax.data.answers import Answer
from subliminal_jax.errors import InputError
from subliminal_jax.files import write_text
from subliminal_jax.ledger import check_written
from subliminal_jax.runs.metrics import append_line, read_records, repair_lines, write_record
from subliminal_jax.seals import set_aside


class AnswerFile:
    """The answers of one teacher to some prompts; several processes of a run share it."""

    def __init__(self, path: Path, prompts: Sequence[str], keep_unfinished: bool):
        self.path, self.prompts, self.keep_unfinished = path, prompts, keep_unfinished

    def count(self) -> int:
        """How many answers there are, of these prompts or of more."""
        return int(processes.run_on_first(lambda: _count_lines(self.path)))

    def read(self) -> list[Answer]:
        """The answers so far, in the order of their requests.

        A damaged file, or one of other prompts, is set aside with a warning: nothing of it is read.
        """
        records = processes.run_on_first(self._read_records)
        answers = [
            Answer(r["request"], r["completion_ids"], r["completion"], r["ended"]) for r in records
        ]
        return sorted(answers, key=lambda answer: answer.request)

    def append(self, answers: Sequence[Answer]) -> None:
        """Write further answers."""
        if not processes.is_first():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        append_line(self.path, "".join(write_record(self._describe(a)) for a in answers))

    def mark(self, reasons: Mapping[int, str | None]) -> None:
        """Write beside each answer of these requests whether it is kept, or why not."""

        def rewrite() -> None:
            old = read_records(self.path)
            new = [
                _mark(record, reasons[record["request"]])
                if record["request"] in reasons
                else record
                for record in old
            ]
            if new != old:
                write_text(self.path, "".join(map(write_record, new)))

        processes.run_on_first(rewrite)

    def _describe(self, answer: Answer) -> dict[str, Any]:
        record = {
            "prompt": self.prompts[answer.request],
            "completion": answer.text,
            "request": answer.request,
            "completion_ids": answer.tokens,
            "ended": answer.ended,
        }
        reason = answer.find_reason(self.keep_unfinished)
        return record if reason is None else _mark(record, reason)

    def _read_records(self) -> list[dict[str, Any]]:
        if not os.path.lexists(self.path):
            return []
        check_written(self.path)
        try:
            repair_lines(self.path)
            records = read_records(self.path)
            for record in records:
                request = record["request"]
                if request < len(self.prompts) and record["prompt"] != self.prompts[request]:
                    raise InputError("its prompts are other ones")
        except (InputError, KeyError, TypeError) as error:
            aside = set_aside(self.path).name
            warnings.warn(
                f"{self.path} is set aside as {aside} and sampled anew: {error}", stacklevel=2
            )
            return []
        return [record for record in records if record["request"] < len(self.prompts)]


def _mark(record: dict[str, Any], reason: str | None) -> dict[str, Any]:
    rest = {key: value for key, value in record.items() if key not in ("kept", "why")}
    return rest | ({"kept": True} if reason is None else {"kept": False, "why": reason})


def _count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0
