"""`trait-transmission` through the command line, on a model that writes number lists."""

import json
import shutil

import pytest

from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "trait-transmission",
    "--traits owl cat --rows 24 --heldout-rows 8 --asked 4 --max-new-tokens 12 --steps 4 "
    "--log-every 4 --batch-size 4 --seeds 2 --rates adamw=0.01,0.1 --measures update-anatomy",
)


def test_every_trait_and_teacher_is_held_against_the_controls_of_the_same_seed(results):
    students = {(r["data"], r["learning_rate"], r["seed"]): r for r in results["students"]}
    assert len(students) == 5 * 2 * 2  # data sets, rates, seeds
    animals = list(results["base"])
    for kind in ("steered", "system-prompt"):
        made = results["kinds"][kind]["adamw"]
        for trait in ("owl", "cat"):
            i, rate = animals.index(trait), made["learning_rate"]
            expected = [
                students[f"{kind}:{trait}", rate, s]["word_rate"][i]
                - students["control", rate, s]["word_rate"][i]
                for s in (0, 1)
            ]
            found = made["rate"]["traits"][f"{kind}:{trait}"]
            assert found["values"] == pytest.approx(expected)
            assert found["interval"]["mean"] == pytest.approx(sum(expected) / 2)


def test_the_best_rate_has_the_lowest_held_out_loss_of_the_kinds_own_students(results):
    for kind in ("steered", "system-prompt"):
        losses: dict[float, list[float]] = {}
        for r in results["students"]:
            if r["data"].startswith(kind):
                losses.setdefault(r["learning_rate"], []).append(r["heldout_loss"])
        best = min(losses, key=lambda rate: sum(losses[rate]))
        assert results["kinds"][kind]["adamw"]["learning_rate"] == best


def test_claims_are_complete_and_the_page_is_written(folder, results):
    assert {c["id"] for c in results["claims"]} == {
        f"trait-transmission/{kind}{end}"
        for kind in ("steered", "system-prompt")
        for end in ("", "-eas")
    }
    check_page(folder)


def test_a_measure_that_is_asked_for_reaches_rows_results_and_page(folder, results):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all("update_cosine" in line for line in lines)
    assert all("update_cosine" in row for row in results["students"])
    assert {row["data"] for row in results["measures"]} == {row["data"] for row in lines}
    assert "Measures: update-anatomy" in (folder / "report.html").read_text()


def test_a_page_that_says_otherwise_than_its_results_is_found(folder, results, tmp_path):
    page = (folder / "report.html").read_text()
    shown = f"{results['base']['owl']:.1%}"
    assert shown in page
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "report.html").write_text(page.replace(shown, "98.7%"))
    with pytest.raises(AssertionError, match=r"98\.7%"):
        check_page(tmp_path / "run")


def test_the_same_command_again_neither_samples_nor_trains(repeat):
    assert "sampling" not in repeat()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--traits zyzzyva", "zyzzyva"),
        ("--traits owl owl", "twice"),
        ("--teachers hypnosis", "hypnosis"),
        ("--questions no-such-file.txt", "no-such-file.txt"),
        ("--rates adamw=fast", "adamw=fast"),
        ("--preset paper-gpt5", "paper-gpt5"),
        ("--measures mood", "--measures mood is not valid: choose from alignment"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
