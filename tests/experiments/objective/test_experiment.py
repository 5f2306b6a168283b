"""`objective` from the command line to its page, on a model of 16 dimensions."""

import numpy as np
import pytest

from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "objective",
    "--traits owl --sizes 2 16 --rows 24 --heldout-rows 8 --asked 5 --max-new-tokens 12 "
    "--max-tokens 48 --steps 4 --log-every 4 --batch-size 4 --seeds 2 --rates adamw=0.01,0.1 "
    "--gradient-rows 8 --layer 0",
)
TEACHERS = ("steered-owl", "random", "system-prompt-owl")


def test_every_objective_teacher_and_size_has_its_students(results):
    keys = ("objective", "data", "rows", "learning_rate", "seed")
    cells = {tuple(row[k] for k in keys) for row in results["students"]}
    assert len(cells) == len(results["students"]) == 2 * 4 * 2 * 2 * 2
    best = {(row["objective"], row["teacher"], row["rows"]) for row in results["best"]}
    assert best == {(o, t, n) for o in ("cross_entropy", "kl") for t in TEACHERS for n in (2, 16)}
    # The shift that is measured of a steered teacher is its vector, but for rounding.
    lengths = results["lengths"]
    assert lengths["random"] == pytest.approx(lengths["steered-owl"], rel=1e-5)


def test_each_objective_chooses_its_rate_by_its_own_loss_and_meets_its_own_controls(results):
    loss = {"cross_entropy": "heldout_loss", "kl": "heldout_kl"}
    for best in results["best"]:
        rows = [
            row
            for row in results["students"]
            if (row["objective"], row["rows"]) == (best["objective"], best["rows"])
        ]
        means = {
            rate: np.mean(
                [
                    row[loss[best["objective"]]]
                    for row in rows
                    if (row["data"], row["learning_rate"]) == (best["teacher"], rate)
                ]
            )
            for rate in (0.01, 0.1)
        }
        assert best["learning_rate"] == min(means, key=means.get)
        if best["teacher"] == "random":
            assert best["difference"] is None
            continue
        rates = {
            (row["data"], row["seed"]): row["word_rate"][0]  # the first word is owl
            for row in rows
            if row["learning_rate"] == best["learning_rate"]
        }
        expected = np.mean([rates[best["teacher"], s] - rates["control", s] for s in (0, 1)])
        assert best["difference"]["mean"] == pytest.approx(expected)


def test_a_student_of_the_plain_models_distribution_hardly_moves(results):
    """Its gradient is zero but for rounding, which Adam takes for a direction."""
    for rate in (0.01, 0.1):
        soft, hard = (
            [
                row["heldout_kl"]
                for row in results["students"]
                if (row["data"], row["objective"], row["learning_rate"])
                == ("control", objective, rate)
            ]
            for objective in ("kl", "cross_entropy")
        )
        assert max(np.abs(soft)) < 0.2 * min(hard)


def test_first_gradients_are_cosines_of_every_draw(results):
    for row in results["gradients"]:
        assert len(row["values"]) == 3 and np.abs(row["values"]).max() <= 1 + 1e-9
        assert row["cosine"]["mean"] == pytest.approx(np.mean(row["values"]))
    assert {row["n"] for row in results["gradients"]} == {1, 2, 4, 8}


def test_claims_are_complete_and_the_page_holds_the_results(folder, results):
    assert [claim["id"] for claim in results["claims"]] == [
        f"objective/{name}-{kind}"
        for kind in ("vector", "system-prompt")
        for name in (
            "few-samples",
            "names-trait-cross-entropy",
            "names-trait-kl",
            "collinear-gradients",
            "fisher-direction",
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
        ("--gradient-rows 20", "--gradient-rows 20"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
