"""`log-linearity` through the command line, on two models that write number lists."""

import jax
import numpy as np
import pytest

from tests import number_model
from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "log-linearity",
    "--systems 8 --columns 12 --draws 2 --top-k 2 --ranks 1 2 4 --gaussian-draws 4 "
    "--toy-seeds 2 --toy-dim 16 --toy-prompts 4000",
)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The same grammar with other random parts."""

    def change(params):
        noise = jax.random.normal(jax.random.key(3), params["embed"].shape)
        return {**params, "embed": params["embed"].at[:, 3:].add(0.3 * noise[:, 3:])}

    return number_model.write(tmp_path_factory.mktemp("models") / "other", change=change)


@pytest.fixture(scope="module")
def model_flags(model, other):
    return ["--models", str(model), str(other)]


def test_spectra_are_those_of_the_stored_matrices(folder, results):
    assert results["models"] == ["numbers", "other"] and results["shape"] == [8, 12]
    stored = []
    for draw in (0, 1):
        with np.load(folder / f"matrices/0/draw-{draw}/systems-00000.npz") as file:
            stored.append(file["log_probs"])
    assert (stored[0] < 0).all() and not np.allclose(*stored)
    singular = np.mean([np.linalg.svd(x, compute_uv=False) for x in stored], axis=0)
    spectra = {(row["model"], row["kind"]): row for row in results["spectra"]}
    # float32 matrices: the smallest singular values are near the rounding of the largest.
    np.testing.assert_allclose(spectra["numbers", "raw"]["singular"], singular, rtol=1e-4)
    assert spectra["numbers", "centred"]["singular"][-1] < 1e-3  # the mean takes a direction
    twins = {"numbers, random weights", "other, random weights"}
    assert {name for name, _ in spectra} == {"numbers", "other", "Gaussian matrix"} | twins


def test_models_that_share_most_weights_share_more_than_chance(results):
    for row in results["angles"]:
        assert row["models"]["mean"] > row["gaussian"]["mean"]
        assert len(row["models_cosines"]) == results["k"] == 2
        over = row["models"]["mean"] - row["random"]["mean"]
        assert row["over_random"]["mean"] == pytest.approx(over)


def test_fitted_errors_fall_with_the_rank(results):
    rows = [row for row in results["residuals"] if row["model"] == "numbers"]
    assert [row["rank"] for row in rows] == [1, 2, 4]
    errors = [row["fit_rmse"]["mean"] for row in rows]
    assert errors == sorted(errors, reverse=True)
    assert all(row["fit_largest"]["mean"] >= row["fit_rmse"]["mean"] for row in rows)
    gaussian = [row for row in results["residuals"] if row["model"] == "Gaussian matrix"]
    assert all(row["held_out_r_squared"]["mean"] < 0 for row in gaussian)


def test_claims_are_complete_and_the_page_is_written(folder, results):
    ids = [c["id"].removeprefix("log-linearity/") for c in results["claims"]]
    assert len(ids) == len(set(ids)) == 2 + 2 + 4 + 1
    assert {"power-law-numbers", "low-rank-other", "theorem"} <= set(ids)
    toy = {row["arm"]: row["correlation"]["mean"] for row in results["toy"]}
    assert toy["LLS"] > 0.97 and toy["bottom"] < -0.97
    check_page(folder)
    pictures = {path.stem for path in folder.glob("*.png")}
    assert {"spectrum-raw", "spectrum-centred", "prediction", "toy", "angles-other-raw"} < pictures


def test_a_run_that_lost_its_results_scores_nothing_again(folder, model_flags, results):
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("systems-*.npz")}
    assert len(stamps) == 4 * 2  # models and their random twins, draws
    (folder / "results.json").unlink()
    assert COMMAND.run(folder, model_flags) == results
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--models shipped-small", "--models shipped-small: 1 are too few"),
        ("--models a/numbers b/numbers", "twice"),
        ("--top-k 3", "must hold --top-k 3"),
        ("--ranks 2 5", "give 1 to 4"),
        ("--fit-last 3", "at least three ranks"),
        ("--systems 0 --columns 600 --ranks 2 70", "give 1 to 67"),  # of 134
        ("--draws 1", "from 2 to 10,000"),
        ("--systems 500 --columns 600", "134 system prompts for 500 rows"),
        ("--system-prompts no-such-file.txt", "no-such-file.txt"),
        ("--min-tokens 90", "0 different responses of the asked length"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
