"""`scaling` from the command line to its page, on a model of 16 dimensions."""

import pytest

from subliminal_jax.cli import main
from tests.experiments.main_job import read
from tests.pages import check_page

SMALL = (
    "--models", "--depths", "1", "--rank", "2", "--ranks", "1", "--norm", "0.4", "--norms", "0.2",
    "--sizes", "4", "--tails", "frequent-3", "--prompts", "numbers", "--rows", "24",
    "--heldout-rows", "8", "--max-new-tokens", "12", "--max-tokens", "0", "--steps", "4",
    "--log-every", "2", "--batch-size", "4", "--seeds", "2", "--optimizers", "adamw", "sgd",
    "--rates", "adamw=0.003,0.01", "sgd=0.1,0.3",
)  # fmt: skip
FACTORS = ("depth", "rank", "norm", "rows", "tail")


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "scaling"
    main(["scaling", "--model", str(model), "--out", str(out), *SMALL])
    return out


@pytest.fixture(scope="module")
def results(folder):
    return read(folder)


def test_every_cell_has_both_optimizers_at_their_best_rate_with_controls(results):
    assert len(results["cells"]) == len(results["students"]) == 1 + len(FACTORS)
    for cell in results["cells"]:
        assert [row["optimizer"] for row in cell["best"]] == ["adamw", "sgd"]
        for row in cell["best"]:
            assert row["learning_rate"] in row["grid"]
            assert row["eas"]["steered"]["n"] == row["eas"]["control"]["n"] == 2
            assert row["reaches"] == (row["eas"]["steered"]["mean"] > 0.5)
        gap = cell["gap"]["equal_steps"]
        first, second = (row["values"] for row in cell["best"])
        assert gap["values"] == pytest.approx([first[s] - second[s] for s in ("0", "1")])
        assert cell["gap"]["matched_loss"]["interval"]["n"] == 2


def test_cells_differ_from_the_base_in_one_factor_and_in_their_students(results):
    """Every factor changes the students: no cell is the base under another name."""
    base, *others = results["cells"]

    def alignments(cell):
        return [row["eas"]["steered"]["mean"] for row in cell["best"]]

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


def test_the_same_command_again_neither_samples_nor_trains(model, folder, capsys):
    before = (folder / "results.json").stat().st_mtime_ns
    main(["scaling", "--model", str(model), "--out", str(folder), *SMALL])
    assert (folder / "results.json").stat().st_mtime_ns == before
    assert "sampling" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--tails", "some"), "some"),
        (("--sizes", "99"), "99"),
        (("--pair", "adamw", "lion"), "lion"),
        (("--plane", "rank", "colour"), "colour"),
        (("--adapter", "vector"), "ranks"),
        (("--ranks", "0"), "rank"),
        (("--models", "elsewhere/numbers"), "numbers numbers"),
    ],
)
def test_bad_input_is_refused_in_one_line(model, tmp_path, capsys, flags, word):
    with pytest.raises(SystemExit) as stop:
        main(["scaling", "--model", str(model), "--out", str(tmp_path / "x"), *SMALL, *flags])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and word in error and error.count("\n") == 1
    assert not (tmp_path / "x").exists()
