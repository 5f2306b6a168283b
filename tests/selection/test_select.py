"""Selection by a quantile of the positive scores, and its two controls."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from subliminal_jax.errors import InputError
from subliminal_jax.selection.select import (
    bottom_control,
    random_control,
    select,
    selection_size,
)

# Few distinct values, so that ties are common.
scores = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=60).map(np.array)
quantiles = st.sampled_from([0.01, 0.05, 0.1, 0.3, 0.5, 1.0])
RULES = [select, bottom_control, lambda s, q, index=None: random_control(s, q, 3, index)]


@given(scores, quantiles)
def test_the_selected_are_the_best_of_the_positive(values, quantile):
    chosen = select(values, quantile)
    positive = np.flatnonzero(values > 0)
    assert len(chosen) == selection_size(len(positive), quantile)
    assert set(chosen) <= set(positive)
    assert (np.diff(values[chosen]) <= 0).all()
    rest = np.setdiff1d(positive, chosen)
    if len(chosen) and len(rest):
        assert values[chosen].min() >= values[rest].max()


def test_a_selection_by_hand():
    values = np.array([0.5, -3.0, 2.0, 0.0, 2.0, 1.0, -1.0])
    assert select(values, 0.5).tolist() == [2, 4]
    assert select(values, 0.51).tolist() == [2, 4, 5]
    assert select(values, 1.0).tolist() == [2, 4, 5, 0]
    assert bottom_control(values, 0.5).tolist() == [1, 6]
    assert select(values, 0.25, index=[9, 8, 7, 6, 5, 4, 3]).tolist() == [4]  # the lower index


def test_sizes_are_exact_decimals():
    assert selection_size(30, 0.1) == 3  # not four: 0.1 * 30 is above 3 in binary
    assert selection_size(31, 0.1) == 4
    assert selection_size(1, 0.05) == 1
    assert selection_size(0, 0.05) == 0
    assert selection_size(283_610, 0.1) == 28_361  # the paper's evil ruler


@pytest.mark.parametrize("rule", RULES)
@given(values=scores, seed=st.integers(0, 9), quantile=quantiles)
def test_the_order_of_rows_changes_nothing(rule, values, seed, quantile):
    index = np.arange(len(values)) * 3
    order = np.random.default_rng(seed).permutation(len(values))
    chosen = rule(values[order], quantile, index[order])
    assert index[order][chosen].tolist() == index[rule(values, quantile, index)].tolist()


@given(scores, quantiles, st.floats(0.01, 100))
def test_positive_rescaling_changes_nothing(values, quantile, factor):
    assert select(values * factor, quantile).tolist() == select(values, quantile).tolist()


@pytest.mark.parametrize("rule", RULES)
@given(values=scores)
def test_a_smaller_quantile_is_the_beginning_of_a_larger_one(rule, values):
    small, large = rule(values, 0.1), rule(values, 0.5)
    assert large[: len(small)].tolist() == small.tolist()


@given(scores, quantiles)
def test_a_pair_and_its_flip_are_never_both_selected(values, quantile):
    both = np.concatenate([values, -values])
    chosen = set(select(both, quantile) % len(values))
    assert len(chosen) == len(select(both, quantile))


@given(scores, quantiles)
def test_controls_are_as_many_rows(values, quantile):
    size = len(select(values, quantile))
    random, bottom = random_control(values, quantile, seed=0), bottom_control(values, quantile)
    assert len(set(random)) == len(set(bottom)) == size
    if size:
        assert values[bottom].max() <= np.delete(values, bottom).min(initial=np.inf)


def test_a_random_control_is_drawn_from_all_rows_alike():
    values = np.concatenate([np.ones(50), -np.ones(50)])
    drawn = np.concatenate([random_control(values, 0.2, seed) for seed in range(400)])
    counts = np.bincount(drawn, minlength=100)  # 40 of each expected, standard deviation 6
    assert counts.sum() == 4000
    assert counts.min() > 10
    assert counts.max() < 75


def test_what_cannot_be_selected_from_is_refused():
    for quantile in (0.0, 1.5, float("nan")):
        with pytest.raises(InputError, match="quantile is"):
            select([1.0], quantile)
    with pytest.raises(InputError, match="score of row 7 is nan"):
        select([1.0, float("nan")], 0.5, [5, 7])
    with pytest.raises(InputError, match="2 scores but 1 indices"):
        select([1.0, 2.0], 0.5, [0])


@given(scores)
def test_lengths_change_the_order_but_not_the_positive(values):
    assume((values > 0).any())
    lengths = np.random.default_rng(0).integers(2, 60, len(values))
    assert set(select(values / lengths, 1.0)) == set(select(values, 1.0))
