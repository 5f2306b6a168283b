"""Write the page of a finished run again, from its results alone.

subliminal-jax report runs/trait-transmission
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from subliminal_jax.errors import InputError
from subliminal_jax.runs.experiment import Experiments, write_report
from subliminal_jax.runs.run_folder import RunFolder


@dataclass(frozen=True)
class Config:
    """Which run.

    Attributes:
      run: the folder of a finished run.
    """

    run: tyro.conf.Positional[Path]


def main(config: Config, experiments: Experiments) -> None:
    """Print the run's tables and write its page.

    Raises InputError for a folder without a finished run of one of `experiments`.
    """
    folder = RunFolder(config.run, None)
    try:
        settings, _ = folder.read_config()
    except (OSError, ValueError) as error:
        raise InputError(f"{config.run} holds no run ({error}): name the folder of one") from None
    name = str(settings.get("experiment"))
    if name not in experiments:
        raise InputError(f"{config.run}/config.json: there is no experiment {name!r}")
    if not folder.finished:
        raise InputError(f"{config.run} is not finished: repeat its command to continue it")
    print(f"report: {write_report(experiments[name](), folder)}")
