"""Distilled vectors from the command line to the page, on a model of 16 dimensions."""

import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.models.hub import load_model
from subliminal_jax.steering import steer
from subliminal_jax.steering.io import VectorInfo, save_steering
from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "distil-vectors",
    "--traits owl --kinds trait centred random --randoms 1 --layers 0 --norms 0.1 500 --rows "
    "24 --heldout-rows 8 --max-new-tokens 12 --max-tokens 0 --asked 3 --steps 4 --log-every 2 "
    "--batch-size 4 --rank 2 --seeds 2 --optimizers adamw --rates adamw=1e-3,3e-3",
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
    assert all("ended" in r["reason"] or "filter" in r["reason"] for r in results["refused"])
    assert {r["vector"] for r in results["vectors"] if r["norm"] == 0.1} == {n for n, _ in names}


def test_every_number_has_its_seeds_and_controls(results):
    for row in results["vectors"]:
        for key in ("eas", "component", "loss_drop", "variation"):
            assert len(row[key]["student"]) == len(row[key]["control"]) == 2
        assert all(-1 <= x <= 1 for x in row["eas"]["student"])
        assert all(0 <= x <= 1 for x in (*row["variation"]["student"], row["valid"]))
        rate = results["layers"][0]["learning_rate"]
        losses = {
            r["seed"]: r["heldout_loss"]
            for r in results["students"]
            if (r["data"], r["learning_rate"]) == (row["data"], rate)
        }
        # The fall of the loss is taken by other code than the held-out loss of the final rows.
        fall = losses[0] - losses[1]
        assert np.diff(row["loss_drop"]["student"])[0] == pytest.approx(fall, abs=1e-5)


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
        ("--vectors /nowhere.safetensors", "/nowhere.safetensors"),
        ("--optimizers adamw sgd", "name one optimizer"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
