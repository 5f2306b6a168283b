import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subliminal_jax.training.batch_plans import (
    plan_batches,
    planned_slots,
    round_up_to_power_of_two,
    round_up_width,
)

lengths = st.integers(0, 300)
pairs = st.lists(st.tuples(lengths, st.integers(1, 60)), min_size=1, max_size=60)


def columns(rows):
    major, minor = np.array(rows).T
    return major, minor


@given(pairs, st.sampled_from([(1, 0), (1, 2)]), st.integers(1, 4), st.integers(64, 2000))
def test_every_row_is_in_one_batch_that_it_fits_into(rows, cost, devices, budget):
    major, minor = columns(rows)
    batches = plan_batches(major, minor, cost, budget, devices)
    members = np.concatenate([batch.members for batch in batches])
    assert sorted(members) == list(range(len(rows)))
    for batch in batches:
        assert len(batch.members) <= batch.lines
        assert batch.lines % devices == 0
        assert major[batch.members].max() <= batch.major
        assert minor[batch.members].max() <= batch.minor
        slots = batch.lines * (cost[0] * batch.major + cost[1] * batch.minor)
        assert slots <= budget or batch.lines == devices


@given(st.integers(0, 5000))
def test_widths_waste_little_and_are_few(length):
    rounded = round_up_width(length)
    assert length <= rounded
    assert rounded - length <= max(8, length / 4)
    assert round_up_width(rounded) == rounded
    assert len({round_up_width(n) for n in range(513)}) == 20
    assert max(length, 1) <= round_up_to_power_of_two(length) < 2 * max(length, 1)


def test_many_rows_of_mixed_lengths_leave_little_padding():
    """In the order of the file, rows of 1 to 256 tokens leave half of a batch of many empty."""
    rng = np.random.default_rng(0)
    major = rng.integers(1, 257, 4000)
    batches = plan_batches(major, np.ones_like(major), (1, 0), 8192)
    assert 1 - major.sum() / planned_slots(batches, (1, 0)) < 0.1
    assert len({(batch.lines, batch.major) for batch in batches}) < 30


def test_one_call_after_another_has_the_same_shapes():
    rng = np.random.default_rng(1)
    shapes = [
        {
            (batch.lines, batch.major)
            for batch in plan_batches(
                rng.permutation(np.arange(400) % 50), np.ones(400, int), (1, 0), 8192
            )
        }
        for _ in range(2)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 9])
def test_few_rows_do_not_fill_a_whole_batch(rows):
    [batch] = plan_batches(np.full(rows, 8), np.ones(rows, int), (1, 0), 8192)
    assert batch.lines == round_up_to_power_of_two(rows)
