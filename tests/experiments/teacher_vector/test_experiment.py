"""teacher-vector through the command line, on a model of 16 dimensions."""

import json

import numpy as np
import pytest

from subliminal_jax.cli import main
from subliminal_jax.steering.io import load_steering
from tests import number_model
from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "teacher-vector",
    "--traits owl cat dog --layers 0 1 --scales 0.5 1 --layer 1 --rows 24 --heldout-rows 8 "
    "--asked 4 --max-new-tokens 16 --samples 1 --off-topic-samples 1 --number-prompts 6 "
    "--tuning-traits lion --controls 2 --adapters vector --rates adamw=0.003,0.01 --steps 4 "
    "--log-every 4 --batch-size 4",
)


def test_every_trait_has_all_its_settings_once(results):
    places = [(r["trait"], r["kind"], r["layer"], r["scale"]) for r in results["cells"]]
    assert len(set(places)) == len(places)
    for trait in ("owl", "cat", "dog"):
        kinds = [kind for t, kind, _, _ in places if t == trait]
        assert kinds.count("steered") == 4
        assert {"base", "system-prompt", "teacher", "random-teacher"} <= set(kinds)
    for row in results["cells"]:
        for key in ("rate", "selection_rate", "sampled_rate", "off_topic", "valid_numbers"):
            assert 0 <= row[key] <= 1
        assert row["negative_rate"] is None  # no least-favourite questions were given
        assert row["kl"] >= -1e-6
        if row["kind"] == "base":
            assert abs(row["kl"]) < 1e-6 and abs(row["nll"]) < 1e-6
    teachers = {(r["trait"], r["kind"]): r for r in results["cells"] if r["kind"] != "steered"}
    for row in results["cells"]:  # the teacher's setting is one of the sweep's: the same numbers
        if row["kind"] == "steered" and (row["layer"], row["scale"]) == (1, 1.0):
            assert row["rate"] == pytest.approx(teachers[row["trait"], "teacher"]["rate"], rel=1e-5)


def test_each_traits_student_is_held_against_all_controls(results):
    rows = {r["data"]: r for r in results["students"]}
    assert set(rows) == {"owl", "cat", "dog", "control-0", "control-1"}
    assert {r["data"] for r in results["tuning_students"]} == {"lion"}
    (arm,) = results["arms"]
    for student in arm["students"]:
        trait = student["summary"]["trait"]
        i = results["words"].index(trait)
        expected = rows[trait]["word_rate"][i] - np.mean(
            [rows[f"control-{k}"]["word_rate"][i] for k in range(2)]
        )
        assert student["difference"]["mean"] == pytest.approx(expected, abs=1e-9)
        assert student["transmitted"] is (student["difference"]["low"] > 0)
        gain = student["summary"]["teacher"] - student["summary"]["base"]
        assert student["summary"]["teacher_gain"] == pytest.approx(gain)


def test_claims_and_page_stand_on_the_results(folder, results):
    assert [c["id"] for c in results["claims"]] == [
        "teacher-vector/elicits",
        "teacher-vector/predicts-transmission-vector",
    ]
    (arm,) = results["arms"]
    assert arm["prediction"]["traits"] == 3
    assert arm["prediction"]["teacher_gain"]["rate"]["low"] is None  # three pairs
    assert results["claims"][1]["verdict"] == "inconclusive"
    check_page(folder)
    page = (folder / "report.html").read_text()
    assert page.count("<figure>") == 3 and "this model knows none" in page


def test_the_vectors_are_kept_for_other_experiments(folder, model):
    cfg = number_model.config()
    steering, info = load_steering(
        folder / "vectors" / "owl.safetensors", cfg, [1], model="numbers"
    )
    assert info.model == "numbers" and "owl" in info.origin and float(steering.scale) == 1.0


def test_a_finished_run_is_not_computed_again_and_its_page_is_drawn_anew(repeat):
    assert "steering" not in repeat()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--traits owl owl", "--traits owl owl holds owl twice"),
        ("--traits unicorn", "unknown trait 'unicorn': the tokenizer has no such word"),
        ("--scales 0", "--scales 0.0"),
        ("--layers 7", "layer 7 is out of range"),
        ("--questions nowhere.txt", "no file nowhere.txt here"),
        ("--optimizers adamw sgd --rates sgd=1", "2 optimizers: name one optimizer"),
        ("--controls 0", "--controls 0"),
        ("--off-topic ''", "--off-topic '' is blank"),
    ],
)
def test_bad_input_is_one_line(refuse, flags, words):
    assert words in refuse(flags)


def test_a_question_that_stands_twice_is_refused(capsys, model, tmp_path):
    file = tmp_path / "q.json"
    file.write_text(json.dumps(["Which?", "Who?", "Which?"]))
    with pytest.raises(SystemExit):
        main(["teacher-vector", "--model", str(model), "--questions", str(file)])
    assert "'Which?' is there 2 times" in capsys.readouterr().err
