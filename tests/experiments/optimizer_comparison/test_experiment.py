"""The main job from the command line to its report, on a model of 16 dimensions."""

import json
import random
import re

import jax
import numpy as np
import pytest

from subliminal_jax.data.world import HELDOUT_QUESTIONS
from subliminal_jax.experiments.optimizer_comparison.config import Config
from subliminal_jax.models.hub import load_model
from subliminal_jax.runs.metrics import read_records
from subliminal_jax.training.adapters import LoRA, init_trainable
from subliminal_jax.training.adapters_io import save_adapter
from tests.experiments.command import read
from tests.experiments.main_job import PLAN, run, start
from tests.kills import kills
from tests.pages import check_page

ADAPTER = LoRA(rank=2)
STAGES = ("rate-0", "rate-1", "controls")


@pytest.fixture(scope="module")
def out(model, tmp_path_factory):
    """The folder of one finished run."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run(model, folder, *PLAN)
    return folder


@pytest.fixture(scope="module")
def results(out):
    return read(out)


def write_adapter(folder, model):
    """An adapter of the model that changes what it writes a little."""
    base = load_model(model)
    trainable = init_trainable(jax.random.key(1), base.params, base.cfg, ADAPTER)
    moved = jax.tree.map(lambda leaf: leaf + 0.02, trainable)
    save_adapter(folder, moved, ADAPTER, base.cfg, base.name)


def is_number(x) -> bool:
    return isinstance(x, float) and np.isfinite(x)


def test_every_arm_has_its_row_and_controls_stand_at_the_best_rate(results):
    best = {row["optimizer"]: row["learning_rate"] for row in results["best"]}
    expected = [
        (optimizer, rate, seed, "steered")
        for optimizer, grid in (("adamw", (0.001, 0.003)), ("sgd", (0.003, 0.01)))
        for rate in grid
        for seed in (0, 1)
    ]
    expected += [(name, rate, seed, "control") for name, rate in best.items() for seed in (0, 1)]
    keys = ("optimizer", "learning_rate", "seed", "data")
    assert sorted(tuple(row[k] for k in keys) for row in results["students"]) == sorted(expected)
    for row in results["students"]:
        assert row["diverged"] is False and row["diverged_at"] is None
        for key in ("train_loss", "heldout_loss", "eas", "trait_rate"):
            assert is_number(row[key])
        assert -1 <= row["eas"] <= 1 and 0 <= row["trait_rate"] <= 1
        assert row["eas"] == row["eas_by_layer"][results["layer"]]


def test_base_teacher_student_and_control_answer_the_same_questions(out, results):
    records = read_records(out / "student_texts.jsonl")
    by_speaker = {}
    for record in records:
        by_speaker.setdefault(record["of"], {})[record["prompt"]] = record["answer"]
    sound = [row for row in results["students"] if row["data"] == "steered"]
    best = min(sound, key=lambda row: row["heldout_loss"])
    rate = f"{best['learning_rate']:.6g}"
    student = f"student {best['optimizer']}/{rate}/{best['seed']}/steered"
    base, teacher, taught, control = by_speaker
    assert (base, teacher, taught) == ("base", "teacher steered", student)
    assert control.startswith(f"control {best['optimizer']}/")
    assert all(list(said) == list(HELDOUT_QUESTIONS[:3]) for said in by_speaker.values())
    assert by_speaker[teacher] != by_speaker["base"]
    assert "What they answer" in (out / "report.html").read_text()


def test_best_holds_means_and_intervals_over_seeds_of_the_arms(results):
    for row in results["best"]:
        for data, key in (("steered", "student"), ("control", "control")):
            for metric in ("eas", "trait_rate", "heldout_loss"):
                values = [
                    arm[metric]
                    for arm in results["students"]
                    if (arm["optimizer"], arm["learning_rate"], arm["data"])
                    == (row["optimizer"], row["learning_rate"], data)
                ]
                interval = row["metrics"][metric][key]
                assert interval["mean"] == pytest.approx(np.mean(values), rel=1e-12)
                assert interval["low"] <= interval["mean"] <= interval["high"]
                assert interval["n"] == 2
        heldout = {
            rate: np.mean(
                [
                    arm["heldout_loss"]
                    for arm in results["students"]
                    if (arm["optimizer"], arm["learning_rate"], arm["data"])
                    == (row["optimizer"], rate, "steered")
                ]
            )
            for rate in row["grid"]
        }
        assert row["learning_rate"] == min(heldout, key=heldout.get)


def test_alignment_rises_to_all_examples_for_both_data_sets(results):
    for data in ("steered", "control"):
        rows = [row for row in results["alignment"] if row["data"] == data]
        assert [row["n"] for row in rows] == [1, 2, 4, 8, 16]
        assert all(is_number(row["cosine"]) and abs(row["cosine"]) <= 1 for row in rows)
        assert all(row["stderr"] is None or row["stderr"] >= 0 for row in rows)


def test_loss_is_matched_and_the_anatomy_is_whole(results):
    matched = results["matched_loss"]
    assert {row["optimizer"] for row in matched["students"]} == {"adamw", "sgd"}
    assert is_number(matched["loss"])
    for row in results["anatomy"]:
        # Ten float32 shares; those of the component are signed, so that parts cancel.
        assert sum(row["gradient"]["decile_mass"]) == pytest.approx(1, abs=1e-4)
        assert sum(row["gradient"]["decile_component"]) == pytest.approx(1, abs=1e-3)
        assert 0 <= row["update"]["a_mass"] <= 1
    assert results["reference"]["base_trait_rate"] >= 0
    assert results["data"]["steered"]["kept"] >= 48
    assert 0 < results["padding_share"] < 1


def test_training_lowers_the_loss_and_the_curves_reach_the_last_step(out, results):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 9 * 4 * len(STAGES)
    for curve in results["curves"]:
        assert curve["steps"] == list(range(1, 9))
    adamw = [r for r in lines if r["optimizer"] == "adamw" and r["learning_rate"] == 0.003]
    first, last = ([r["train_loss"] for r in adamw if r["step"] == s] for s in (1, 8))
    assert np.mean(last) < np.mean(first)


def test_the_page_is_self_contained_and_shows_what_the_results_hold(out):
    check_page(out)
    page = (out / "report.html").read_text()
    sources = re.findall(r'(?:src|href)\s*=\s*"([^"]*)"', page)
    assert sources and all(source.startswith(("data:", "#")) for source in sources)
    assert not re.search(r"@import|url\((?!#|['\"]?data:)", page)
    for name in ("eas_over_steps", "eas_against_rate", "trait_rate", "cosine_against_n", "deciles"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_command_returns_a_finished_run_at_once(model, out, results):
    before = {p: p.stat().st_mtime_ns for p in (out / "checkpoints").rglob("*")}
    metrics = (out / "metrics.jsonl").read_bytes()
    assert run(model, out, *PLAN) == results
    assert {p: p.stat().st_mtime_ns for p in (out / "checkpoints").rglob("*")} == before
    assert (out / "metrics.jsonl").read_bytes() == metrics


def test_a_student_that_diverges_takes_no_other_with_it(model, results, tmp_path):
    got = run(model, tmp_path / "run", *PLAN, "--rates", "adamw=0.001,0.003", "sgd=0.003,1e30")
    wild = [row for row in got["students"] if row["learning_rate"] == 1e30]
    assert len(wild) == 2
    for row in wild:
        assert row["diverged"] is True and 1 <= row["diverged_at"] <= 8
        assert row["heldout_loss"] is None and row["eas"] is None
    steered = [
        [row for row in r["students"] if row["data"] == "steered" and row["learning_rate"] < 0.01]
        for r in (got, results)
    ]
    assert len(steered[0]) == 6 and steered[0] == steered[1]  # bit for bit
    rows = {row["optimizer"]: row for row in got["best"]}
    assert rows["sgd"]["learning_rate"] == 0.003 and rows["sgd"]["diverged_rates"] == [1e30]


def test_a_run_in_which_all_diverge_ends_with_a_report_that_says_so(model, tmp_path, capsys):
    got = run(model, tmp_path / "run", *PLAN, "--rates", "adamw=1e30,1e31", "sgd=1e30,1e31")
    assert all(row["diverged"] for row in got["students"])
    assert [row["learning_rate"] for row in got["best"]] == [None, None]
    assert got["matched_loss"] == {"loss": None, "students": []}
    assert "there is no result" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    ("trait", "flags"),
    [
        (
            "owl",
            "--teacher steered system-prompt --teacher-adapter {adapter} --trait owl "
            "--adapter full",
        ),
        ("cat", "--vector trait --trait cat --adapter vector --objective kl"),
    ],
    ids=["vector, system prompt and adapter; all weights", "trait vector, one vector, KL"],
)
def test_other_teachers_adapters_and_objectives_run_to_the_end(model, tmp_path, trait, flags):
    write_adapter(tmp_path / "adapter", model)
    flags = flags.format(adapter=tmp_path / "adapter")
    short = "--steps 4 --log-every 2 --seeds 1 --optimizers adamw --rates adamw=0.001"
    got = run(model, tmp_path / "run", *flags.split(), *short.split())
    assert got["trait"] == trait
    assert [row["diverged"] for row in got["students"]] == [False, False]
    assert all(is_number(row["eas"]) for row in got["students"])
    assert got["anatomy"][0]["update"]["a_mass"] is None
    interval = got["best"][0]["metrics"]["eas"]["student"]
    assert interval["n"] == 1 and interval["low"] is None  # one seed has no interval


def test_killed_twice_and_continued_it_ends_as_if_never_killed(model, out, tmp_path):
    """While it samples and while it writes a checkpoint; `make kill` does more of this."""
    random_numbers, folder = random.Random(2), tmp_path / "run"
    steps = kills.count_lines(out)

    def start_run(folder):
        return start(model, folder, *PLAN)

    for target in ("sampling", "checkpoint write"):
        _, stage = kills.kill(start_run, folder, target, steps, random_numbers)
        assert stage != "finished", "it ended before it was killed"
    run(model, folder, *PLAN)  # in this process, which has the programs
    kills.compare(kills.read_outcome(folder), kills.read_outcome(out))


def test_the_shipped_model_is_the_default():
    """`make demo` runs it to the end."""
    assert Config().model == "shipped"
