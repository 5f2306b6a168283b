"""`blocking` through the command line, on a model of 16 dimensions."""

import numpy as np
import pytest

from subliminal_jax.cli import main
from tests.experiments.command import Command
from tests.experiments.main_job import arguments
from tests.pages import check_page

COMMAND = Command(
    "blocking",
    "--traits owl wolf --tuning-traits lion --controls 2 --scale 0.3 --rows 24 --heldout-rows 8 "
    "--asked 1.5 --max-new-tokens 12 --batch-size 4 --rank 2 --steps 4 --log-every 4 "
    "--rates adamw=0.001,0.003 --shares 0.5 --blind-steps 8 --adapters lora",
)
GUARDS = (
    "project",
    "inoculate",
    "drop 50%",
    "drop 50% at random",
    "project, blind",
    "inoculate, blind",
    "drop 50%, blind",
)
WITH_CONTROLS = ("none", "project", "inoculate", "drop 50%")


def test_every_guard_has_its_students_and_the_known_ones_their_controls(results):
    (table,) = results["tables"]
    rate = table["choice"]["rate"]
    assert {r["learning_rate"] for r in results["students"]} == {rate}
    for case in ("none", *GUARDS):
        names = ["owl", "wolf"]
        if case == "none":
            names += ["control-0", "control-1"]
        elif case in WITH_CONTROLS:
            names += ["owl control", "wolf control"]
        students = [r["data"] for r in results["students"] if r["case"] == case]
        assert sorted(students) == sorted(names)
    assert [row["case"] for row in table["rows"]] == ["none", *GUARDS]
    assert {r["data"] for r in results["tuning_students"]} == {"lion"}


def test_a_guarded_student_has_the_seed_of_the_unguarded_one(results):
    """A trait's guarded control has that of the draw that it trains on."""
    seeds = {(r["case"], r["data"]): r["seed"] for r in results["students"]}
    draws = {"owl control": "control-0", "wolf control": "control-1"}
    assert all(seeds[case, d] == seeds["none", draws.get(d, d)] for case, d in seeds)
    assert len({seeds["none", d] for case, d in seeds if case == "none"}) == 4


def test_every_guard_changes_the_students(results):
    losses = {
        tuple(
            r["heldout_loss"]
            for r in results["students"]
            if (r["case"], r["data"]) == (case, "owl")
        )
        for case in GUARDS
    }
    assert len(losses) == len(GUARDS)


def test_gains_are_shares_of_the_unguarded_ones(results):
    rows = {r["case"]: r for r in results["tables"][0]["rows"]}
    for share in ("gain", "control_task_gain"):  # None where nothing was learnt to be shared
        assert rows["none"][share] is None or rows["none"][share]["mean"] == pytest.approx(1)
    assert rows["none"]["change"]["mean"] == rows["none"]["control_shift"]["mean"] == 0
    for row in rows.values():
        left, whole = row["transmission"]["mean"], rows["none"]["transmission"]["mean"]
        # Rates near 0.06 in float32: their differences are exact to about 1e-8.
        assert left == pytest.approx(whole + row["change"]["mean"], abs=1e-7)
        assert np.mean(row["transmission_values"]) == pytest.approx(left, abs=1e-7)


def test_the_known_vector_is_the_teachers_and_times_are_ratios_to_unguarded_steps(results):
    steps = results["time"]["steps"]
    assert steps["none"]["ratio"]["mean"] == 1 and steps["project"]["seconds"] > 0
    for row in results["vectors"]:
        if row["vector"] == "known":
            # Shifts are means of float32 activations with and without the vector.
            assert row["cosine"] == pytest.approx(1, abs=1e-5)
            assert row["size"] == pytest.approx(1, rel=1e-4)


def test_claims_are_complete_and_the_page_shows_the_results(folder, results):
    assert [claim["id"].removeprefix("blocking/") for claim in results["claims"]] == [
        "transmits",
        "project",
        "project-share",
        "inoculate",
        "inoculate-share",
        "project-blind",
        "project-blind-share",
        "inoculate-blind",
        "inoculate-blind-share",
        "drop-rows",
        "drop-rows-blind",
        "project-keeps-the-task",
        "inoculate-keeps-the-task",
    ]
    check_page(folder)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--traits owl owl", "twice"),
        ("--shares 1.0", "--shares 1.0"),
        ("--shares 0.101 0.104", "are 10% 10%"),
        ("--traits owl lion", "--tuning-traits lion is also reported"),
        ("--guard-vector blind", "teacher or a file"),
        ("--guard-vector nowhere.safetensors", "no such vector file"),
        ("--preset huge", "huge"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)


# -- a guard by flag in other experiments: what only a guarded training refuses ---------------

GUARDED = (
    "--optimizers schedule_free_sgd --rates schedule_free_sgd=0.1 --steps 4 --log-every 4 --rows 24"
)
TRANSMISSION = (
    "trait-transmission --traits owl --teachers steered --adapters lora --controls 1 "
    "--heldout-rows 8 --max-new-tokens 12 --batch-size 4"
)


@pytest.mark.parametrize(
    ("experiment", "flags", "message"),
    [
        (
            "trait-transmission",
            "--guard project",
            "schedule_free_sgd evaluates an average",
        ),
        (
            "optimizer-comparison",
            "--guard drop-rows --guard-share 0.9",
            "batch_size=4 is larger than the data (2 rows)",
        ),
    ],
)
def test_other_experiments_take_a_guard(model, tmp_path, capsys, experiment, flags, message):
    out = tmp_path / "run"
    if experiment == "optimizer-comparison":
        command = arguments(model, out)
    else:
        command = [*TRANSMISSION.split(), "--model", str(model), "--out", str(out)]
    with pytest.raises(SystemExit) as exit:
        main([*command, *GUARDED.split(), *flags.split()])
    assert exit.value.code == 2 and message in capsys.readouterr().err
