"""A page shows what teachers and the base wrote, where the run's folder holds it whole."""

from pathlib import Path

from subliminal_jax.runs.metrics import write_record
from subliminal_jax.runs.samples import ROWS, read_samples
from subliminal_jax.runs.student_files import Base, StudentRecord
from subliminal_jax.runs.student_texts import FILE, choose_students, read_student_texts
from tests.pages import read_table


def write_set(folder, name, word):
    """Answers in the order in which batches came back; the first request's is not kept."""
    marks = [{"kept": False, "why": "unfinished"}, *[{"kept": True}] * (ROWS + 1)]
    lines = [
        write_record({"prompt": f"{i}?", "completion": f"{word} {i}", "request": i, **mark})
        for i, mark in enumerate(marks)
    ]
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "data" / f"{name}.jsonl").write_text("".join(reversed(lines)))


def test_a_control_and_one_data_set_of_each_kind_are_shown(tmp_path):
    for name in ("steered:cat", "steered:owl", "control-1", "control-0"):
        write_set(tmp_path / "layer-1", name, name)
    rows = read_table(read_samples(tmp_path))
    assert [row["data set"] for row in rows] == ["layer-1/control-0"] * ROWS + [
        "layer-1/steered:cat"
    ] * ROWS
    assert rows[0]["prompt"] == "0?" and rows[0]["text"] == "control-0 0"
    assert [row["kept, or why not"] for row in rows[:ROWS]] == ["unfinished", "yes", "yes"]


def test_a_damaged_data_set_and_a_run_without_any_show_nothing(tmp_path):
    assert read_samples(tmp_path) is None
    write_set(tmp_path, "control", "a")
    file = tmp_path / "data" / "control.jsonl"
    file.write_text(file.read_text().replace("a 3", "b 3"))
    assert read_samples(tmp_path) is None


def test_a_student_and_a_control_of_its_optimizer_and_kind_are_shown():
    base = Base("m", "m", "m", "float32", 2, "d")
    places = {}
    for name, kind, loss in (
        ("sgd/0.1/0/owl", "lora", 2.0),
        ("adamw/0.1/0/owl", "lora", 1.0),
        ("adamw/0.1/0/owl", "full", None),  # its held-out rows were not measured
        ("adamw/0.1/0/control-0", "full", 0.1),
        ("sgd/0.1/0/control-0", "lora", 0.2),
        ("adamw/0.2/0/control-0", "lora", 0.9),
        ("adamw/0.1/0/control-0", "lora", 0.8),
    ):
        optimizer, rate, seed, data = name.split("/")
        places[Path(f"{len(places)}")] = StudentRecord(
            optimizer, float(rate), int(seed), data, "s", 4, loss, base, kind
        )
    chosen = choose_students(places, ["control-0"])
    assert {role: str(file) for role, (file, _) in chosen.items()} == {
        "student": "1",
        "control": "6",
    }
    alone = {file: record for file, record in places.items() if record.optimizer != "adamw"}
    assert choose_students(alone, [])["student"][1].data == "control-0"


def test_answers_of_students_stand_question_by_question_and_not_where_they_are_damaged(tmp_path):
    assert read_student_texts(tmp_path) is None
    said = [("base", "a?"), ("base", "b?"), ("student x", "a?"), ("student x", "b?")]
    lines = [write_record({"of": of, "prompt": q, "answer": of + q}) for of, q in said]
    (tmp_path / FILE).write_text("".join(lines))
    rows = read_table(read_student_texts(tmp_path))
    assert [(row["question"], row["who"]) for row in rows] == [
        ("a?", "base"),
        ("a?", "student x"),
        ("b?", "base"),
        ("b?", "student x"),
    ]
    (tmp_path / FILE).write_text("".join(lines).replace("student xb", "student yb"))
    assert read_student_texts(tmp_path) is None
