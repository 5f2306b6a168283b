"""`logit-linear-selection` through the command line, on a tiny model."""

import numpy as np
import pytest

from subliminal_jax.data.preferences import read_preferences
from subliminal_jax.experiments.logit_linear_selection.experiment import PRESETS, Config
from subliminal_jax.selection.rendering import ScoringOptions
from tests.experiments.command import Command, read
from tests.pages import check_page

COMMAND = Command(
    "logit-linear-selection",
    "--hidden owl cat --pool 500 --probe 20 --heldout 4 --gamma 0.5 --optimizers adamw sgd "
    "--rates adamw=1e-4,3e-4 sgd=1e-4 --seeds 2 --steps 2 --log-every 2 --batch-size 4 --rank "
    "2 --samples 2 --max-new-tokens 4",
)

PERSONA = ("--hidden-kind", "personas", "--hidden", "evil-ruler")


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
        result = results["optimizers"][optimizer]
        for i, name in enumerate(results["targets"]):
            expected = [
                rows[optimizer, f"lls:{name}", seed]["cosine"][i]
                - rows[optimizer, f"random:{seed}", seed]["cosine"][i]
                for seed in range(2)
            ]
            values = result["differences"]["random"]["cosine"]["by_target"][name]["values"]
            assert values == pytest.approx(expected)
        for arm in ("lls", "random", "bottom"):
            metrics = result["arms"][arm]
            assert -1 <= metrics["cosine"]["pooled"]["mean"] <= 1
            assert metrics["selected"] is not None and metrics["word_rate"] is not None
    difference = results["adamw_over_sgd"]["cosine"]["by_target"]["owl"]["values"]
    assert difference == pytest.approx(
        [
            rows["adamw", "lls:owl", s]["cosine"][0] - rows["sgd", "lls:owl", s]["cosine"][0]
            for s in range(2)
        ]
    )


def test_pool_claims_and_page_are_there(folder, results):
    pool = results["pool"]
    assert pool["pool"] == 500 - sum(pool["left_out"].values()) - 20
    assert set(pool["left_out"]) == {"mentions", "length"}
    for counts in results["selected"].values():
        assert 0 < counts["positive"] < counts["scored"] == pool["pool"]
    assert results["speed"]["pairs_per_second"] > 0 and results["heldout"] == 4
    ids = {claim["id"].split("/")[1].removesuffix("-numbers") for claim in results["claims"]}
    assert {"correlation-adamw", "correlation-sgd", "adamw-over-sgd-correlation"} <= ids
    pairs = read_preferences(folder / "selected" / "owl.jsonl")
    assert len(pairs) == results["selected"]["owl"]["kept"]
    assert (folder / "correlation.png").exists()
    check_page(folder)


def test_the_same_command_goes_on_without_scoring_training_or_asking_again(
    folder, model_flags, monkeypatch
):
    before = read(folder)
    (folder / "results.json").unlink()
    monkeypatch.setattr(
        "subliminal_jax.experiments.logit_linear_selection.open_answers.sampled_answers",
        lambda *a, **k: pytest.fail("asked"),
    )
    after = COMMAND.run(folder, model_flags)
    assert after.pop("speed") is None and before.pop("speed")
    assert after == before


@pytest.mark.parametrize(
    ("name", "options", "splits"),
    [
        ("animals", ScoringOptions(32, True, "", None, 0, None), 1),
        ("languages", ScoringOptions(32, True, "", None, 0, None), 1),
        ("persona", ScoringOptions(20, True, "", 250, 20, 500), 4),
    ],
)
def test_the_paper_s_presets_score_as_published(name, options, splits):
    """A change of one of these is a change of what is reproduced."""
    config = Config(**PRESETS[f"paper-{name}-qwen3-8b"])
    assert config.scoring_options() == options
    assert len(config.split.split("+")) == splits and "train" not in config.split


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--hidden zyzzyva", "zyzzyva"),
        ("--hidden owl owl", "twice"),
        ("--gamma 1.5", "--gamma 1.5"),
        ("--beta 0", "--beta 0"),
        ("--hidden-kind languages", "none of the languages"),
        ("--pairs missing.jsonl", "missing.jsonl"),
        ("--pool 60", "too few for 20 probe pairs"),
        ("--truncate -1", "--truncate -1"),
        ("--seeds 1", "--seeds 1: an interval over students needs at least 2"),
        ("--heldout 400", "too few to hold out 400"),
        (
            "--hidden-kind personas --hidden evil-ruler --judge-url localhost:8000",
            "judge URL 'localhost:8000'",
        ),
        (
            "--hidden-kind personas --hidden evil-ruler --judge-url http://localhost",
            "the judge needs the name of a model",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
