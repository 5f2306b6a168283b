"""`objective` from the command line to its page, on a model of 16 dimensions."""

import numpy as np
import pytest

from subliminal_jax.cli import main
from subliminal_jax.runs.claims import VERDICTS
from tests.experiments.main_job import read

SMALL = (
    "--traits", "owl", "--sizes", "2", "16", "--rows", "24", "--heldout-rows", "8", "--asked", "5",
    "--max-new-tokens", "12", "--max-tokens", "48", "--steps", "4", "--log-every", "4",
    "--batch-size", "4", "--seeds", "2", "--rates", "adamw=0.01,0.1", "--gradient-rows", "8",
    "--layer", "0",
)  # fmt: skip
TEACHERS = ("steered-owl", "random", "system-prompt-owl")


@pytest.fixture(scope="module")
def out(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "objective"
    main(["objective", "--model", str(model), "--out", str(folder), *SMALL])
    return folder


@pytest.fixture(scope="module")
def results(out):
    return read(out)


def test_every_objective_teacher_and_size_has_its_students(results):
    keys = ("objective", "data", "rows", "learning_rate", "seed")
    found = {tuple(r[k] for k in keys) for r in results["students"]}
    assert len(found) == len(results["students"]) == 2 * 4 * 2 * 2 * 2
    best = {(r["objective"], r["teacher"], r["rows"]) for r in results["best"]}
    assert best == {(o, t, n) for o in ("cross_entropy", "kl") for t in TEACHERS for n in (2, 16)}
    assert results["lengths"]["random"] == pytest.approx(results["lengths"]["steered-owl"], rel=0.3)


def test_each_objective_chooses_its_rate_by_its_own_loss_and_meets_its_own_controls(results):
    loss = {"cross_entropy": "heldout_loss", "kl": "heldout_kl"}
    differ = 0
    for best in results["best"]:
        mine = [
            r for r in results["students"]
            if (r["objective"], r["rows"]) == (best["objective"], best["rows"])
        ]  # fmt: skip
        own = [r for r in mine if r["data"] == best["teacher"]]
        chosen = {
            key: min((0.01, 0.1), key=lambda rate, key=key: np.mean(
                [r[key] for r in own if r["learning_rate"] == rate]))
            for key in loss.values()
        }  # fmt: skip
        assert best["learning_rate"] == chosen[loss[best["objective"]]]
        differ += chosen["heldout_loss"] != chosen["heldout_kl"]
        if best["teacher"] == "random":
            assert best["difference"] is None
            continue
        at = {
            (r["data"], r["seed"]): r["word_rate"][0]  # the first word is owl
            for r in mine if r["learning_rate"] == best["learning_rate"]
        }  # fmt: skip
        expected = np.mean([at[best["teacher"], s] - at["control", s] for s in (0, 1)])
        assert best["difference"]["mean"] == pytest.approx(expected)


def test_a_student_of_the_plain_models_distribution_hardly_moves(results):
    """Its gradient is zero but for rounding, which Adam takes for a direction."""
    for rate in (0.01, 0.1):
        kl, hard = (
            [
                r["heldout_kl"] for r in results["students"]
                if (r["data"], r["objective"], r["learning_rate"]) == ("control", objective, rate)
            ]
            for objective in ("kl", "cross_entropy")
        )  # fmt: skip
        assert max(np.abs(kl)) < 0.2 * min(hard)


def test_first_gradients_and_claims(results):
    for row in results["gradients"]:
        assert len(row["values"]) == 3 and np.abs(row["values"]).max() <= 1 + 1e-9
        assert row["cosine"]["mean"] == pytest.approx(np.mean(row["values"]))
    assert {r["n"] for r in results["gradients"]} == {1, 2, 4, 8}
    ids = [c["id"].removeprefix("objective/") for c in results["claims"]]
    assert ids == [
        "few-samples-vector",
        "names-trait-cross-entropy-vector",
        "names-trait-kl-vector",
        "collinear-gradients-vector",
        "fisher-direction-vector",
        "few-samples-system-prompt",
        "names-trait-cross-entropy-system-prompt",
        "names-trait-kl-system-prompt",
        "collinear-gradients-system-prompt",
        "fisher-direction-system-prompt",
    ]
    assert all(c["verdict"] in VERDICTS for c in results["claims"])


def test_the_page_stands_and_the_same_command_reads_it_again(model, out, capsys):
    for name in ("eas_against_rows", "trait_against_rows", "first_gradients"):
        assert (out / f"{name}.png").stat().st_size > 5000
    before = (out / "results.json").stat().st_mtime_ns
    main(["objective", "--model", str(model), "--out", str(out), *SMALL])
    assert (out / "results.json").stat().st_mtime_ns == before
    assert "report: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--traits", "unicorn"), "unicorn"),
        (("--sizes", "16", "2"), "(16, 2)"),
        (("--sizes", "2", "99"), "99"),
        (("--gradient-rows", "20"), "gradient_rows=20"),
        (("--objective", "kl"), "leave it out"),
    ],
)
def test_bad_input_is_refused_in_one_line(model, tmp_path, capsys, flags, word):
    with pytest.raises(SystemExit) as stop:
        main(["objective", "--model", str(model), "--out", str(tmp_path / "x"), *SMALL, *flags])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and word in error and error.count("\n") == 1
    assert not (tmp_path / "x").exists()
