"""What base, teachers, a student and its control answer to the same questions, for the page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from subliminal_jax.data.answers import Answer, sample_each
from subliminal_jax.data.teachers import Teacher
from subliminal_jax.errors import InputError
from subliminal_jax.files import write_text
from subliminal_jax.models.hub import Model
from subliminal_jax.models.sampling import SamplingConfig
from subliminal_jax.reporting.tables import Column, Table
from subliminal_jax.runs.kept_students import load_student
from subliminal_jax.runs.metrics import read_records, write_record
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import DataSettings
from subliminal_jax.runs.student_files import StudentRecord, read_students
from subliminal_jax.training.adapters import attach, merge

FILE = "student_texts.jsonl"
ASKED = 3  # questions


def write_student_texts(
    folder: RunFolder,
    model: Model,
    teachers: Mapping[str, Teacher],
    questions: Sequence[str],
    settings: DataSettings,
) -> None:
    """Sample and store answers to the first questions: of the base, of each teacher, of the kept
    student with the lowest held-out loss, and of the control of the same optimizer.

    Each is one answer a question, with the same random keys for all. They are sampled as the data
    were, from merged weights, so that the programs that wrote these serve here, too. Nothing is
    done where the run has them already, or keeps no students.
    """
    chosen = choose_students(read_students(folder.path))
    if not chosen or (folder.path / FILE).exists():
        return
    speakers = {"base": Teacher(), **{f"teacher {name}": t for name, t in teachers.items()}}
    for role, (file, record) in chosen.items():
        trainable, adapter = load_student(file, record)
        params, steering = attach(model.params, trainable, model.cfg, adapter)
        speakers[f"{role} {record.name}"] = Teacher(steering, params=merge(params))
    sampling = SamplingConfig(
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        stop_tokens=model.stop_ids,
    )
    lines = []
    for name, speaker in speakers.items():
        answers: list[Answer] = []
        sample_each(
            speaker.change_weights(model),
            questions[:ASKED],
            0,
            sampling,
            answers.extend,
            steering=speaker.steering,
            system_prompt=speaker.system_prompt,
        )
        for answer in sorted(answers):
            asked = questions[answer.request]
            lines.append(write_record({"of": name, "prompt": asked, "answer": answer.text}))
    write_text(folder.path / FILE, "".join(lines))


def choose_students(
    students: Mapping[Path, StudentRecord],
) -> dict[str, tuple[Path, StudentRecord]]:
    """The student with the lowest held-out loss of those that a teacher taught, and a control of
    its optimizer where one is kept, by role."""
    chosen: dict[str, tuple[Path, StudentRecord]] = {}
    for role, is_control in (("student", False), ("control", True)):
        ranked = [
            (record.heldout_loss, str(file), file, record)
            for file, record in students.items()
            if record.is_control == is_control and record.heldout_loss is not None
        ]
        if role == "control" and "student" in chosen:
            optimizer = chosen["student"][1].optimizer
            ranked = [entry for entry in ranked if entry[3].optimizer == optimizer]
        if ranked:
            _, _, file, record = min(ranked, key=lambda entry: entry[:2])
            chosen[role] = file, record
    return chosen


def read_student_texts(folder: Path) -> Table | None:
    """The stored answers, question by question; None for a run without them, or where they are
    damaged."""
    try:
        records = read_records(folder / FILE)
        rows = [{key: record[key] for key in ("prompt", "of", "answer")} for record in records]
    except (InputError, KeyError):
        return None
    if not rows:
        return None
    order = list(dict.fromkeys(row["prompt"] for row in rows))
    rows.sort(key=lambda row: order.index(row["prompt"]))
    columns = [Column("prompt", "question"), Column("of", "who"), Column("answer", "answer")]
    caption = (
        "One sampled answer each, with the same random keys: of the base, the teachers, the "
        "student with the lowest held-out loss and a control of its optimizer."
    )
    return Table("What they answer", columns, rows, caption)
