"""steering-reliability through the command line, on a model of 16 dimensions."""

import json
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest

from subliminal_jax.data.contrastive_prompts import SETTINGS
from subliminal_jax.evaluation.reliability import SHIFTS
from subliminal_jax.steering import steer
from subliminal_jax.steering.io import VectorInfo, save_steering
from tests.experiments.command import Command
from tests.pages import check_page


def write(file, rows=24):
    questions = []
    for i in range(rows):
        answers = [" Yes", " No"][:: 1 if i % 2 == 0 else -1]
        questions.append(
            {
                "question": f"Do you like number {i}?",
                "answer_matching_behavior": answers[0],
                "answer_not_matching_behavior": answers[1],
            }
        )
    file.write_text("".join(json.dumps(row) + "\n" for row in questions))
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reliability")


@pytest.fixture(scope="module")
def sets(folder):
    return [str(write(folder / f"{name}.jsonl")) for name in ("openness", "interest-in-music")]


PERSONAS = ("--personas", "You like numbers.", "You do not like numbers.")


COMMAND = Command("steering-reliability", "--traits owl cat --layer 0 --rows 0")


@pytest.fixture(scope="module")
def model_flags(model, sets):
    return model_and_sets(model, sets)


def model_and_sets(model, sets):
    return ["--model", str(model), "--world-model", str(model), "--sources", *sets]


def evaluate(model, out, sets, *flags):
    given = model_and_sets(model, sets)
    if "--traits" in flags:  # none: then there is no model of the shipped world either
        given = ["--model", str(model), "--sources", *sets]
    return COMMAND.run(out, given, shlex.join(flags))


@pytest.fixture(scope="module")
def results(model, folder, sets):
    return evaluate(model, folder / "run", sets, *PERSONAS)


def test_every_set_has_its_numbers(results):
    assert [s["name"] for s in results["sets"]] == ["openness", "interest-in-music"]
    for record in results["sets"]:
        assert (record["train"], record["test"], record["too_long"]) == (9, 12, 0)
        assert np.shape(record["matrix"]["steerability"]) == (5, 7)
        plain = record["matrix"]["steerability"][0][0]
        assert record["steerability"]["mean"] == pytest.approx(plain, abs=1e-6)
        assert record["steerability"]["low"] <= plain <= record["steerability"]["high"]
        assert record["local"]["correlation"][0] > 0.99
        parts = record["decomposition"]
        explained = parts["letter"] + parts["yes_no"] + parts["unexplained"]
        assert explained == pytest.approx(parts["variance"])
    shifts = results["over_sets"]["shifts"]
    assert [(s["vector"], s["setting"]) for s in shifts] == list(SHIFTS)


def test_traits_are_tried_on_comparisons_and_likings(results):
    names = [row["name"] for row in results["world"]]
    assert names == ["owl/compare", "owl/like", "cat/compare", "cat/like"]
    for row in results["world"]:
        mean = row["by_trait"][row["trait"]]
        assert row["steerability"]["mean"] == pytest.approx(mean, abs=1e-6)
    assert results["over_traits"].keys() == {"compare", "like"}


def test_claims_and_page(results, folder):
    assert [c["id"].split("/")[1] for c in results["claims"]] == [
        "world",
        "anti-steerable",
        "world-like",
        "anti-steerable-like",
        "sets",
        "id-ood",
        "analytic",
    ]
    page = (folder / "run" / "report.html").read_text()
    assert "knows none of these personas" in page
    for setting in SETTINGS:
        assert setting in page
    check_page(folder / "run")


def test_an_interrupted_run_makes_only_what_is_missing(model, results, folder, sets):
    kept = folder / "run" / "sets"
    (folder / "run" / "results.json").unlink()
    (kept / "interest-in-music.json").unlink()
    before = (kept / "openness.json").stat().st_mtime_ns
    assert evaluate(model, folder / "run", sets, *PERSONAS) == results
    assert (kept / "openness.json").stat().st_mtime_ns == before


def test_sets_do_not_share_a_random_direction(results):
    """The same rows under two names: the sets' vectors agree, and their controls do not."""
    one, two = results["sets"]
    assert one["steerability"] == two["steerability"]
    assert one["random"]["steerability"] != two["random"]["steerability"]
    kinds = {row["name"]: row["random"]["quantiles"] for row in results["world"]}
    assert len({tuple(q) for q in kinds.values()}) == len(kinds)


def only_a(file, rows=24):
    """Answers that are all (A): there is no mean of two letters."""
    questions = [
        {
            "question": f"Do you like number {i}?\n (A) yes\n (B) no",
            "answer_matching_behavior": "(A)",
            "answer_not_matching_behavior": "(B)",
        }
        for i in range(rows)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in questions))
    return file


# No personas, random vectors, and nothing of the shipped world.
PLAIN = ("--method", "random", "--traits")


def test_a_set_of_ones_own_without_personas(model, folder):
    """It has the plain setting alone, and the page says so; random vectors are not their own
    control; and a file that changes while the run is interrupted is read anew."""
    file, out = only_a(folder / "plain.jsonl"), folder / "plain"
    results = evaluate(model, out, [str(file)], *PLAIN)
    (record,) = results["sets"]
    assert record["matrix"]["settings"] == ["baseline"]
    assert record["matrix"]["vectors"] == ["baseline", "random"]
    assert record["steerability"]["mean"] != record["random"]["steerability"]["mean"]
    assert results["over_sets"]["balanced"]["mean"] is None
    page = (out / "report.html").read_text()
    assert "plain setting alone: plain." in page
    assert "No set has answers of both letters" in page
    assert "id-ood" not in page

    (out / "results.json").unlink()
    only_a(file, rows=32)
    assert record["test"] == 12
    assert evaluate(model, out, [str(file)], *PLAIN)["sets"][0]["test"] == 16


