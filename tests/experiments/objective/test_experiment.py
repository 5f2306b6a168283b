"""`objective` from the command line to its page, on a model of 16 dimensions."""

import numpy as np
import pytest

from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "objective",
    "--traits owl --tuning-traits lion --controls 2 --adapters vector --sizes 2 16 --rows 24 "
    "--teachers steered random system-prompt "
    "--heldout-rows 8 --asked 5 --max-new-tokens 12 --max-tokens 48 --steps 4 --log-every 4 "
    "--batch-size 4 --rates adamw=0.01,0.03 --gradient-rows 8 --layer 0",
)
TEACHERS = ("steered", "random", "system-prompt")
LOSS = {"cross_entropy": "heldout_loss", "kl": "heldout_kl"}


def test_every_objective_teacher_and_size_has_its_students(results):
    keys = ("objective", "data", "rows", "adapter")
    cells = {tuple(row[k] for k in keys) for row in results["students"]}
    assert len(cells) == len(results["students"]) == 2 * (3 + 2) * 2
    arms = {(arm["objective"], arm["teacher"], arm["rows"]) for arm in results["arms"]}
    assert arms == {(o, t, n) for o in LOSS for t in TEACHERS for n in (2, 16)}
    # The shift that is measured of a steered teacher is its vector, but for rounding.
    lengths = results["lengths"]
    assert lengths["random-owl"] == pytest.approx(lengths["steered-owl"], rel=1e-5)


def test_each_objective_chooses_its_rate_by_its_own_loss_on_a_trait_that_is_not_reported(results):
    assert {r["data"] for r in results["tuning_students"]} == {
        "steered-lion",
        "system-prompt-lion",
    }
    for made in results["choices"]:
        losses: dict[float, list[float]] = {}
        for row in results["tuning_students"]:
            if (row["objective"], row["rows"]) == (made["objective"], made["rows"]):
                value = row[LOSS[made["objective"]]]
                losses.setdefault(row["learning_rate"], []).append(value)
        best = min(losses, key=lambda rate: sum(losses[rate]))
        assert made["choice"]["rate"] == best


def test_students_are_held_against_the_controls_of_their_objective_and_rows(results):
    rows = {(r["objective"], r["rows"], r["data"]): r for r in results["students"]}
    i = results["words"].index("owl")
    for arm in results["arms"]:
        if arm["teacher"] == "random":
            assert "word_rate" not in arm["metrics"]
            continue
        which = arm["objective"], arm["rows"]
        name = f"{arm['teacher']}-owl"
        expected = rows[*which, name]["word_rate"][i] - np.mean(
            [rows[*which, f"control-{k}"]["word_rate"][i] for k in range(2)]
        )
        found = arm["metrics"]["word_rate"]["by_data"][name]["interval"]["mean"]
        assert found == pytest.approx(expected, abs=1e-9)


def test_a_student_of_the_plain_models_distribution_hardly_moves(results):
    """Its gradient is zero but for rounding, which Adam takes for a direction."""
    soft, hard = (
        [
            row["heldout_kl"]
            for row in results["students"]
            if row["data"].startswith("control") and row["objective"] == objective
        ]
        for objective in ("kl", "cross_entropy")
    )
    assert np.mean(np.abs(soft)) < 0.5 * np.mean(hard)
    assert max(abs(x) for n, x in results["base_kl"].items() if n.startswith("control")) < 1e-5


def test_first_gradients_are_cosines_of_every_trait(results):
    for row in results["gradients"]:
        assert len(row["values"]) == 1 and np.abs(row["values"]).max() <= 1 + 1e-9
        assert row["cosine"]["mean"] == pytest.approx(np.mean(row["values"]))
    assert {row["n"] for row in results["gradients"]} == {1, 2, 4, 8}


def test_claims_are_complete_and_the_page_holds_the_results(folder, results):
    students = ("few-samples", "names-trait-cross-entropy", "names-trait-kl")
    assert [claim["id"] for claim in results["claims"]] == [
        f"objective/{name}"
        for kind in ("vector", "system-prompt")
        for name in (
            *(f"{each}-{kind}-vector" for each in students),
            f"collinear-gradients-{kind}",
            f"fisher-direction-{kind}",
        )
    ]
    check_page(folder)


def test_the_same_command_again_neither_samples_nor_trains(repeat):
    assert "sampling" not in repeat()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--traits unicorn", "unicorn"),
        ("--sizes 16 2", "--sizes 16 2"),
        ("--sizes 2 99", "99"),
        ("--gradient-rows 25", "--gradient-rows 25"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
