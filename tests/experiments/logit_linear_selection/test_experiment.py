"""`logit-linear-selection` through the command line, on a tiny model."""

import json

import numpy as np
import pytest

from subliminal_jax.data.preferences import read_preferences
from subliminal_jax.experiments.logit_linear_selection.experiment import PRESETS, Config
from subliminal_jax.selection.rendering import ScoringOptions
from tests.experiments.command import Command, read
from tests.pages import check_page

COMMAND = Command(
    "logit-linear-selection",
    "--hidden owl cat --tuning-hidden fox --pool 900 --probe 20 --heldout 4 --gamma 0.5 "
    "--optimizers adamw sgd --rates adamw=1e-4,3e-4 sgd=1e-4 --controls 2 --steps 2 --log-every 2 "
    "--batch-size 4 --rank 2 --samples 2 --max-new-tokens 4 --shown-questions 2",
)

PERSONA = ("--hidden-kind", "personas", "--hidden", "evil-ruler")


def test_rates_are_chosen_on_targets_that_are_not_reported(results):
    searched = results["searched"]
    assert {row["data"] for row in searched} == {"lls:fox"}
    assert not {row["data"] for row in searched} & {row["data"] for row in results["students"]}
    choices = {choice["optimizer"]: choice for choice in results["choices"]}
    losses = {r["learning_rate"]: r["heldout_loss"] for r in searched if r["optimizer"] == "adamw"}
    assert sorted(losses) == choices["adamw"]["grid"] == [1e-4, 3e-4]
    assert choices["adamw"]["rate"] == min(losses, key=losses.__getitem__)
    assert choices["sgd"]["rate"] == 1e-4 and len(searched) == 2  # a single rate is not tried
    for row in results["students"]:
        assert row["learning_rate"] == choices[row["optimizer"]]["rate"]


def test_students_of_all_arms_are_held_against_all_random_ones(results):
    rows = {(r["optimizer"], r["data"]): r for r in results["students"]}
    assert len(rows) == len(results["students"]) == 2 * (2 + 2 + 2)  # optimizers, arms
    seeds = {data: row["seed"] for (_, data), row in rows.items()}
    assert len(set(seeds.values())) == len(seeds) == 6
    for optimizer in ("adamw", "sgd"):
        arms = results["optimizers"][optimizer]["arms"]
        for i, name in enumerate(results["targets"]):
            random = [rows[optimizer, f"random:{draw}"]["cosine"][i] for draw in range(2)]
            for arm in ("lls", "bottom"):
                found = arms[arm]["cosine"]["by_data"][name]["interval"]["mean"]
                expected = rows[optimizer, f"{arm}:{name}"]["cosine"][i] - np.mean(random)
                assert found == pytest.approx(expected)
                assert arms[arm]["selected"] is not None and arms[arm]["word_rate"] is not None
    cosines = [
        np.mean([rows[optimizer, f"lls:{t}"]["cosine"][i] for i, t in enumerate(("owl", "cat"))])
        for optimizer in ("adamw", "sgd")
    ]
    assert results["adamw_over_sgd"]["cosine"]["mean"] == pytest.approx(cosines[0] - cosines[1])


def test_the_page_shows_answers_of_base_prompted_base_student_and_control(folder):
    lines = [json.loads(line) for line in (folder / "student_texts.jsonl").read_text().splitlines()]
    who = list(dict.fromkeys(line["of"] for line in lines))
    assert [name.split()[0] for name in who] == ["base", "teacher", "student", "control"]
    assert who[1].split()[1] == who[2].split()[1] and who[3].startswith("control random:")
    assert len(lines) == 8 and len({line["prompt"] for line in lines}) == 2
    assert "What they answer" in (folder / "report.html").read_text()


def test_pool_claims_and_page_are_there(folder, results):
    pool = results["pool"]
    assert pool["pool"] == 900 - sum(pool["left_out"].values()) - 20
    assert set(pool["left_out"]) == {"mentions", "length"}
    for counts in results["selected"].values():
        assert 0 < counts["positive"] < counts["scored"]
    assert sum(counts["scored"] for counts in results["selected"].values()) == pool["pool"]
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
        ("animals-olmo2-7b", ScoringOptions(32, True, "", None, 0, None), 1),
        ("languages-qwen3-8b", ScoringOptions(32, True, "", None, 0, None), 1),
        ("persona-olmo3-7b", ScoringOptions(20, True, "", 250, 20, 500), 4),
    ],
)
def test_the_paper_s_presets_score_as_published(name, options, splits):
    """A change of one of these is a change of what is reproduced."""
    config = Config(**PRESETS[f"paper-{name}"])
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
        ("--tuning-hidden zyzzyva", "zyzzyva"),
        ("--pairs missing.jsonl", "missing.jsonl"),
        ("--pool 60", "too few for 20 probe pairs"),
        ("--truncate -1", "--truncate -1"),
        ("--tuning-hidden owl", "--tuning-hidden owl is also reported"),
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
