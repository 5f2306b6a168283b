"""The experiments, each a folder with an `experiment.py`.

A wheel holds them here; in a checkout they lie in `experiments/` at the top of the repository,
which this package then covers as well, so that their import path is the same in both.
"""

from pathlib import Path

_CHECKOUT = Path(__file__).parents[2]
if (_CHECKOUT / "pyproject.toml").is_file() and (_CHECKOUT / "experiments").is_dir():
    __path__.append(str(_CHECKOUT / "experiments"))
