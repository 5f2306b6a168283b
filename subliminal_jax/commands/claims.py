"""Store summaries of finished runs, and write the table of claims from summaries.

subliminal-jax claims runs/trait-transmission --store experiments/trait_transmission/results
subliminal-jax claims experiments/*/results/*.json --out docs/claims.md
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from subliminal_jax.bounds import Needs
from subliminal_jax.errors import InputError
from subliminal_jax.escaping import print_line
from subliminal_jax.files import check_own_file, write_text
from subliminal_jax.runs.claims_page import collect_sections, is_claims_page, make_claims_page
from subliminal_jax.runs.summaries import read_summary, summarise, write_summary


@dataclass(frozen=True)
class Config:
    """What to read and where to write.

    Attributes:
      runs: folders of finished runs, or files with their summaries, in the order of the table.
      out: the page to write.
      store: write summaries of the runs to this folder, and no page.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Annotated[Path, Needs("store", unless=True)] = Path("docs/claims.md")
    store: Path | None = None


def main(config: Config) -> None:
    """Write the summaries or the page.

    Raises InputError for a path that is neither a finished run nor a summary.
    """
    if not config.runs:
        raise InputError("name at least one folder of a finished run, or the file of a summary")
    if config.store is None:
        check_own_file(config.out, "page of claims", is_claims_page)
    summaries = [summarise(run) if run.is_dir() else read_summary(run) for run in config.runs]
    if config.store is not None:
        for summary in summaries:
            print_line(f"summary: {write_summary(summary, config.store)}")
        return
    write_text(config.out, make_claims_page(summaries))
    claims = sum(len(section.rows) for section in collect_sections(summaries))
    print_line(f"{config.out}: {claims} claims of {len(summaries)} runs")