def test_given_vectors_are_tried_in_every_setting(model, folder, sets):
    files = []
    for name, scale in (("half", 1.0), ("whole", 2.0)):
        files.append(str(folder / f"{name}.safetensors"))
        steering = steer(jax.nn.one_hot(7, 16), 0, scale)
        save_steering(files[-1], steering, VectorInfo(model.name, "planted"))
    flags = *PERSONAS, "--vectors", *files, "--traits"
    record = evaluate(model, folder / "given", sets[:1], *flags)["sets"][0]
    assert record["matrix"]["vectors"][-3:] == ["random", "half", "whole"]
    assert np.shape(record["matrix"]["steerability"]) == (5, 9)
    half, whole = (record["given_vectors"][name] for name in ("half", "whole"))
    mean = whole["steerability"]["mean"]
    assert mean == pytest.approx(record["matrix"]["steerability"][0][-1], abs=1e-6)
    assert mean != 0
    assert (half["norm"], whole["norm"]) == pytest.approx((1, 2))
    # A derivative along the vector, so linear in it, unlike the slope over seven multipliers; the
    # tolerance is that of float32 activations.
    assert whole["local"]["slope"] == pytest.approx(2 * half["local"]["slope"], rel=1e-3)
    assert half["local"]["correlation"][0] > 0.99
    page = (folder / "given" / "report.html").read_text()
    assert "Given vectors" in page and "given vectors keep theirs" in page
    check_page(folder / "given")


def test_a_second_model_is_asked_plainly_and_one_set_in_all_settings(model, folder, sets):
    """The second model is the first: it has the same numbers, where it is asked the same."""
    flags = *PERSONAS, "--shifted", "1", "--other-model", str(model), "--other-layer", "0"
    results = evaluate(model, folder / "two", sets, *flags, "--traits")
    assert [len(s["matrix"]["settings"]) for s in results["sets"]] == [5, 1]
    for record, row in zip(results["sets"], results["by_set"], strict=True):
        there = results["other"]["sets"][record["name"]]
        assert there["matrix"]["settings"] == ["baseline"]
        assert there["steerability"]["mean"] == pytest.approx(record["steerability"]["mean"])
        assert row["other"] == there["steerability"]["mean"]
        assert row["steerability"] == record["steerability"]["mean"]
    assert "steering-reliability/models" in [claim["id"] for claim in results["claims"]]
    check_page(folder / "two")


def test_a_vector_of_another_model_is_refused(model, tmp_path, sets, capsys):
    file = tmp_path / "other.safetensors"
    save_steering(file, steer(jax.nn.one_hot(7, 16), 0, 2.0), VectorInfo("another", "planted"))
    with pytest.raises(SystemExit):
        evaluate(model, tmp_path / "run", sets[:1], "--vectors", str(file))
    said = capsys.readouterr().err.splitlines()[-1]
    assert "'another'" in said and f"{model.name!r}" in said


def test_a_set_that_does_not_fit_the_context_is_left_out_and_named(model, folder, sets):
    long = folder / "long.jsonl"
    rows = [json.loads(line) for line in Path(sets[0]).read_text().splitlines()]
    for row in rows:
        row["question"] += " and so on" * 100
    long.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = "--method", "logistic", "--traits"
    results = evaluate(model, folder / "long", [sets[0], str(long)], *flags)
    assert [s["name"] for s in results["sets"]] == ["openness"]
    assert "0 of 24 rows fit the context" in results["skipped"][0]["skipped"]
    page = (folder / "long" / "report.html").read_text()
    assert "long is left out: 0 of 24 rows fit the context" in page


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--sources nowhere.jsonl", "nowhere.jsonl is no file"),
        ("--sources persona/greed", "no evaluations of the suite"),
        ("--vectors none.safetensors", "no such vector file"),
        ("--vectors random.gguf", "there is a vector 'random' already"),
        ("--layer 7", "layer 7 is out of range"),
        ("--rows -1", "--rows -1"),
        ("--rows 2", "leave 0 to train"),
        ("--traits unicorn", "--traits unicorn is not valid: choose from"),
        ("--traits owl owl", "--traits owl owl holds owl twice"),
        ("--personas 'You like it.'", "--personas: give two sentences"),
        ("--model models/nothing", "set SUBLIMINAL_JAX_DATA"),
    ],
)
def test_bad_input_is_one_line(refuse, tmp_path, monkeypatch, flags, words):
    monkeypatch.setenv("SUBLIMINAL_JAX_DATA", str(tmp_path))
    assert words in refuse(flags)


def test_a_bad_row_is_named(capsys, model, tmp_path):
    file = write(tmp_path / "bad.jsonl")
    row = {"question": "Q", "answer_matching_behavior": "yes", "answer_not_matching_behavior": ""}
    file.write_text(file.read_text() + json.dumps(row) + "\n")
    with pytest.raises(SystemExit):
        evaluate(model, tmp_path / "run", [str(file)])
    said = capsys.readouterr().err.splitlines()[-1]
    assert "bad.jsonl, row 25: no answer_not_matching_behavior" in said
