"""Store summaries of finished runs, and write the table of claims from summaries.

subliminal-jax claims runs/trait-transmission --store experiments/trait_transmission/results
subliminal-jax claims experiments/*/results/*.json --out docs/claims.md --papers docs/papers
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from subliminal_jax.bounds import Needs
from subliminal_jax.errors import InputError
from subliminal_jax.escaping import print_line
from subliminal_jax.files import check_own_file, write_text


@dataclass(frozen=True)
class Config:
    """What to read and where to write.

    Attributes:
      runs: folders of finished runs, or files with their summaries, in the order of the table.
      out: the page to write.
      papers: also write a page for each paper to this folder.
      store: write summaries of the runs to this folder, and no page.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Annotated[Path, Needs("store", unless=True)] = Path("docs/claims.md")
    papers: Annotated[Path | None, Needs("store", unless=True)] = None
    store: Path | None = None


def main(config: Config) -> None:
    """Write the summaries or the page.

    Raises InputError for a path that is neither a finished run nor a summary.
    """
    if not config.runs:
        raise InputError("name at least one folder of a finished run, or the file of a summary")
    from subliminal_jax.runs.claims_page import collect_sections, is_claims_page, make_claims_page
    from subliminal_jax.runs.paper_pages import is_paper_page, make_paper_pages
    from subliminal_jax.runs.summaries import read_summary, summarise, write_summary

    if config.store is None:
        check_own_file(config.out, "page of claims", is_claims_page)
    summaries = [summarise(run) if run.is_dir() else read_summary(run) for run in config.runs]
    if config.store is not None:
        for summary in summaries:
            print_line(f"summary: {write_summary(summary, config.store)}")
        return
    pages = {} if config.papers is None else make_paper_pages(summaries)
    places = {(config.papers or Path()) / f"{name}.md": text for name, text in pages.items()}
    for place in places:
        check_own_file(place, "page of a paper", is_paper_page)
    write_text(config.out, make_claims_page(summaries))
    for place, text in places.items():
        write_text(place, text)
    claims = sum(len(section.rows) for section in collect_sections(summaries))
    print_line(f"{config.out}: {claims} claims of {len(summaries)} runs")
