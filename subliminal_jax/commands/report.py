"""Write the page of a finished run again, from its results alone.

subliminal-jax report runs/trait-transmission
subliminal-jax report runs/from-elsewhere --out pages/from-elsewhere
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from subliminal_jax.errors import InputError
from subliminal_jax.escaping import print_line
from subliminal_jax.files import atomic_folder
from subliminal_jax.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from subliminal_jax.runs.experiment import Experiments


@dataclass(frozen=True)
class Config:
    """Which run.

    Attributes:
      run: the folder of a finished run.
      out: write the page to this folder, and nothing to the run's; a folder that an earlier call
        wrote is replaced.
    """

    run: tyro.conf.Positional[Path]
    out: Path | None = None


def main(config: Config, experiments: "Experiments") -> None:
    """Print the run's tables and write its page.

    Raises InputError for a folder without a finished run of one of `experiments` or of `audit`.
    """
    folder = RunFolder(config.run, None)
    if not config.run.is_dir():
        raise InputError(f"{config.run} is no folder: name the folder of a run")
    try:
        settings, _ = folder.read_config()
    except InputError as error:
        raise InputError(f"{config.run} holds no run: {error}") from None
    from subliminal_jax.commands.audit.command import AUDIT
    from subliminal_jax.runs.experiment import draw_again, read_results

    name = settings.get("experiment")
    if name == AUDIT.name:
        experiment = AUDIT
    elif isinstance(name, str) and name in experiments:
        experiment = experiments[name]()
    else:
        raise InputError(f"{config.run}/config.json: there is no experiment {name!r}")
    read_results(experiment, config.run)  # refuse before anything is written
    if config.out is None:
        with RunFolder.open_again(config.run) as opened:
            page = draw_again(experiment, opened)
    else:
        with atomic_folder(config.out) as temporary:
            page = config.out / draw_again(experiment, folder, temporary).name
    print_line(f"report: {page}")
