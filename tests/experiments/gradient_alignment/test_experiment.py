"""The gradient alignment from the command line to its page, on a model of 16 dimensions."""

import numpy as np
import pytest

from subliminal_jax.cli import main
from tests.experiments.main_job import read

SMALL = (
    "--traits", "owl", "wolf", "--scale", "0.2", "--draws", "2", "--rows", "32", "--noise-rows",
    "8", "--max-new-tokens", "12", "--asked", "2", "--rank", "2",
)  # fmt: skip


@pytest.fixture(scope="module")
def out(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "gradients"
    main(["gradient-alignment", "--model", str(model), "--out", str(folder), *SMALL])
    return folder


@pytest.fixture(scope="module")
def results(out):
    return read(out)


def test_every_teacher_draw_position_and_block_has_its_cosines(results):
    keys = ("teacher", "trait", "draw", "position", "layer")
    found = {tuple(row[k] for k in keys) for row in results["pooled"]}
    assert len(found) == len(results["pooled"]) == 2 * 2 * 2 * 3 * 2
    for row in results["pooled"]:
        for key in ("difference", "own", "clean", "control", "other_vectors"):
            assert -1 <= row[key] <= 1
        assert row["share"] == pytest.approx(row["difference"] ** 2)
        assert abs(row["norm_own"] - row["norm_clean"]) <= row["norm_difference"] + 1e-6


def test_curves_end_at_the_pooled_cosine(results):
    for row in results["curves"]:
        if row["n"] != results["largest_n"]:
            continue
        pooled = [
            r[row["data"]] for r in results["pooled"]
            if (r["teacher"], r["position"], r["layer"])
            == (row["teacher"], row["position"], results["layer"])
        ]  # fmt: skip
        assert row["cosine"]["mean"] == pytest.approx(np.mean(pooled), abs=1e-4)
        assert row["cosine"]["low"] <= row["cosine"]["mean"] <= row["cosine"]["high"]


def test_outliers_are_shares_and_claims_follow_from_them(results):
    for row in results["outliers"]:
        assert 0 < row["top_mass"] < row["decile_mass"] <= 1 + 1e-5
        assert sum(row["decile_masses"]) == pytest.approx(1, abs=1e-4)
        assert sum(row["decile_components"]) == pytest.approx(1, abs=1e-3)
    ids = [row["id"] for row in results["claims"]]
    assert ids == [
        f"gradient-alignment/{name}-{kind}"
        for kind in ("steered", "system-prompt")
        for name in ("aligned", "rises-with-n", "outliers")
    ]
    assert all(row["seeds"] == 2 for row in results["claims"])


def test_the_page_stands_and_the_same_command_reads_it_again(model, out, capsys):
    assert (out / "report.html").exists()
    for name in ("cosine_against_n", "cosine_by_layer", "deciles"):
        assert (out / f"{name}.png").stat().st_size > 5000
    before = (out / "results.json").stat().st_mtime_ns
    main(["gradient-alignment", "--model", str(model), "--out", str(out), *SMALL])
    assert (out / "results.json").stat().st_mtime_ns == before
    assert "report: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--traits", "unicorn"), "unicorn"),
        (("--draws", "30"), "30 draws"),
        (("--noise-rows", "500"), "noise_rows=500"),
        (("--preset", "huge"), "huge"),
    ],
)
def test_bad_input_is_refused_in_one_line(model, tmp_path, capsys, flags, word):
    with pytest.raises(SystemExit) as stop:
        main(["gradient-alignment", "--model", str(model), "--out", str(tmp_path / "x"),
              *SMALL, *flags])  # fmt: skip
    error = capsys.readouterr().err
    assert stop.value.code == 2 and word in error and error.count("\n") == 1
    assert not (tmp_path / "x").exists()
