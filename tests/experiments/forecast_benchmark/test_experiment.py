"""forecast-benchmark through the command line, on a model of 16 dimensions."""

import json

import pytest

from subliminal_jax.experiments.forecast_benchmark.config import (
    DEVELOPMENT_SEEDS,
    DEVELOPMENT_TRAITS,
    REPORTED_TRAITS,
    Config,
)
from subliminal_jax.experiments.forecast_benchmark.design import design
from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "forecast-benchmark",
    "--traits owl cat dog --carriers numbers --set-rows 64 --development-sets 8 --reported-sets 8 "
    "--clean-sets 1 --optimizers sgd --rates sgd=0.05 --ranks 2 --batch-size 8 --steps 4 "
    "--pilot-steps 1 --most-cost 1 --layer 1",
)


def test_parts_share_neither_traits_nor_seeds():
    sets = design(Config())
    parts = {p: [s for s in sets if s.block == p] for p in ("development", "reported")}
    assert [len(some) for some in parts.values()] == [24, 24]
    for part, traits in (("development", DEVELOPMENT_TRAITS), ("reported", REPORTED_TRAITS)):
        assert {s.trait for s in parts[part]} <= {*traits, None}
        assert sum(s.trait is None for s in parts[part]) == 4
    assert max(s.seed for s in parts["development"]) < DEVELOPMENT_SEEDS
    assert min(s.seed for s in parts["reported"]) >= DEVELOPMENT_SEEDS
    assert {s.scale for s in sets if s.teacher != "vector"} == {1.0}
    assert {s.carrier for s in sets if s.trait is None} == {"numbers", "chat"}


def test_every_set_has_a_pilot_and_an_outcome(folder, results):
    assert [o["part"] for o in results["outcomes"]] == ["development"] * 9 + ["reported"] * 9
    for outcome in results["outcomes"]:
        (rule,) = outcome["rises"]
        assert len(rule["final"]) == len(rule["pilots"][0]) == 3
        assert rule["final"] != rule["pilots"][0]
    assert results["overall"]["pairs"] == 8 and results["unknown"] is None
    assert results["calibration"]["sets"] == 9
    names = [c["id"].removeprefix("forecast-benchmark/") for c in results["claims"]]
    assert names == ["predicts", "covers", "names"]
    check_page(folder)


def test_a_forecast_takes_the_calibration(folder, results, model, tmp_path):
    """Of a set of the benchmark itself: the command reads the run's folder."""
    from subliminal_jax.cli import main
    from tests.experiments.command import read

    file = folder / "sets" / "reported-00.jsonl"
    flags = "--optimizers sgd adamw --traits owl cat dog --ranks 2"
    main(
        ["forecast", "--data", str(file), "--model", str(model), "--out", str(tmp_path / "f")]
        + [*flags.split(), "--calibration", str(folder)]
    )
    found = read(tmp_path / "f")
    assert found["level"] == 0.9 and found["pilot_steps"] == 1
    own, other = found["rules"]
    assert own["rule"] == {"optimizer": "sgd", "rate": 0.05, "rank": 2}
    assert own["known"] and not other["known"]
    assert all(c["low"] < c["rise"] < c["high"] for c in own["candidates"])
    line = results["calibration"]["lines"][0]
    first = own["candidates"][0]
    assert first["rise"] == pytest.approx(line["intercept"] + line["slope"] * first["pilot"])
    check_page(tmp_path / "f")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--pilot-steps 4", "--pilot-steps 4 is no less than --steps 4"),
        ("--seed 7", "data seeds below 100 are for development"),
        ("--rates sgd=0.1,0.2", "--rates has 2 for sgd: give one"),
        ("--traits cat dog", "none is a trait of the development part"),
        ("--ranks 2 2", "--ranks"),
    ],
)
def test_what_cannot_be_is_refused(refuse, flags, says):
    assert says in refuse(flags)


def test_an_interrupted_run_goes_on(folder, results, model_flags):
    (folder / "results.json").unlink()
    manifest = (folder / "sets" / "manifest.jsonl").read_text()
    assert COMMAND.run(folder, model_flags) == results
    assert (folder / "sets" / "manifest.jsonl").read_text() == manifest
    assert all(json.loads(line) for line in manifest.splitlines())
