"""Blocking from the command line to its page, on a model of 16 dimensions."""

import re

import numpy as np
import pytest

from subliminal_jax.cli import main
from tests.experiments.main_job import arguments, read

SMALL = (
    "--traits", "owl", "wolf", "--scale", "0.3", "--rows", "24", "--heldout-rows", "8", "--asked",
    "1.5", "--max-new-tokens", "12", "--batch-size", "4", "--rank", "2", "--steps", "4",
    "--log-every", "4", "--seeds", "2", "--rates", "adamw=0.003,0.01", "--shares", "0.5",
    "--blind-steps", "8", "--vector-rates",
)  # fmt: skip
GUARDS = (
    "project", "inoculate", "drop 50%", "drop 50% at random", "project, blind",
    "inoculate, blind", "drop 50%, blind",
)  # fmt: skip
WITH_CONTROLS = ("none", "project", "inoculate", "drop 50%")


@pytest.fixture(scope="module")
def out(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "blocking"
    main(["blocking", "--model", str(model), "--out", str(folder), *SMALL])
    return folder


@pytest.fixture(scope="module")
def results(out):
    return read(out)


def test_every_guard_has_its_students_and_the_known_ones_their_controls(results):
    best = results["best"]["adamw"]
    for case in ("none", *GUARDS):
        names = ["owl", "wolf"]
        if case in WITH_CONTROLS:
            names += ["owl control", "wolf control"]
        found = {
            (r["data"], r["seed"])
            for r in results["students"]
            if (r["case"], r["adapter"], r["learning_rate"]) == (case, "lora", best)
        }
        assert found == {(name, seed) for name in names for seed in (0, 1)}
    assert all(r["eas"] is not None and -1 <= r["eas"] <= 1 for r in results["students"])
    assert [row["case"] for row in results["tables"]["lora"]["adamw"]["rows"]] == ["none", *GUARDS]


def test_guarded_students_are_others(results):
    def losses(case):
        return [r["heldout_loss"] for r in results["students"]
                if (r["case"], r["data"]) == (case, "owl")]  # fmt: skip

    found = [tuple(losses(case)) for case in GUARDS]
    assert len(set(found)) == len(GUARDS)


def test_gains_are_shares_of_the_unguarded_ones(results):
    rows = {r["case"]: r for r in results["tables"]["lora"]["adamw"]["rows"]}
    for share in ("gain", "control_task_gain"):  # None where nothing was learnt to be shared
        assert rows["none"][share] is None or rows["none"][share]["mean"] == pytest.approx(1)
    assert rows["none"]["change"]["mean"] == rows["none"]["control_shift"]["mean"] == 0
    for row in rows.values():
        left, whole = row["transmission"]["mean"], rows["none"]["transmission"]["mean"]
        assert left == pytest.approx(whole + row["change"]["mean"], abs=1e-7)
        assert np.mean(row["transmission_values"]) == pytest.approx(left, abs=1e-7)


def test_times_vectors_and_claims_are_there(results):
    steps = results["time"]["steps"]
    assert steps["none"]["ratio"]["mean"] == 1 and steps["project"]["seconds"] > 0
    for row in results["vectors"]:
        if row["vector"] == "known":
            assert row["cosine"] == pytest.approx(1, abs=1e-5)
            assert row["size"] == pytest.approx(1, rel=1e-4)
    ids = [row["id"].removeprefix("blocking/") for row in results["claims"]]
    assert ids == [
        "transmits", "project", "project-share", "inoculate", "inoculate-share", "project-blind",
        "project-blind-share", "inoculate-blind", "inoculate-blind-share", "drop-rows",
        "drop-rows-blind", "project-keeps-the-task", "inoculate-keeps-the-task",
    ]  # fmt: skip


def test_the_page_stands_and_the_same_command_reads_it_again(model, out, capsys):
    page = (out / "report.html").read_text()
    for title in ("Can transmission be stopped", "Blocked against kept", "Time paid"):
        assert title in page
    for name in ("transmission", "trade_off"):
        assert (out / f"{name}.png").stat().st_size > 5000
    before = (out / "results.json").stat().st_mtime_ns
    main(["blocking", "--model", str(model), "--out", str(out), *SMALL])
    assert (out / "results.json").stat().st_mtime_ns == before
    assert "report: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--traits", "owl", "owl"), "each once"),
        (("--shares", "1.0"), "shares"),
        (("--shares", "0.101", "0.104"), "are 10% 10%"),
        (
            ("--optimizers", "sgd", "--rates", "sgd=0.1", "--vector-rates", "adamw=0.1"),
            "vector-rates for adamw, which is none of the optimizers",
        ),
        (("--guard", "project"), "leave --guard out"),
        (("--guard-vector", "blind"), "'teacher' or FILE"),
        (("--guard-vector", "nowhere.safetensors"), "no such vector file"),
        (("--objective", "kl"), "objective kl"),
        (("--preset", "huge"), "huge"),
    ],
)
def test_bad_input_is_refused_in_one_line(model, tmp_path, capsys, flags, word):
    with pytest.raises(SystemExit) as stop:
        main(["blocking", "--model", str(model), "--out", str(tmp_path / "x"), *SMALL, *flags])
    error = re.sub(r"(?m)^sampling.*\n", "", capsys.readouterr().err)
    assert stop.value.code == 2 and word in error and error.count("\n") == 1


# -- a guard by flag in other jobs: what only a guarded training refuses ----------------------

AVERAGED = ("--optimizers", "schedule_free_sgd", "--rates", "schedule_free_sgd=0.1", "--steps", "4",
            "--log-every", "4", "--seeds", "1", "--rows", "24")  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--guard", "project"), "schedule_free_sgd evaluates an average"),
        (
            ("--guard", "drop-rows", "--guard-share", "0.9"),
            "batch_size=4 is larger than the data (2 rows)",
        ),
    ],
)
@pytest.mark.parametrize("job", ["optimizer-comparison", "trait-transmission"])
def test_other_jobs_take_a_guard(model, tmp_path, capsys, job, flags, words):
    out = tmp_path / "x"
    given = arguments(model, out) if job == "optimizer-comparison" else [
        job, "--model", str(model), "--out", str(out), "--traits", "owl", "--teachers", "steered",
        "--heldout-rows", "8", "--max-new-tokens", "12", "--batch-size", "4",
    ]  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        main([*given, *AVERAGED, *flags])
    assert stop.value.code == 2 and words in capsys.readouterr().err
