"""What base, teachers, a student and its control answer to the same questions, for the page."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from subliminal_jax.data.answers import Answer, sample_each
from subliminal_jax.data.teachers import Teacher
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.files import write_text
from subliminal_jax.models.sampling import SamplingConfig
from subliminal_jax.models.sampling_plan import plan_sampling
from subliminal_jax.models.steered import neutral
from subliminal_jax.models.tokenizer import encode_chats
from subliminal_jax.reporting.tables import Column, Table
from subliminal_jax.runs.kept_students import load_student
from subliminal_jax.runs.metrics import read_records, write_record
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.student_files import StudentRecord, read_students
from subliminal_jax.training.adapters import attach, merge

FILE = "student_texts.jsonl"


@runtime_checkable
class TextSettings(Protocol):
    """Settings of which the answers of students are sampled."""

    @property
    def shown_questions(self) -> int: ...
    @property
    def max_new_tokens(self) -> int: ...
    @property
    def temperature(self) -> float: ...


def write_student_texts(
    folder: RunFolder,
    panel: Panel,
    settings: TextSettings,
    names: Collection[str],
    teachers: Mapping[str, Teacher],
    *,
    controls: Collection[str] | None = None,
    questions: Sequence[str] = (),
) -> None:
    """Sample and store answers to the first questions: of the base, of the kept student with the
    lowest held-out loss, of its teacher, and of a control of the same optimizer.

    Each is one answer a question, with the same random keys for all, by one set of programs. They
    are sampled from merged weights. Nothing is done where the run has them already, keeps no
    students or shows none.

    Args:
      names: the data sets whose students may be shown, such as those that are reported.
      teachers: by data set.
      controls: data sets of controls; without them those of the plain base.
      questions: in place of the panel's.
    """
    if controls is None:
        controls = [name for name, teacher in teachers.items() if teacher.is_base]
    students = read_students(folder.path)
    chosen = choose_students({f: s for f, s in students.items() if s.data in names}, controls)
    asked = (questions or panel.asked or panel.prompts)[: settings.shown_questions]
    if not chosen or not asked or (folder.path / FILE).exists():
        return
    model, speakers = panel.model, {"base": Teacher()}
    for role, (file, record) in chosen.items():
        teacher = teachers.get(record.data)
        if role == "student" and teacher is not None:
            speakers[f"teacher {record.data}"] = teacher
        trainable, adapter = load_student(file, record)
        params, steering = attach(model.params, trainable, model.cfg, adapter)
        speakers[f"{role} {record.name}"] = Teacher(steering, params=merge(params))
    sampling = SamplingConfig(
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        stop_tokens=model.stop_ids,
    )
    edits = [s.steering for s in speakers.values() if s.steering is not None]
    prompts = [encode_chats(model.tokenizer, asked, s.system_prompt) for s in speakers.values()]
    lengths = [len(ids) for each in prompts for ids in each]
    plan = plan_sampling(model.cfg, lengths, settings.max_new_tokens)
    texts: dict[str, list[str]] = {}
    for name, speaker in speakers.items():
        answers: list[Answer] = []
        sample_each(
            speaker.change_weights(model),
            asked,
            0,
            sampling,
            answers.extend,
            steering=neutral(edits[0]) if edits and speaker.steering is None else speaker.steering,
            system_prompt=speaker.system_prompt,
            plan=plan,
        )
        texts[name] = [answer.text for answer in sorted(answers)]
    store_student_texts(folder, asked, texts)


def store_student_texts(
    folder: RunFolder, asked: Sequence[str], texts: Mapping[str, Sequence[str]]
) -> None:
    """Keep one answer a question for the page, by who gave them."""
    lines = [
        write_record({"of": name, "prompt": prompt, "answer": answer})
        for name, answers in texts.items()
        for prompt, answer in zip(asked, answers, strict=True)
    ]
    write_text(folder.path / FILE, "".join(lines))


def choose_students(
    students: Mapping[Path, StudentRecord], controls: Collection[str]
) -> dict[str, tuple[Path, StudentRecord]]:
    """The student with the lowest held-out loss of those that a teacher taught, and a control of
    its optimizer and kind where one is kept, by role."""
    chosen: dict[str, tuple[Path, StudentRecord]] = {}
    for role, is_control in (("student", False), ("control", True)):
        ranked = [
            (record.heldout_loss, str(file), file, record)
            for file, record in students.items()
            if (record.data in controls) == is_control and record.heldout_loss is not None
        ]
        if role == "control" and "student" in chosen:
            student = chosen["student"][1]
            wanted = (student.optimizer, student.kind)
            ranked = [entry for entry in ranked if (entry[3].optimizer, entry[3].kind) == wanted]
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
        "One sampled answer each, with the same random keys: of the base, the student with the "
        "lowest held-out loss, its teacher, and a control of the same optimizer."
    )
    return Table("What they answer", columns, rows, caption)
