"""What every experiment does around its computation: open the folder, compute once, draw."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import RunSettings

# report(folder, results, settings, command) -> the page's path
Report = Callable[[Path, Mapping[str, Any], Mapping[str, Any], str], Path]


def run_once(
    config: RunSettings,
    compute: Callable[[RunFolder], Mapping[str, Any]],
    report: Report,
    **found: Any,
) -> dict[str, Any]:
    """The results in the folder `config.out`, computed unless they are there, and their page.

    The page is drawn anew each time, from what results.json holds.

    Args:
      compute: takes the open folder, in which it may go on from an interrupted run, to the results.
      report: prints the tables and writes the page.
      found: settings that follow from the flags (default learning rates), recorded beside them.

    Raises:
      InputError: the folder cannot be used (`RunFolder.open`), or what `compute` raises.
    """
    settings = config.recorded() | found
    with RunFolder.open(config.out, settings, overwrite=config.overwrite) as run:
        if not run.finished:
            run.write_results(compute(run))
        results = run.read_results()
        page = report(run.path, results, settings, " ".join(["subliminal-jax", *sys.argv[1:]]))
    print(f"report: {page}")
    return results
