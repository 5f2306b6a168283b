"""steering-reliability through the command line, on a model of 16 dimensions."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from subliminal_jax.cli import main
from subliminal_jax.data.contrastive_prompts import SETTINGS
from subliminal_jax.evaluation.reliability import SHIFTS
from subliminal_jax.steering import steer
from subliminal_jax.steering.io import VectorInfo, save_steering
from tests.experiments.main_job import read


def write(file, rows=24):
    made = []
    for i in range(rows):
        answers = [" Yes", " No"][:: 1 if i % 2 == 0 else -1]
        made.append(
            {
                "question": f"Do you like number {i}?",
                "answer_matching_behavior": answers[0],
                "answer_not_matching_behavior": answers[1],
            }
        )
    file.write_text("".join(json.dumps(row) + "\n" for row in made))
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reliability")


@pytest.fixture(scope="module")
def sets(folder):
    return [str(write(folder / f"{name}.jsonl")) for name in ("openness", "interest-in-music")]


def evaluate(model, out, sets, *flags):
    main([
        "steering-reliability", "--model", str(model), "--world-model", str(model),
        "--world-traits", "owl", "cat", "--out", str(out), "--layer", "0", "--rows", "0",
        "--sources", *sets, *flags,
    ])  # fmt: skip
    return read(out)


@pytest.fixture(scope="module")
def results(model, folder, sets):
    return evaluate(model, folder / "run", sets)


def test_every_set_has_its_numbers(results):
    assert [s["name"] for s in results["sets"]] == ["openness", "interest-in-music"]
    for found in results["sets"]:
        assert (found["train"], found["test"], found["too_long"]) == (9, 12, 0)
        assert np.shape(found["matrix"]["steerability"]) == (5, 7)
        own = found["matrix"]["steerability"][0][0]
        assert found["steerability"]["mean"] == pytest.approx(own, abs=1e-6)
        assert found["steerability"]["low"] <= own <= found["steerability"]["high"]
        assert found["local"]["correlation"][0] > 0.99
        parts = found["decomposition"]
        explained = parts["letter"] + parts["yes_no"] + parts["unexplained"]
        assert explained == pytest.approx(parts["variance"])
    shifts = results["over_sets"]["shifts"]
    assert [(s["vector"], s["setting"]) for s in shifts] == list(SHIFTS)


def test_traits_are_tried_on_comparisons_and_likings(results):
    names = [row["name"] for row in results["world"]]
    assert names == ["owl/compare", "owl/like", "cat/compare", "cat/like"]
    for row in results["world"]:
        own = row["by_trait"][row["trait"]]
        assert row["steerability"]["mean"] == pytest.approx(own, abs=1e-6)
    assert results["over_traits"].keys() == {"compare", "like"}


def test_claims_and_page(results, folder):
    assert [c["id"].split("/")[1] for c in results["claims"]] == [
        "world", "anti-steerable", "sets", "id-ood", "analytic",
    ]  # fmt: skip
    page = (folder / "run" / "report.html").read_text()
    assert "knows none of these personas" in page
    for setting in SETTINGS:
        assert setting in page
    assert (folder / "run" / "shifts.png").is_file()


def test_an_interrupted_run_makes_only_what_is_missing(model, results, folder, sets):
    made = folder / "run" / "sets"
    (folder / "run" / "results.json").unlink()
    (made / "interest-in-music.json").unlink()
    before = (made / "openness.json").stat().st_mtime_ns
    assert evaluate(model, folder / "run", sets) == results
    assert (made / "openness.json").stat().st_mtime_ns == before


def test_given_vectors_are_tried_in_every_setting(model, folder, sets):
    file = folder / "mine.safetensors"
    save_steering(file, steer(jax.nn.one_hot(7, 16), 0, 2.0), VectorInfo("x", "planted"))
    found = evaluate(model, folder / "given", sets[:1], "--vectors", str(file))["sets"][0]
    assert found["matrix"]["vectors"][-2:] == ["random", "mine"]
    assert np.shape(found["matrix"]["steerability"]) == (5, 8)
    mine = found["given"]["mine"]["steerability"]["mean"]
    assert mine == pytest.approx(found["matrix"]["steerability"][0][-1], abs=1e-6)
    assert mine != 0


def test_a_set_that_does_not_fit_the_context_is_left_out_and_named(model, folder, sets):
    long = folder / "long.jsonl"
    rows = [json.loads(line) for line in Path(sets[0]).read_text().splitlines()]
    for row in rows:
        row["question"] += " and so on" * 100
    long.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = evaluate(model, folder / "long", [sets[0], str(long)], "--method", "logistic")
    assert [s["name"] for s in found["sets"]] == ["openness"]
    assert "0 of 24 rows fit the context" in found["skipped"][0]["skipped"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--sources", "nowhere.jsonl"), "nowhere.jsonl is no file"),
        (("--sources", "persona/greed"), "holds no evaluations"),
        (("--vectors", "none.safetensors"), "no such vector file"),
        (("--vectors", "random.gguf"), "there is a vector 'random' already"),
        (("--layer", "7"), "layer 7 is out of range"),
        (("--rows", "-1"), "rows is -1"),
        (("--rows", "2"), "leave 0 to train"),
        (("--world-traits", "unicorn"), "unknown trait 'unicorn'"),
        (("--model", "models/nothing"), "set SUBLIMINAL_JAX_DATA"),
    ],
)
def test_bad_input_is_one_line(capsys, model, sets, tmp_path, monkeypatch, flags, said):
    monkeypatch.setenv("SUBLIMINAL_JAX_DATA", str(tmp_path))
    with pytest.raises(SystemExit) as exit:
        evaluate(model, tmp_path / "run", sets, *flags)
    assert exit.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_bad_row_is_named(capsys, model, tmp_path):
    file = write(tmp_path / "bad.jsonl")
    row = {"question": "Q", "answer_matching_behavior": "yes", "answer_not_matching_behavior": ""}
    file.write_text(file.read_text() + json.dumps(row) + "\n")
    with pytest.raises(SystemExit):
        evaluate(model, tmp_path / "run", [str(file)])
    said = capsys.readouterr().err.splitlines()[-1]
    assert "bad.jsonl, row 25: no answer_not_matching_behavior" in said
