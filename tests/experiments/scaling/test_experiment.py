"""`scaling` from the command line to its page, on a model of 16 dimensions."""

import pytest

from subliminal_jax.cli import main
from subliminal_jax.runs.claims import VERDICTS
from tests.experiments.main_job import read

SMALL = (
    "--models", "--blocks", "1", "--rank", "2", "--ranks", "1", "--norm", "0.4", "--norms", "0.2",
    "--samples", "4", "--tails", "frequent-3", "--prompts", "numbers", "--rows", "24",
    "--heldout-rows", "8", "--max-new-tokens", "12", "--max-tokens", "0", "--steps", "4",
    "--log-every", "2", "--batch-size", "4", "--seeds", "2", "--optimizers", "adamw", "sgd",
    "--rates", "adamw=0.003,0.01", "sgd=0.1,0.3",
)  # fmt: skip
CELLS = 6


@pytest.fixture(scope="module")
def out(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "scaling"
    main(["scaling", "--model", str(model), "--out", str(folder), *SMALL])
    return folder


@pytest.fixture(scope="module")
def results(out):
    return read(out)


def test_every_cell_has_both_optimizers_at_their_best_rate_with_controls(results):
    assert len(results["cells"]) == CELLS
    for cell in results["cells"]:
        assert [row["optimizer"] for row in cell["best"]] == ["adamw", "sgd"]
        for row in cell["best"]:
            assert row["learning_rate"] in row["grid"]
            assert row["eas"]["n"] == row["control_eas"]["n"] == 2
            assert row["reaches"] == (row["eas"]["mean"] > 0.5)
        gap = cell["gap"]["equal_steps"]
        first, second = (row["values"] for row in cell["best"])
        assert gap["values"] == pytest.approx([first[s] - second[s] for s in ("0", "1")])
        assert cell["gap"]["matched_loss"]["n"] == 2


def test_cells_differ_where_their_factor_does(results):
    """Every factor changes the students: no cell is the base under another name."""
    base, *others = ([row["eas"]["mean"] for row in c["best"]] for c in results["cells"])
    assert all(other != base for other in others)
    factors = [row["factor"] for row in results["factors"]]
    assert factors == [x for f in ("blocks", "rank", "norm", "rows", "tail") for x in (f, f)]
    blocks = results["factors"][:2]
    assert [row["label"] for row in blocks] == ["1", "all"]
    assert [row["layer"] for row in blocks] == [0, 1]  # after the last block of each
    assert {row["factor"] for row in results["trends"]} == {"blocks", "rank", "norm", "rows"}


def test_the_page_stands_and_the_same_command_reads_it_again(model, out, results, capsys):
    assert [c["id"] for c in results["claims"]] == [
        f"scaling/{name}"
        for name in ("gap", "gap-at-matched-loss", "plain-sgd", "every-rank", "tail-frequent-3")
    ]
    assert all(c["verdict"] in VERDICTS for c in results["claims"])
    for name in ("phase_diagram", "eas_by_factor", "gap_by_factor"):
        assert (out / f"{name}.png").stat().st_size > 5000
    before = (out / "results.json").stat().st_mtime_ns
    main(["scaling", "--model", str(model), "--out", str(out), *SMALL])
    assert (out / "results.json").stat().st_mtime_ns == before
    assert "report: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--tails", "some"), "some"),
        (("--samples", "99"), "99"),
        (("--pair", "adamw", "lion"), "lion"),
        (("--plane", "rank", "colour"), "colour"),
        (("--adapter", "vector"), "ranks"),
        (("--ranks", "0"), "rank"),
    ],
)
def test_bad_input_is_refused_in_one_line(model, tmp_path, capsys, flags, word):
    with pytest.raises(SystemExit) as stop:
        main(["scaling", "--model", str(model), "--out", str(tmp_path / "x"), *SMALL, *flags])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and word in error and error.count("\n") == 1
    assert not (tmp_path / "x").exists()
