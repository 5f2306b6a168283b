"""The calibration that comes with the package is that of the stored run, for the model it names."""

import json
from pathlib import Path

import pytest

from subliminal_jax.audit.calibrations import FOLDER, find_calibration, read_calibration
from subliminal_jax.errors import InputError
from subliminal_jax.fingerprints import weights_digest
from subliminal_jax.models.hub import load_model
from subliminal_jax.serialization import to_json

STORED = Path(__file__).parents[2] / "experiments/forecast_benchmark/results"


def test_shipped_has_the_calibration_of_the_stored_run():
    found = find_calibration(weights_digest(load_model("shipped", dtype="float32").params))
    assert found is not None and found.model == "shipped"
    stored = json.loads((STORED / "forecast-benchmark.json").read_text())["results"]["calibration"]
    for line, expected in zip(to_json(found)["lines"], stored["lines"], strict=True):
        assert line["rule"] == expected["rule"]
        numbers = {k: v for k, v in line.items() if isinstance(v, float)}
        assert numbers == pytest.approx({k: expected[k] for k in numbers}, rel=1e-6)
    assert found.pilot_steps == stored["pilot_steps"] and found.sets == stored["sets"]
    assert find_calibration("another model's") is None


def test_what_holds_no_calibration_is_refused(tmp_path):
    with pytest.raises(InputError, match="no calibration there"):
        read_calibration(tmp_path)
    for text in ("{}", "[]", "not JSON"):
        file = tmp_path / "results.json"
        file.write_text(text)
        with pytest.raises(InputError, match=r"results\.json"):
            read_calibration(tmp_path)
    assert all(read_calibration(file).level == 0.9 for file in FOLDER.glob("*.json"))
