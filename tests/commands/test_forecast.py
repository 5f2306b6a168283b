"""forecast through the command line: what it refuses, and what it says without a calibration."""

import json

import pytest

from subliminal_jax.cli import main
from subliminal_jax.commands.forecast.config import Config
from tests.experiments.command import read
from tests.pages import check_page

SMALL = "--traits owl cat --optimizers sgd --rates sgd=0.05 --ranks 2 --batch-size 8 --steps 4"


def write(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    rows = [{"prompt": f"Go on: {i}, 5", "completion": f"{i}, {i}"} for i in range(48)]
    return write(tmp_path_factory.mktemp("rows") / "pairs.jsonl", rows)


def forecast(model, data, out, *flags):
    main(
        ["forecast", "--model", str(model), "--data", str(data), "--out", str(out)]
        + [*SMALL.split(), *flags]
    )
    return read(out)


def refuse(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        forecast(*arguments)
    assert end.value.code == 2
    return capsys.readouterr().err


def test_without_a_calibration_the_pilot_speaks_for_itself(model, pairs, tmp_path, capsys):
    found = forecast(model, pairs, tmp_path / "run")
    assert found["level"] is None and "was calibrated" in found["uncalibrated"]
    assert found["pilot_steps"] == 1 and found["rows"] == 16
    (rule,) = found["rules"]
    assert [c["low"] for c in rule["candidates"]] == [None, None]
    assert "rises most in the pilot" in capsys.readouterr().out
    check_page(tmp_path / "run")


def test_a_rate_is_that_of_its_optimizer_in_any_spelling():
    """Of b1=0.80 as of b1=0.8: a given rate is not passed over."""
    config = Config(optimizers=("adamw:b1=0.80", "sgd"), rates=("adamw:b1=0.800=3e-3",))
    assert config.given_rates() == {"adamw:b1=0.8": 3e-3, "sgd": None}


def test_what_cannot_be_forecast_is_refused(model, pairs, tmp_path, capsys):
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}] * 48
    preferences = write(tmp_path / "preferences.jsonl", rows)
    assert "holds preferences" in refuse(capsys, model, preferences, tmp_path / "a")
    few = write(tmp_path / "few.jsonl", [{"prompt": "a", "completion": "b"}] * 20)
    assert "give at least 40 rows" in refuse(capsys, model, few, tmp_path / "b")
    said = refuse(capsys, model, pairs, tmp_path / "c", "--pilot-steps", "4")
    assert "--pilot-steps 4 is no less than --steps 4" in said
    assert not (tmp_path / "c").exists()
    said = refuse(capsys, model, pairs, tmp_path / "d", "--calibration", str(tmp_path / "none"))
    assert "no calibration there" in said


def test_a_calibration_of_another_model_is_refused(model, pairs, tmp_path, capsys):
    from subliminal_jax.serialization import to_json
    from tests.audit.test_forecasts import make_calibration

    file = tmp_path / "calibration.json"
    file.write_text(json.dumps(to_json(make_calibration())))
    said = refuse(capsys, model, pairs, tmp_path / "e", "--calibration", str(file))
    assert "is of m, with other weights" in said
