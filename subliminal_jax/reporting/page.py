"""One self-contained HTML page a run: what was asked, what came out, in tables and pictures."""

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure
from rich.console import Console

from subliminal_jax.evaluation.claims import Claim
from subliminal_jax.files import atomic_path, plain_json, write_text
from subliminal_jax.reporting.claims import claims_paragraphs, claims_table
from subliminal_jax.reporting.tables import Table, html_table, print_table, wide_console
from subliminal_jax.reporting.templates import TEMPLATES, read_template

DPI = 160


@dataclass(frozen=True)
class Text:
    """Paragraphs, divided by empty lines, under an optional title."""

    body: str
    title: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure with one sentence of what it shows; `name` is that of its PNG, without the end."""

    name: str
    title: str
    sentence: str
    figure: Figure


Block = Text | Picture | Table


@dataclass(frozen=True)
class Page:
    """What an experiment reports, as blocks; a pure function of its results makes it.

    Attributes:
      title: the question that the run answers.
      summary: what came out, in a few sentences, for someone who reads nothing else.
      blocks: what the page shows, in order. The claims are added at its end.
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
    console: Console | None = None,
) -> Path:
    """Print the page's tables and its claims, and write it to `folder`; returns its path.

    The file report.html holds its pictures and its style: it can be mailed as one file, and needs
    neither JavaScript nor a network. Each picture is also written as a PNG beside it.

    Args:
      command: how to get this page again.
      config: the run's configuration, shown folded up at the end.
      console: where the tables are printed; the terminal by default.
    """
    console = console or wide_console()
    for table in page.printed:
        print_table(table, console)
    blocks = list(page.blocks)
    if claims:
        print_table(claims_table(claims), console)
        title = "What the paper claims, and what came out here"
        blocks.append(Text(claims_paragraphs(claims), title))
    return write_page(
        folder, title=page.title, summary=page.summary, command=command, config=config,
        blocks=blocks,
    )  # fmt: skip


def write_page(
    folder: str | Path,
    *,
    title: str,
    summary: str,
    command: str,
    config: Mapping[str, Any],
    blocks: Sequence[Block],
) -> Path:
    """Write report.html and a PNG for each picture into `folder`; returns the page's path."""
    folder = Path(folder)
    text = TEMPLATES.get_template("page.html.jinja").render(
        title=title,
        style=Markup(read_template("page.css")),  # our own file, not a user's text
        summary=_paragraphs(summary),
        sections=[_section(block, folder) for block in blocks],
        command=command,
        config=json.dumps(plain_json(dict(config)), indent=2, ensure_ascii=False),
    )
    write_text(folder / "report.html", text)
    return folder / "report.html"


def png(figure: Figure) -> bytes:
    """The figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    return buffer.getvalue()


def _section(block: Block, folder: Path) -> dict[str, Any]:
    """What the template shows of a block; writes a picture's PNG to `folder`."""
    section: dict[str, Any] = {
        "title": block.title, "paragraphs": [], "picture": None, "table": "",
    }  # fmt: skip
    if isinstance(block, Text):
        return {**section, "paragraphs": _paragraphs(block.body)}
    if isinstance(block, Table):
        return {**section, "table": html_table(block)}
    image = png(block.figure)
    with atomic_path(folder / f"{block.name}.png") as temporary:
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
