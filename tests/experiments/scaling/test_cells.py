"""Cells of a scaling study: which there are, and what their data are called."""

from dataclasses import replace

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.experiments.scaling.cells import Cell, change_one_factor, select_factor

BASE = Cell("small", 0, 8, 1.4, 0, "all")


def test_each_cell_differs_from_the_base_in_one_factor_and_is_there_once():
    levels = {"rank": (2, 8, 32), "norm": (0.5,), "tail": ("frequent-4",), "depth": (2,)}
    cells = change_one_factor(BASE, levels)
    assert cells[0] == BASE and len(cells) == len(set(cells)) == 6
    assert [c.rank for c in select_factor(cells, BASE, "rank")] == [2, 8, 32]
    assert [c.label("depth") for c in select_factor(cells, BASE, "depth")] == ["2", "all"]
    assert [c.tail for c in select_factor(cells, BASE, "tail")] == ["all", "frequent-4"]
    assert len({c.network for c in cells}) == 2
    with pytest.raises(InputError, match="colour"):
        change_one_factor(BASE, {"colour": (1,)})


def test_a_plane_holds_every_combination_of_two_factors():
    cells = change_one_factor(BASE, {"rank": (2, 32), "norm": (0.5, 2.8)}, ("rank", "norm"))
    pairs = {(c.rank, c.norm) for c in cells}
    assert pairs == {(r, n) for r in (2, 8, 32) for n in (0.5, 1.4, 2.8)} and len(cells) == 9


def test_a_cells_data_and_controls_are_weighted_alike():
    tail = replace(BASE, tail="rare-1")
    assert (BASE.name_data("cat"), BASE.name_control("control-0")) == ("cat-norm-1.4", "control-0")
    assert tail.name_data("cat") == tail.name_taught("cat") + "+rare-1"
    assert tail.name_control("control-0") == "control-0+rare-1"
