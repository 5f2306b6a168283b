"""`logit-linear-selection` through the command line, on a tiny model."""

import json

import numpy as np
import pytest

from subliminal_jax.cli import main
from subliminal_jax.data.preferences import read_preferences
from subliminal_jax.experiments.logit_linear_selection.experiment import PRESETS, Config
from subliminal_jax.runs.claims import VERDICTS
from subliminal_jax.selection.rendering import preset

SMALL = (
    "--hidden", "owl", "cat", "--pool", "500", "--probe", "20", "--heldout", "4", "--gamma", "0.5",
    "--optimizers", "adamw", "sgd", "--rates", "adamw=1e-3,1e-2", "sgd=0.1", "--seeds", "2",
    "--steps", "2", "--log-every", "2", "--batch-size", "4", "--rank", "2", "--samples", "2",
    "--max-new-tokens", "4",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "selection"
    main(["logit-linear-selection", "--model", str(model), "--out", str(out), *SMALL])
    return out


@pytest.fixture(scope="module")
def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_each_optimizer_s_rate_is_the_one_with_the_lowest_held_out_loss(results):
    for optimizer, best in results["best"].items():
        losses: dict[float, list[float]] = {}
        for row in results["searched"]:
            assert row["seed"] == 0 and row["data"].startswith("lls:")
            if row["optimizer"] == optimizer:
                losses.setdefault(row["learning_rate"], []).append(row["heldout_loss"])
        assert sorted(losses) == results["grids"][optimizer]
        assert best == min(losses, key=lambda rate: np.mean(losses[rate]))


def test_students_of_all_arms_are_measured_and_paired_by_seed(results):
    rows = {(r["optimizer"], r["data"], r["seed"]): r for r in results["students"]}
    assert len(rows) == 2 * 2 * (2 + 2 + 1)  # optimizers, seeds, lls and bottom a target, random
    for optimizer in ("adamw", "sgd"):
        found = results["optimizers"][optimizer]
        for i, name in enumerate(results["targets"]):
            expected = [
                rows[optimizer, f"lls:{name}", seed]["cosine"][i]
                - rows[optimizer, f"random:{seed}", seed]["cosine"][i]
                for seed in range(2)
            ]
            values = found["differences"]["random"]["cosine"]["by_target"][name]["values"]
            assert values == pytest.approx(expected)
        for arm in ("lls", "random", "bottom"):
            of = found["arms"][arm]
            assert -1 <= of["cosine"]["pooled"]["mean"] <= 1
            assert of["selected"] is not None and of["word_rate"] is not None
    between = results["between"]["cosine"]["by_target"]["owl"]["values"]
    assert between == pytest.approx(
        [
            rows["adamw", "lls:owl", s]["cosine"][0] - rows["sgd", "lls:owl", s]["cosine"][0]
            for s in range(2)
        ]
    )


def test_pool_claims_and_page_are_there(folder, results):
    pool = results["pool"]
    assert pool["pool"] == 500 - pool["mentions"] - pool["length"] - 20
    assert all(
        0 < of["positive"] < of["scored"] == pool["pool"] for of in results["selected"].values()
    )
    assert results["speed"]["pairs_per_second"] > 0 and results["heldout"] == 4
    ids = {claim["id"].split("/")[1].removesuffix("-numbers") for claim in results["claims"]}
    assert {"correlation-adamw", "correlation-sgd", "adamw-over-sgd-correlation"} <= ids
    assert all(claim["verdict"] in VERDICTS for claim in results["claims"])
    kept = read_preferences(folder / "selected" / "owl.jsonl")
    assert len(kept) == results["selected"]["owl"]["kept"]
    assert "hidden system prompt" in (folder / "report.html").read_text()
    assert (folder / "correlation.png").exists()


def test_the_same_command_goes_on_without_scoring_training_or_asking_again(
    folder, model, capsys, monkeypatch
):
    before = json.loads((folder / "results.json").read_text())
    (folder / "results.json").unlink()
    monkeypatch.setattr(
        "subliminal_jax.experiments.logit_linear_selection.open_answers.sampled_answers",
        lambda *a, **k: pytest.fail("asked"),
    )
    main(["logit-linear-selection", "--model", str(model), "--out", str(folder), *SMALL])
    after = json.loads((folder / "results.json").read_text())
    assert after.pop("speed") == {} and before.pop("speed")
    assert after == before


@pytest.mark.parametrize(
    ("name", "scoring", "splits"),
    [
        ("animals", "paper-animals", 1),
        ("languages", "paper-animals", 1),
        ("persona", "paper-evil-ruler", 4),
    ],
)
def test_the_paper_s_presets_score_as_published(name, scoring, splits):
    """As the library's presets do, which are those that are tested against the publication."""
    config = Config(**PRESETS[f"paper-{name}-qwen3-8b"])
    assert config.options == preset(scoring)
    assert len(config.split.split("+")) == splits and "train" not in config.split


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--hidden", "zyzzyva"), "zyzzyva"),
        (("--hidden", "owl", "owl"), "each once"),
        (("--gamma", "1.5"), "quantile is 1.5"),
        (("--beta", "0"), "beta=0"),
        (("--kind", "languages"), "none of the languages"),
        (("--pairs", "missing.jsonl"), "missing.jsonl"),
        (("--pool", "60"), "too few for 20 probe pairs"),
        (("--truncate", "-1"), "truncate is -1"),
        (("--seeds", "1"), "seeds is 1: an interval over students needs at least 2"),
        (("--heldout", "400"), "too few to hold out 400"),
        (
            ("--kind", "personas", "--hidden", "evil-ruler", "--judge-url", "localhost:8000"),
            "judge URL 'localhost:8000'",
        ),
        (
            ("--kind", "personas", "--hidden", "evil-ruler", "--judge-url", "http://localhost"),
            "the judge needs the name of a model",
        ),
    ],
)
def test_bad_input_is_told_in_one_line(model, tmp_path, capsys, flags, says):
    given = list(SMALL)
    for flag in ("--hidden", "--pool", "--gamma", "--seeds", "--heldout"):
        if flag in flags:
            i = given.index(flag)
            end = next(
                (j for j in range(i + 1, len(given)) if given[j].startswith("--")), len(given)
            )
            del given[i:end]
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as stopped:
        main(["logit-linear-selection", "--model", str(model), "--out", str(out), *given, *flags])
    assert stopped.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert says in error and error.startswith("subliminal-jax: error: ")
