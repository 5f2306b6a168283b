"""The report of a run: one self-contained HTML page of texts, tables and pictures."""

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from subliminal_jax.evaluation.claims import Claim
from subliminal_jax.files import atomic_path, plain_json, write_text
from subliminal_jax.reporting.claims import claims_paragraphs, claims_table
from subliminal_jax.reporting.tables import Table, html_table, print_table, wide_console
from subliminal_jax.reporting.templates import TEMPLATES, read_template
from subliminal_jax.reporting.texts import file_name

DPI = 160


@dataclass(frozen=True)
class Text:
    """Paragraphs, divided by empty lines, under an optional title."""

    body: str
    title: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure and a sentence that says what it shows; `name` is its PNG's, without ".png"."""

    name: str
    title: str
    sentence: str
    figure: Figure


Block = Text | Picture | Table


@dataclass(frozen=True)
class Page:
    """The report of an experiment, made from its results alone.

    Attributes:
      title: the question that the run answers.
      summary: the results in a few sentences.
      blocks: the content, in order; `publish` appends the claims.
      printed: the tables that the command prints on the terminal.
    """

    title: str
    summary: str
    blocks: Sequence[Block]
    printed: Sequence[Table] = ()


def publish(
    page: Page,
    folder: str | Path,
    *,
    command: str,
    config: Mapping[str, Any],
    claims: Sequence[Claim] = (),
) -> Path:
    """Print the page's tables and claims, and write the page to `folder`; returns its path.

    Args:
      command: reproduces the run.
      config: the run's configuration, in a collapsed section at the end.
      claims: printed, and added as the page's last block.
    """
    console = wide_console()
    for table in page.printed:
        print_table(table, console)
    if claims:
        print_table(claims_table(claims), console)
        title = "What the paper claims, and what came out here"
        page = replace(page, blocks=[*page.blocks, Text(claims_paragraphs(claims), title)])
    return write_page(page, folder, command=command, config=config)


def write_page(page: Page, folder: str | Path, *, command: str, config: Mapping[str, Any]) -> Path:
    """Write report.html and a PNG for each picture into `folder`; returns the page's path.

    The page holds its pictures and its style in one file, without JavaScript or network requests.
    """
    folder = Path(folder)
    text = TEMPLATES.get_template("page.html.jinja").render(
        title=page.title,
        style=Markup(read_template("page.css")),  # trusted: a file of this package
        summary=_paragraphs(page.summary),
        sections=[_section(block, folder) for block in page.blocks],
        command=command,
        config=json.dumps(plain_json(dict(config)), indent=2, ensure_ascii=False),
    )
    write_text(folder / "report.html", text)
    return folder / "report.html"


def png(figure: Figure) -> bytes:
    """The figure as PNG."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"text.usetex": False, "text.parse_math": True}):
        figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    return buffer.getvalue()


def _section(block: Block, folder: Path) -> dict[str, Any]:
    """The template's variables for a block; a picture's PNG is written to `folder`."""
    section: dict[str, Any] = {"title": block.title, "paragraphs": [], "picture": None, "table": ""}
    if isinstance(block, Text):
        return {**section, "paragraphs": _paragraphs(block.body)}
    if isinstance(block, Table):
        return {**section, "table": html_table(block)}
    image = png(block.figure)
    with atomic_path(folder / f"{file_name(block.name)}.png") as temporary:
        temporary.write_bytes(image)
    width, height = (round(inches * DPI) for inches in block.figure.get_size_inches())
    source = base64.b64encode(image).decode("ascii")
    picture = {
        "sentence": block.sentence,
        "source": f"data:image/png;base64,{source}",
        "width": width,
        "height": height,
    }
    return {**section, "picture": picture}


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
