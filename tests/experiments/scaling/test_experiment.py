"""`scaling` from the command line to its page, on a model of 16 dimensions."""

import pytest

from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "scaling",
    "--models --depths 1 --rank 2 --ranks 1 --norm 0.4 --norms 0.2 --sizes 4 --tails "
    "frequent-3 --prompts numbers --rows 24 --heldout-rows 8 --max-new-tokens 12 --max-tokens "
    "0 --steps 4 --log-every 2 --batch-size 4 --vectors 2 --tuning-vectors 1 --controls 1 "
    "--optimizers adamw sgd --rates adamw=0.001,0.003 sgd=0.01",
)
FACTORS = ("depth", "rank", "norm", "rows", "tail")


def test_every_cell_has_both_optimizers_at_their_best_rate_with_controls(results):
    assert len(results["cells"]) == len(results["students"]) == 1 + len(FACTORS)
    assert results["vectors"] == ["random-0", "random-1"]
    assert results["tuning_vectors"] == ["random-2"]
    for cell, measured in zip(results["cells"], results["students"], strict=True):
        assert [row["optimizer"] for row in cell["best"]] == ["adamw", "sgd"]
        for row in cell["best"]:
            choice = row["choice"]
            losses = dict(zip(choice["grid"], choice["losses"], strict=True))
            # SGD's single rate is taken as it is, without a loss.
            assert choice["rate"] == min(losses, key=lambda rate: losses[rate] or 0)
            mine = [r for r in measured["students"] if r["optimizer"] == row["optimizer"]]
            assert {r["learning_rate"] for r in mine} == {choice["rate"]}
            places = [(r["data"], r["vector"]) for r in mine]
            assert sorted(places) == [
                (data, vector)
                for data in ("control-0", "steered")
                for vector in ("random-0", "random-1")
            ]
            assert row["eas"]["difference"]["n"] == 2 and row["unstable"] == 0
            assert row["reaches"] == (row["eas"]["student"]["mean"] > 0.5)
        gap = cell["gap"]["equal_steps"]
        first, second = (row["values"] for row in cell["best"])
        assert gap["values"] == pytest.approx({v: first[v] - second[v] for v in first})
        matched = cell["gap"]["matched_loss"]  # of the vectors whose logged rows bracket the loss
        assert matched is None or 1 <= matched["interval"]["n"] <= 2


def test_cells_differ_from_the_base_in_one_factor_and_in_their_students(results):
    """Every factor changes the students: no cell is the base under another name."""
    base, *others = results["cells"]

    def alignments(cell):
        return [row["eas"]["student"]["mean"] for row in cell["best"]]

    assert all(alignments(other) != alignments(base) for other in others)
    changed = [[f for f in cell["cell"] if cell["cell"][f] != base["cell"][f]] for cell in others]
    assert changed == [[factor] for factor in FACTORS]
    assert (others[0]["layer"], base["layer"]) == (0, 1)  # after the last block of each
    assert {row["factor"] for row in results["trends"]} == {"depth", "rank", "norm", "rows"}


def test_claims_are_complete_and_the_page_holds_the_results(folder, results):
    assert [claim["id"] for claim in results["claims"]] == [
        f"scaling/{name}"
        for name in ("gap", "gap-at-matched-loss", "plain-sgd", "every-rank", "tail-frequent-3")
    ]
    check_page(folder)


def test_the_same_command_again_neither_samples_nor_trains(repeat):
    assert "sampling" not in repeat()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--tails some", "some"),
        ("--sizes 99", "99"),
        ("--pair adamw lion", "lion"),
        ("--plane rank colour", "colour"),
        ("--adapters vector", "ranks"),
        ("--adapters lora full", "--adapters lora full: name one"),
        ("--traits owl", "--tuning-traits owl is also reported"),
        ("--traits cat --vectors 3", "vectors"),
        ("--ranks 0", "rank"),
        ("--models elsewhere/numbers", "holds numbers twice"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
