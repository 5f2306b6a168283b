"""Tables of plain rows, printed on the terminal and written as HTML with the same cells."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from markupsafe import Markup
from rich.console import Console
from rich.table import Table as RichTable

from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.reporting.templates import TEMPLATES
from subliminal_jax.reporting.texts import terminal_text

Kind = Literal["text", "number", "count", "rate", "learning_rate", "learning_rates", "p"]
TEXT_KINDS = ("text", "learning_rates")  # aligned to the left
MISSING = "\N{EN DASH}"
PAPER = 118  # characters of a printed page's width, in the size of tables
WIDTH = 150  # least width of printed tables, in characters, where stdout is no terminal


@dataclass(frozen=True)
class Column:
    """One column: where its values are found in a row, its title, and how a value is written.

    `key` is an attribute of the row (or a key, where the row is a mapping), or several with dots
    between: "best.eas" is the `eas` of the row's `best`, and None where `best` is None. `labels`
    gives the words for some or all values.

    A value is a string, a number, None, an `Interval`, which is written with its ends in brackets,
    or a sequence of these. Kinds: "number" has `digits` after the point, "rate" is a share written
    in percent, "learning_rate" (or "learning_rates", of a grid) and "p" have few significant
    digits, "count" is an integer.
    """

    key: str
    title: str
    kind: Kind = "text"
    digits: int = 2
    labels: Mapping[Any, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A title, columns, and rows (objects or mappings) in which these find their values; `caption`
    explains them."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Any]
    caption: str = ""


def write_cell(row: Any, column: Column) -> str:
    """The cell of `column` in `row`, as text.

    Raises AttributeError for an object without the attribute; a key that a mapping lacks is a dash.
    """
    value = row
    for name in column.key.split("."):
        if value is None:
            break
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name)
    return format_cell(column.labels.get(value, value) if column.labels else value, column)


def format_cell(value: Any, column: Column) -> str:
    """`value` as text; None, NaN, missing values and empty sequences are a dash."""
    if isinstance(value, list | tuple):
        return ", ".join(format_cell(part, column) for part in value) or MISSING
    if isinstance(value, Interval):
        mean, low, high = (format_cell(x, column) for x in (value.mean, value.low, value.high))
        return mean if MISSING in (low, high) else f"{mean} [{low}, {high}]"
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) or column.kind == "text":
        return str(value)
    if column.kind == "count":
        return f"{value:,}"
    if column.kind in ("learning_rate", "learning_rates"):
        return format_learning_rate(value)
    if column.kind == "p":
        return "< 0.001" if value < 0.001 else f"{value:.3f}"
    if column.kind == "rate":
        value, unit = 100 * value, "%"
    else:
        unit = ""
    text = f"{value:.{column.digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "\N{MINUS SIGN}") + unit


def format_learning_rate(rate: float) -> str:
    """0.1, 0.03 and 1 as they are; 3e-4 in place of 0.0003."""
    if 1e-2 <= rate < 1e3:
        return f"{rate:.3g}"
    mantissa, exponent = f"{rate:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def format_grids(grids: Mapping[str, Sequence[float]]) -> str:
    """The learning rates tried, by optimizer."""
    return "; ".join(f"{name} {format_grid(grid)}" for name, grid in grids.items())


def format_grid(grid: Sequence[float]) -> str:
    """The learning rates tried."""
    return ", ".join(map(format_learning_rate, grid))


def print_table(table: Table, console: Console | None = None) -> None:
    """Print the table on the terminal (stdout by default)."""
    rich_table = RichTable(
        title=terminal_text(table.title, "bold") if table.title else None,
        caption=terminal_text(table.caption, "table.caption") if table.caption else None,
        title_justify="left",
        caption_justify="left",
    )
    for column in table.columns:
        rich_table.add_column(
            terminal_text(column.title), justify="left" if column.kind in TEXT_KINDS else "right"
        )
    for row in table.rows:
        cells = (write_cell(row, column) for column in table.columns)
        rich_table.add_row(*(terminal_text(cell.replace("\n", "\\n")) for cell in cells))
    (console or Console()).print(rich_table)


def wide_console() -> Console:
    """A console on stdout, at least `WIDTH` wide where stdout is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, WIDTH))


def html_table(table: Table) -> Markup:
    """The table as an HTML `<table>` in a box that scrolls sideways where the screen is narrower.

    One that is wider than paper is marked as wide: it is printed as cards, one a row.
    """
    columns = [
        {"title": column.title, "css_class": "text" if column.kind in TEXT_KINDS else "number"}
        for column in table.columns
    ]
    rows = [[write_cell(row, column) for column in table.columns] for row in table.rows]
    template = TEMPLATES.get_template("table.html.jinja")
    return Markup(
        template.render(
            title=table.title,
            columns=columns,
            rows=[
                [
                    cell if column.kind in TEXT_KINDS else _break_interval(cell)
                    for cell, column in zip(row, table.columns, strict=True)
                ]
                for row in rows
            ],
            wide=_measure_width(table.columns, rows) > PAPER,
            caption=table.caption,
        )
    )


def _break_interval(cell: str) -> str:
    """The cell with the ends of a single interval on a line of their own."""
    found = re.fullmatch(r"([^\[\]]+) (\[[^\[\]]+, [^\[\]]+\])", cell)
    if found is None:
        return cell
    return Markup('{} <span class="ends">{}</span>').format(*found.groups())


def _measure_width(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> int:
    """The least width in characters: of each column its longest word (its longest line, where its
    cells are numbers), and two for the space between columns."""
    width = 0
    for column, *cells in zip(columns, *rows, strict=True):
        words = column.title.split()
        for cell in cells:
            words += re.split(r"\s+" if column.kind in TEXT_KINDS else r" (?=\[)", cell)
        width += 2 + max(map(len, words), default=0)
    return width
