"""An experiment is computed once, its page drawn each time from what results.json holds."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.claims import REPRODUCED, Claim
from subliminal_jax.evaluation.statistics import Interval, mean_interval
from subliminal_jax.reporting.page import Page, Text
from subliminal_jax.reporting.tables import Column, Table
from subliminal_jax.runs.checks import check_names
from subliminal_jax.runs.experiment import Experiment, read_results, run_experiment
from subliminal_jax.runs.settings import RunSettings


@dataclass(frozen=True, kw_only=True)
class Config(RunSettings):
    rows: int = 3

    def check(self) -> None:
        if self.rows < 1:
            raise InputError(f"rows is {self.rows}: give at least 1")


@dataclass(frozen=True)
class Results:
    values: tuple[float, ...]
    effect: Interval
    missing: float


def make_page(results: Results) -> Page:
    rows = [{"effect": results.effect}]
    table = Table("Effects", [Column("effect", "effect", "number")], rows)
    return Page("A question?", "An answer.", [table, Text("Said.")], printed=(table,))


def make_claims(results: Results) -> list[Claim]:
    number = f"{results.effect:+.1f}"
    return [Claim("counting/up", "numbers rise", "Sec. 1", "here", number, 3, REPRODUCED)]


@pytest.fixture
def calls() -> list[Path]:
    return []


@pytest.fixture
def experiment(calls) -> Experiment:
    def run(config, folder):
        if config.rows == 13:
            raise InputError("rows is 13: that brings no luck")
        calls.append(folder.path)
        return [float(i) for i in range(config.rows)]

    def analyse(values):
        return Results(tuple(values), mean_interval(values), math.nan)

    return Experiment(
        name="counting",
        Config=Config,
        Results=Results,
        run=run,
        analyse=analyse,
        page=make_page,
        claims=make_claims,
    )


def test_it_is_computed_once_and_its_results_are_read_back(experiment, calls, tmp_path, capsys):
    config = Config(out=tmp_path / "run")
    first = run_experiment(experiment, config, "subliminal-jax counting")
    (tmp_path / "run" / "report.html").unlink()
    again = run_experiment(experiment, config, "subliminal-jax counting --rows 3")
    assert calls == [tmp_path / "run"]
    assert first.values == again.values == (0.0, 1.0, 2.0) and first.effect == again.effect
    assert math.isnan(first.missing)  # null in JSON
    assert read_results(experiment, tmp_path / "run").effect == first.effect
    shown = capsys.readouterr().out
    assert shown.count("1.00 [") == 2 and shown.count("counting/up") == 2
    assert shown.count("this run is finished: only its page is drawn again") == 1
    page = (tmp_path / "run" / "report.html").read_text()
    # It names the command that made the run, not the one that drew it again.
    assert "subliminal-jax counting</pre>" in page and "Numbers rise (Sec. 1)" in page


def test_config_and_results_hold_what_a_summary_needs(experiment, tmp_path):
    run_experiment(experiment, Config(out=tmp_path / "run"), "subliminal-jax counting")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["experiment"], config["rows"]) == ("counting", 3)
    assert config["command"] == "subliminal-jax counting" and "out" not in config
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["values"] == [0, 1, 2] and results["missing"] is None
    assert [claim["number"] for claim in results["claims"]] == ["+1.0 [-1.5, 3.5]"]


def test_a_folder_of_other_settings_is_refused(experiment, tmp_path):
    config = Config(out=tmp_path / "run")
    run_experiment(experiment, config)
    with pytest.raises(InputError, match="its rows is 3, and 4 is asked for"):
        run_experiment(experiment, replace(config, rows=4))


@pytest.mark.parametrize(("rows", "says"), [(0, "at least 1"), (13, "no luck")])
def test_bad_input_leaves_no_folder(experiment, rows, says, tmp_path):
    with pytest.raises(InputError, match=says):
        run_experiment(experiment, Config(out=tmp_path / "run", rows=rows))
    assert not (tmp_path / "run").exists()


def test_results_of_another_shape_are_named(experiment, tmp_path):
    run_experiment(experiment, Config(out=tmp_path / "run"))
    (tmp_path / "run" / "results.json").write_text(json.dumps({"values": [1.0]}))
    with pytest.raises(InputError, match=r"results.json: .*effect"):
        read_results(experiment, tmp_path / "run")


@pytest.mark.parametrize(
    ("names", "allowed", "minimum", "message"),
    [
        ((), (), 1, "--traits is empty; give at least 1"),
        (("owl", "owl"), (), 1, "--traits owl owl holds owl twice"),
        (("owl",), (), 2, "--traits owl: 1 are too few; give at least 2"),
        (("owl", "cow"), ("owl",), 1, "--traits cow is not valid: choose from owl"),
    ],
)
def test_names_are_refused(names, allowed, minimum, message):
    with pytest.raises(InputError, match=message):
        check_names("traits", names, allowed, minimum)


def test_names_that_are_known_pass():
    check_names("traits", ("owl", "cat"), {"owl": 1, "cat": 2}, minimum=2)
