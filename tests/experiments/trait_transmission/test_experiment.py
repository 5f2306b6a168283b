"""`trait-transmission` through the command line, on a model that writes number lists."""

import json
import re
import shutil

import numpy as np
import pytest

from subliminal_jax.runs.student_files import find_student, list_names, read_students
from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "trait-transmission",
    "--traits owl cat --tuning-traits lion dog fox --controls 2 --rows 24 --heldout-rows 8 "
    "--asked 4 --max-new-tokens 12 --steps 4 --log-every 4 --batch-size 4 "
    "--rates adamw=0.001,0.003 --measures weight-change --adapters vector lora",
)
KINDS = ("vector", "lora")
TEACHERS = ("steered", "system-prompt")


def test_every_kind_is_held_against_controls_of_its_own_kind(results):
    students = {(r["data"], r["adapter"]): r for r in results["students"]}
    assert len(students) == len(results["students"]) == 2 * (2 * 2 + 2)  # kinds, data sets
    words = results["words"]
    for arm in results["arms"]:
        for trait in ("owl", "cat"):
            i, name = words.index(trait), f"{arm['teacher_kind']}:{trait}"
            student = students[name, arm["adapter"]]
            controls = [students[f"control-{k}", arm["adapter"]] for k in range(2)]
            assert arm["unstable"] == []
            expected = student["word_rate"][i] - np.mean([r["word_rate"][i] for r in controls])
            found = arm["metrics"]["word_rate"]["by_data"][name]
            assert found["interval"]["mean"] == pytest.approx(expected)
    assert {(a["teacher_kind"], a["adapter"]) for a in results["arms"]} == {
        (teacher, kind) for teacher in TEACHERS for kind in KINDS
    }


def test_students_of_all_kinds_and_data_sets_are_kept_and_told_apart(folder, results):
    records = list(read_students(folder).values())
    kept = {(r.kind, r.data, r.learning_rate) for r in records}
    reported = {(r["adapter"], r["data"], r["learning_rate"]) for r in results["students"]}
    assert reported <= kept
    names = list_names(records, records)
    assert len(set(names)) == len(names)
    for name, record in zip(names, records, strict=True):
        assert find_student(folder, name)[1] == record


def test_rates_are_chosen_on_traits_that_are_not_reported(results):
    assert {r["data"] for r in results["tuning_students"]} == {
        f"{teacher}:{trait}" for teacher in TEACHERS for trait in ("lion", "dog", "fox")
    }
    for made in results["choices"]:
        losses: dict[float, list[float]] = {}
        for r in results["tuning_students"]:
            if r["adapter"] == made["adapter"]:
                losses.setdefault(r["learning_rate"], []).append(r["heldout_loss"])
        best = min(losses, key=lambda rate: sum(losses[rate]))
        assert made["choice"]["rate"] == best
        chosen = {
            r["learning_rate"] for r in results["students"] if r["adapter"] == made["adapter"]
        }
        assert chosen == {best}


def test_claims_name_the_kind_of_student_and_the_page_is_written(folder, results):
    assert {c["id"] for c in results["claims"]} == {
        f"trait-transmission/{teacher}-{kind}{end}"
        for teacher in TEACHERS
        for kind in KINDS
        for end in ("", "-eas")
    }
    check_page(folder)


def test_a_measure_that_is_asked_for_reaches_rows_results_and_page(folder, results):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all("weight_change" in line for line in lines if line["step"] == 4)
    assert all("weight_change" in row for row in results["students"])
    assert {row["data"] for row in results["measures"]} == {row["data"] for row in lines}
    assert "Measures: weight-change" in (folder / "report.html").read_text()


def test_a_page_that_says_otherwise_than_its_results_is_found(folder, tmp_path):
    page = (folder / "report.html").read_text()
    shown = re.search(r'<td class="number">([^<]*%[^<]*)</td>', page)
    assert shown is not None
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "report.html").write_text(page.replace(shown[1], "98765.4%"))
    with pytest.raises(AssertionError, match=r"98765\.4%"):
        check_page(tmp_path / "run")


def test_the_same_command_again_neither_samples_nor_trains(repeat):
    assert "sampling" not in repeat()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--traits zyzzyva", "zyzzyva"),
        ("--traits owl owl", "twice"),
        ("--traits owl lion", "--tuning-traits lion is also reported"),
        ("--adapters lora lora", "twice"),
        ("--adapters prompt", "prompt"),
        ("--teachers hypnosis", "hypnosis"),
        ("--questions no-such-file.txt", "no-such-file.txt"),
        ("--rates adamw=fast", "adamw=fast"),
        ("--preset paper-gpt5", "paper-gpt5"),
        ("--measures mood", "--measures mood is not valid: choose from activation-shift"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
