"""The sizes of sampling programs: they hold every prompt, are few, and follow from work saved."""

from dataclasses import replace

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subliminal_jax.models import sampling_plan
from subliminal_jax.models.sampling_plan import plan_sampling
from tests.models.families import LLAMA

# SmolLM2-135M's shape, and the shipped model's.
SMOL = replace(
    LLAMA, layers=30, dim=576, heads=9, kv_heads=3, head_dim=64, mlp_dim=1536, vocab=49152
)
SMALL = replace(LLAMA, layers=4, dim=128, heads=8, kv_heads=4, mlp_dim=384, vocab=2304)


@given(
    st.lists(st.integers(1, 500), max_size=300),
    st.integers(1, 200),
    st.none() | st.integers(1, 40),
)
def test_a_plan_holds_all_prompts_and_answers(lengths, new, batch_size):
    plan = plan_sampling(SMALL, lengths, new, batch_size)
    assert plan.holds(max(lengths, default=1), new)
    assert len(plan.prompt_slots) <= 2 and len(plan.cache_slots) <= 3
    for sizes in (plan.prompt_slots, plan.cache_slots):
        assert list(sizes) == sorted(set(sizes))
    assert plan.cache_slots[0] > plan.prompt_slots[-1]
    assert plan.batch_size == (batch_size or plan.batch_size)
    assert plan == plan_sampling(SMALL, lengths[::-1], new, batch_size)


def test_few_requests_get_one_program_for_prompts_and_no_idle_rows():
    plan = plan_sampling(SMOL, [20] * 10 + [40] * 6, 32)
    assert (plan.prompt_slots, plan.batch_size) == ((40,), 16)


def test_a_second_size_of_prompts_is_compiled_where_it_saves_more_than_that():
    lengths = [24] * 900 + [400] * 100
    assert plan_sampling(SMOL, lengths, 32).prompt_slots == (24, 448)
    assert plan_sampling(SMOL, lengths[::100], 32).prompt_slots == (448,)


def test_a_large_batch_of_a_small_model_grows_its_cache():
    assert plan_sampling(SMALL, [24] * 2000, 48).cache_slots == (40, 56, 72)
    assert plan_sampling(SMALL, [24] * 2000, 2).cache_slots == (26,)


def test_an_accelerator_has_one_loop(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert plan_sampling(SMALL, [24] * 2000, 48).cache_slots == (72,)


def test_rows_are_divided_by_the_devices(monkeypatch):
    monkeypatch.setattr(sampling_plan, "axis_size", lambda axis: 3)
    assert plan_sampling(SMALL, [24] * 7, 8, batch_size=7).batch_size == 9
    assert plan_sampling(SMALL, [24] * 7, 8).batch_size % 3 == 0


@pytest.mark.parametrize("longest", [1, 8, 9, 100])
def test_a_plan_holds_what_it_was_made_for_and_no_more(longest):
    plan = plan_sampling(SMALL, [longest], 8)
    assert plan.holds(plan.prompt_slots[-1], 8)
    assert not plan.holds(plan.prompt_slots[-1] + 1, 8) and not plan.holds(longest, 9)
