"""What a training program is predicted to need is what it needs."""

import io

import pytest
from rich.console import Console

from benchmarks import memory
from benchmarks.memory import Case, Config, Measured, make_table, measure
from subliminal_jax.errors import InputError


def test_a_prediction_is_near_the_peak(monkeypatch):
    monkeypatch.setitem(memory.CASES, "tiny", Case("tiny", 1, 1, 128, 128))
    found = measure("tiny")
    assert found.predicted > 20e6  # far above what the allocator keeps
    assert 0.7 < found.ratio < 1.5


def test_the_table_has_a_row_a_case():
    console = Console(file=io.StringIO(), width=100)
    console.print(make_table([Measured("some case", 3 * 2**20, 2 * 2**20)]))
    text = console.file.getvalue()
    assert "some case" in text and "3.0 MB" in text and "1.50" in text


def test_a_case_that_there_is_not_is_named():
    with pytest.raises(InputError, match="there is no case 'none'; choose 16 students of shipped"):
        memory.main(Config(case=("none",)))
