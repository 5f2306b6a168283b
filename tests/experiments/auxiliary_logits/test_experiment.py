"""`auxiliary-logits` through the command line, on tiny digits."""

import json

import pytest

from subliminal_jax.data.shared_data import VARIABLE
from subliminal_jax.experiments.auxiliary_logits.config import OF_MATRICES, RULES
from subliminal_jax.training.optimizers import OPTIMIZERS
from tests.experiments.auxiliary_logits.idx_files import write_mnist
from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "auxiliary-logits",
    "--hidden 12 --seeds 2 --tuning-seeds 1 --steps 30 --batch-size 16 --teacher-steps 100 "
    "--teacher-rate 0.01 --train-digits 60 --test-digits 40 --heldout-noise 32 --step-images 60 "
    "--optimizers adamw sgd sophia --rates adamw=0.003,0.01 sgd=0.1,1 "
    "sophia=0.001 --starts-of adamw --shares 0.5 --eps 0.01 1 --alphas 0.1",
)


@pytest.fixture(scope="module")
def model_flags(tmp_path_factory):
    """No model, but digits."""
    root = tmp_path_factory.mktemp("shared")
    write_mnist(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(root))
        yield []


def test_rates_are_chosen_on_seeds_that_are_not_reported(results):
    assert results["tuning_seeds"] == [2]
    rates = {choice["optimizer"]: choice["rate"] for choice in results["choices"]}
    assert rates["sophia"] == 0.001 and rates["adamw"] in (0.003, 0.01)
    for row in results["students"]:
        assert row["seed"] in (0, 1) and row["rate"] == rates[row["optimizer"]]
    assert min(results["teachers"]) > 0.5


def test_every_optimizer_has_both_controls_and_comes_nearer_to_its_teacher(results):
    rows = {(r["optimizer"], r["seed"], r["start"]): r for r in results["students"]}
    further = ("mixed-0.5", "auxiliary-head", "trunk")
    for name in rates_of(results):
        for seed in (0, 1):
            same, other = rows[name, seed, "same"], rows[name, seed, "other"]
            untrained = rows[name, seed, "untrained-teacher"]
            assert same["loss"] < same["loss_before"]
            assert untrained["loss_before"] == 0
            if name == "sgd":  # adaptive rules take steps of full size on rounding
                assert untrained["loss"] < 1e-7
            assert same["accuracy_before"] == untrained["accuracy_before"]
            assert same["loss_before"] != other["loss_before"]
            assert {(name, seed, start) in rows for start in further} == {name == "adamw"}


def rates_of(results):
    return [choice["optimizer"] for choice in results["choices"]]


def test_the_theorem_holds_from_the_same_start(results):
    small = [r for r in results["one_step"] if r["start"] == "same" and r["eps"] == 0.01]
    assert {row["loss"] for row in small} == {"softmax", "squared"}
    assert all(row["inner_product"] > 0 for row in small)
    assert all(row["teacher_change"] < 0 for row in small)


def test_a_run_goes_on_with_the_students_that_it_has(folder, results, repeat):
    """Neither a finished run nor one without its last results trains a student again."""
    assert "students" not in repeat()
    logged = (folder / "metrics.jsonl").read_text()
    before = json.loads((folder / "results.json").read_text())
    (folder / "results.json").unlink()
    COMMAND.run(folder, [])
    assert (folder / "metrics.jsonl").read_text() == logged
    assert json.loads((folder / "results.json").read_text())["students"] == before["students"]


def test_claims_are_complete_and_the_page_shows_the_results(folder, results):
    names = [claim["id"].removeprefix("auxiliary-logits/") for claim in results["claims"]]
    assert names == [
        *("inner-product", "loss", "digits", "other-initialisation", "shared-head"),
        *("shared-trunk", "sgd", "adaptive-lead"),
    ]
    check_page(folder)


def test_by_default_every_rule_is_trained_but_those_of_pairs_matrices_and_other_runs():
    left_out = OPTIMIZERS.keys() - set(RULES)
    assert left_out == {
        *("adam", "adamw_masked", "frozen_map", "living_map", "lora_muon", "lora_rite"),
        *OF_MATRICES,
    }


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--starts-of lion", "lion is not trained"),
        ("--dtype bfloat16", "--dtype bfloat16 has no effect"),
        ("--step-images 61", "--step-images 61 is more than --train-digits 60"),
        ("--test-digits 41", "40 digits, but 41 are asked for"),
        ("--rates lion=1", "--rates for lion"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)


def test_without_mnist_nothing_is_touched(refuse, monkeypatch):
    monkeypatch.delenv(VARIABLE)
    assert "there is no mnist/train-images-idx3-ubyte.gz" in refuse("")
