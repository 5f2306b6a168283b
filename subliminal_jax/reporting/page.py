"""The report of a run: one self-contained HTML page of texts, tables and pictures."""

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
from subliminal_jax.reporting.claims import claims_table, describe_claims
from subliminal_jax.reporting.drawing import draw_svg, find_points
from subliminal_jax.reporting.tables import Column, Table, html_table, print_table, wide_console
from subliminal_jax.reporting.templates import TEMPLATES, read_template
from subliminal_jax.reporting.texts import file_name

DPI = 160
LEAST, LARGEST = 0.72, 1.6  # pixels on a page for each point of a figure
MOST_VALUES = 300  # points of a picture that a table beside it lists
VALUE_COLUMNS = (Column("series", "series"), Column("x", "x"), Column("y", "y"))
CLAIMS_TITLE = "What the paper claims, and what came out here"


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


@dataclass(frozen=True)
class ClaimList:
    """Claims with their numbers and verdicts."""

    title: str
    claims: Sequence[Claim]


Block = Text | Picture | Table | ClaimList


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
    facts: Mapping[str, str] | None = None,
) -> Path:
    """Print the page's tables and claims, and write the page to `folder`; returns its path.

    Args:
      claims: printed, and added as the page's last block; their verdicts are counted at its top.

    For the other arguments see `write_page`.
    """
    console = wide_console()
    for table in page.printed:
        print_table(table, console)
    if claims:
        print_table(claims_table(claims), console)
        page = replace(page, blocks=[*page.blocks, ClaimList(CLAIMS_TITLE, claims)])
    return write_page(page, folder, command=command, config=config, facts=facts)


def write_page(
    page: Page,
    folder: str | Path,
    *,
    command: str,
    config: Mapping[str, Any],
    facts: Mapping[str, str] | None = None,
) -> Path:
    """Write report.html and a PNG for each picture into `folder`; returns the page's path.

    The page holds its pictures and its style in one file, without JavaScript or network requests.

    Args:
      command: reproduces the run.
      config: the run's configuration, in a collapsed section at the end.
      facts: what else is known of the run, by name; the values are a line under the title, too.
    """
    folder = Path(folder)
    text = TEMPLATES.get_template("page.html.jinja").render(
        title=page.title,
        style=Markup(read_template("page.css")),  # trusted: a file of this package
        meta=" · ".join((facts or {}).values()),
        summary=_paragraphs(page.summary),
        sections=[_section(block, i, folder) for i, block in enumerate(page.blocks)],
        facts=facts or {},
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


def _section(block: Block, number: int, folder: Path) -> dict[str, Any]:
    """The template's variables for a block; a picture's PNG is written to `folder`."""
    section: dict[str, Any] = {
        "id": f"section-{number + 1}",
        "title": block.title,
        "paragraphs": [],
        "picture": "",
        "table": "",
        "claims": [],
    }
    if isinstance(block, Text):
        return {**section, "paragraphs": _paragraphs(block.body)}
    if isinstance(block, ClaimList):
        return {**section, **describe_claims(block.claims)}
    if isinstance(block, Table):
        return {**section, "table": html_table(block)}
    with atomic_path(folder / f"{file_name(block.name)}.png") as temporary:
        temporary.write_bytes(png(block.figure))
    return {**section, "picture": html_picture(block, f"picture-{number + 1}")}


def html_picture(picture: Picture, prefix: str) -> Markup:
    """The picture as a `<figure>` whose points show their values; `prefix` begins its ids."""
    drawing = draw_svg(picture.figure, prefix)
    points = find_points(picture.figure)
    values = html_table(Table("", VALUE_COLUMNS, points)) if len(points) <= MOST_VALUES else ""
    width, height = (round(72 * inches, 1) for inches in picture.figure.get_size_inches())
    template = TEMPLATES.get_template("picture.html.jinja")
    return Markup(
        template.render(
            sentence=picture.sentence,
            drawing=Markup(drawing),  # trusted: matplotlib escapes the texts of a figure
            points=points,
            values=values if points else "",
            plate=any(axes.images for axes in picture.figure.axes),
            width=width,
            height=height,
            largest=round(LARGEST * width),
            least=round(LEAST * width),
        )
    )


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
