"""Holding the page of a run against its results."""

import html
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from subliminal_jax.reporting.tables import Table, write_cell

NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?%?(?![\w.]*\w)")


def table_cells(page: str) -> list[str]:
    """The texts of the cells with numbers, of all tables of a page."""
    cells = re.findall(r'<td[^>]* class="number">(.*?)</td>', page, re.DOTALL)
    texts = (html.unescape(re.sub(r"<[^>]*>", "", cell)) for cell in cells)
    return [text.replace("\N{MINUS SIGN}", "-") for text in texts]


def read_table(table: Table) -> list[dict[str, str]]:
    """The cells of each row as they are written, by the titles of their columns."""
    return [{c.title: write_cell(row, c) for c in table.columns} for row in table.rows]


def result_numbers(value: Any) -> Iterator[float]:
    """Every number in JSON, at any depth; of a list also its length."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from result_numbers(inner)
    elif isinstance(value, list):
        yield float(len(value))
        for inner in value:
            yield from result_numbers(inner)
    elif isinstance(value, int | float):
        yield float(value)


def rounds_to(x: float, written: str) -> bool:
    """Whether `written` is `x` rounded to the digits that it has."""
    text = written.replace(",", "")
    if text.endswith("%"):
        x, text = 100 * x, text[:-1]
    mantissa, _, exponent = text.partition("e")
    digits = len(mantissa.partition(".")[2])
    unit = 10.0 ** (int(exponent or 0) - digits)
    return math.isclose(x, float(text), abs_tol=0.5001 * unit, rel_tol=1e-9)


def check_page(folder: Path, *, derived: tuple[str, ...] = ()) -> None:
    """Raises AssertionError for a number in a table of report.html that no number of results.json
    rounds to, for a page without tables, and for a picture of the page that has no PNG beside it.

    Args:
      derived: numbers as written on the page that are computed from several others.
    """
    page = (folder / "report.html").read_text(encoding="utf-8")
    numbers = set(result_numbers(json.loads((folder / "results.json").read_text())))
    cells = table_cells(page)
    assert cells, f"{folder}/report.html has no table with numbers"
    missing = {
        written
        for cell in cells
        for written in NUMBER.findall(cell)
        if written not in derived and not any(rounds_to(x, written) for x in numbers)
    }
    assert not missing, f"{folder}/report.html shows what results.json does not hold: {missing}"
    assert page.count("<figure>") == len(list(folder.glob("*.png")))
