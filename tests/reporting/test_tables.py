"""A table says the same on the terminal and on the page, and nothing is lost on the way."""

import io
import math
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.reporting.tables import (
    Column,
    Table,
    format_cell,
    format_learning_rate,
    html_table,
    print_table,
    write_cell,
)


def interval(mean, low, high):
    return Interval(mean, low, high, 3, 0.95, "t")


NUMBER, RATE = Column("x", "x", "number"), Column("x", "x", "rate", 0)


@pytest.mark.parametrize(
    ("value", "column", "words"),
    [
        (0.8512, NUMBER, "0.85"),
        (-0.3, NUMBER, "\N{MINUS SIGN}0.30"),
        (-0.001, NUMBER, "0.00"),
        (None, NUMBER, "\N{EN DASH}"),
        (math.nan, RATE, "\N{EN DASH}"),
        (0.514, RATE, "51%"),
        (interval(0.5, 0.25, 0.75), RATE, "50% [25%, 75%]"),
        (interval(0.5, math.nan, math.nan), NUMBER, "0.50"),
        (interval(math.nan, math.nan, math.nan), NUMBER, "\N{EN DASH}"),
        (12345, Column("x", "x", "count"), "12,345"),
        (0.0004, Column("x", "x", "p"), "< 0.001"),
        (0.25, Column("x", "x", "p"), "0.250"),
        (3e-4, Column("x", "x", "learning_rate"), "3e-4"),
        (True, Column("x", "x"), "yes"),
        ("adamw", NUMBER, "adamw"),
    ],
)
def test_cells(value, column, words):
    assert format_cell(value, column) == words


def test_a_column_reads_attributes_and_keys_in_steps():
    row = SimpleNamespace(kind="kl", best={"eas": interval(0.5, 0.4, 0.6), "rates": (0.1, 3e-4)})
    assert write_cell(row, Column("best.eas.low", "low", "number")) == "0.40"
    assert write_cell(row, Column("best.rates", "rates", "learning_rates")) == "0.1, 3e-4"
    assert write_cell(row, Column("kind", "objective", labels={"kl": "KL"})) == "KL"
    assert write_cell(SimpleNamespace(best=None), Column("best.eas.low", "low")) == "\N{EN DASH}"
    with pytest.raises(AttributeError, match="bset"):
        write_cell(row, Column("bset.eas", "EAS"))


@given(st.floats(1e-8, 1e4))
def test_a_learning_rate_can_be_read_back_to_three_digits(rate):
    assert float(format_learning_rate(rate)) == pytest.approx(rate, rel=6e-3)


TABLE = Table(
    "Arms [at their best]",
    [Column("name", "optimizer"), Column("eas", "EAS [95%]", "number")],
    [
        {"name": "a<b>&[red]", "eas": interval(0.5, 0.4, 0.6)},
        {"name": "sgd"},
    ],
    "Three seeds.",
)


def test_the_terminal_shows_every_cell_and_takes_no_brackets_for_markup():
    console = Console(file=io.StringIO(), width=100)
    print_table(TABLE, console)
    shown = console.file.getvalue()
    for words in ("a<b>&[red]", "0.50 [0.40, 0.60]", "EAS [95%]", "\N{EN DASH}", "Three seeds."):
        assert words in shown


def test_the_page_shows_the_same_words_escaped():
    shown = re.sub(r"</?span[^>]*>", "", html_table(TABLE))
    for words in ("a&lt;b&gt;&amp;[red]", "0.50 [0.40, 0.60]", "EAS [95%]", "Three seeds."):
        assert words in shown
    assert shown.count("<tr>") == 3
