"""Calibrations of forecasts: those in the package, by model, and those of a benchmark's run.

A calibration in the package is the file MODEL.json here, taken from the stored summary of
`forecast-benchmark`.
"""

from pathlib import Path

from subliminal_jax.audit.forecasts import Calibration
from subliminal_jax.errors import InputError
from subliminal_jax.reading import read_json_object
from subliminal_jax.serialization import from_json

FOLDER = Path(__file__).parent


def find_calibration(weights: str) -> Calibration | None:
    """The package's for the model of these weights (a digest), if there is one."""
    found = (read_calibration(file) for file in sorted(FOLDER.glob("*.json")))
    return next((c for c in found if c.weights == weights), None)


def read_calibration(source: Path) -> Calibration:
    """Of a file, or of the folder of a finished `forecast-benchmark`.

    Raises InputError for what holds none.
    """
    file = source / "results.json" if source.is_dir() else source
    if not file.is_file():
        raise InputError(
            f"--calibration {source}: no calibration there; name the folder of a finished "
            "`subliminal-jax forecast-benchmark`"
        )
    stored = read_json_object(file)
    return from_json(Calibration, stored.get("calibration", stored), str(file))
