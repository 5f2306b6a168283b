"""Distilled vectors from the command line to the page, on a model of 16 dimensions."""

import jax.numpy as jnp
import pytest

from subliminal_jax.models.hub import load_model
from subliminal_jax.steering import steer
from subliminal_jax.steering.io import VectorInfo, save_steering
from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "distil-vectors",
    "--traits owl --tuning-traits cat --kinds trait centred random --randoms 1 --tuning-randoms 1 "
    "--layers 0 --norms 0.1 500 --controls 2 --rows 24 --heldout-rows 8 --max-new-tokens 12 "
    "--max-tokens 0 --asked 3 --steps 4 --log-every 4 --batch-size 4 --rank 2 "
    "--rates adamw=1e-3,3e-3",
)


@pytest.fixture(scope="module")
def model_flags(model, tmp_path_factory):
    """The model, and a vector from a file."""
    file = tmp_path_factory.mktemp("vectors") / "mine.safetensors"
    ramp = jnp.arange(1.0, 1.0 + load_model(model).cfg.dim)
    save_steering(file, steer(ramp, 0), VectorInfo(str(model), "a ramp"))
    return ["--model", str(model), "--vectors", str(file)]


def test_vectors_that_break_the_format_are_named_and_the_others_measured(results):
    found = {(r["vector"], r["kind"], r["norm"]) for r in results["vectors"] + results["refused"]}
    names = {("owl", "trait"), ("owl-centred", "centred"), ("random-0", "random"), ("mine", "file")}
    assert found == {(*name, norm) for name in names for norm in (0.1, 500.0)}
    assert {r["norm"] for r in results["refused"]} == {500.0}
    for refused in results["refused"]:
        assert "makes a pair; thrown out" in refused["reason"] or "filter" in refused["reason"]
    assert {r["vector"] for r in results["vectors"] if r["norm"] == 0.1} == {n for n, _ in names}


def test_rates_are_chosen_on_vectors_that_are_not_reported(results):
    tuning = {row["data"] for row in results["tuning_students"]}
    assert tuning == {"cat-0.1", "cat-centred-0.1", "random-1-0.1"}
    assert results["tuning_vectors"] == ["cat", "cat-centred", "random-1"]
    assert not tuning & {row["data"] for row in results["students"]}
    losses: dict[float, list[float]] = {}
    for row in results["tuning_students"]:
        losses.setdefault(row["learning_rate"], []).append(row["heldout_loss"])
    [choice] = results["choices"]
    assert choice["rate"] == min(losses, key=lambda rate: sum(losses[rate]))
    assert {row["learning_rate"] for row in results["students"]} == {choice["rate"]}
    assert len({row["seed"] for row in results["students"]}) == len(results["students"])


def test_every_number_has_its_student_and_controls(results):
    students = {row["data"]: row for row in results["students"]}
    assert students.keys() == {"control-0", "control-1", *(v["data"] for v in results["vectors"])}
    for row in results["vectors"]:
        for key in ("eas", "component", "loss_drop", "variation"):
            assert row[key]["controls"].keys() == {"control-0", "control-1"}
        assert -1 <= row["eas"]["student"] <= 1
        assert 0 <= row["variation"]["student"] <= 1 and 0 <= row["valid"] <= 1
        student = students[row["data"]]
        fall = student["base_loss"] - student["heldout_loss"]
        assert row["loss_drop"]["student"] == pytest.approx(fall, abs=1e-5)


def test_claims_and_the_page_stand(folder, results):
    ids = [row["id"] for row in results["claims"]]
    assert ids == [
        f"distil-vectors/{name}"
        for name in ("trait-eas", "trait-loss", "random-eas", "random-loss", "behaviour")
    ]
    check_page(folder)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--norms -1", "--norms -1.0"),
        ("--randoms 0", "--randoms 0"),
        ("--layers 0 0", "twice"),
        ("--layers 7", "7"),
        ("--kinds random --tuning-randoms 0", "nothing to choose rates on"),
        ("--vectors /nowhere.safetensors", "/nowhere.safetensors"),
        ("--optimizers adamw sgd", "--optimizers adamw sgd: name one"),
        ("--adapters lora full", "--adapters lora full: name one"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
