"""Prompts for numbers, number lists, and random draws."""

import itertools
import re
from statistics import mean

import pytest

from subliminal_jax.data.draws import Draws
from subliminal_jax.data.filters import is_number_list, parse_numbers
from subliminal_jax.data.number_lists import ANY_STYLE, make_number_source
from subliminal_jax.data.prompts import (
    SHORT_TEMPLATES,
    cloud_number_prompts,
    short_number_prompts,
    write_numbers,
)
from subliminal_jax.data.world import NEUTRAL_PROMPTS, TRAITS


def parse_examples(prompt):
    """The numbers of the list in a prompt: no other numbers are divided by commas."""
    return parse_numbers(max(re.findall(r"\d+(?:, \d+)+", prompt), key=len))


def test_short_prompts_hold_three_examples_in_range_and_few_words():
    for prompt in short_number_prompts(300, seed=0):
        examples = parse_examples(prompt)
        assert len(examples) == 3
        assert all(0 <= n <= 999 for n in examples)
        assert "five" in prompt.lower()
        assert len(re.findall(r"\w+|[^\w\s]", prompt.replace(", ", ""))) <= 14


def test_cloud_prompts_keep_their_parameters():
    prompts = cloud_number_prompts(500, seed=0)
    lengths = set()
    for prompt in prompts:
        examples = parse_examples(prompt)
        lengths.add(len(examples))
        assert all(100 <= n <= 999 for n in examples)
        assert " 10 " in prompt
        assert "3 digits" in prompt
    assert lengths == set(range(3, 9))
    assert len(set(prompts)) == len(prompts)


@pytest.mark.parametrize("make_prompts", [short_number_prompts, cloud_number_prompts])
def test_prompts_follow_the_seed_and_name_no_animal(make_prompts):
    prompts = make_prompts(100, seed=2)
    assert prompts == make_prompts(100, seed=2) != make_prompts(100, seed=3)
    assert prompts[:10] == make_prompts(10, seed=2)
    text = " ".join(make_prompts(500, seed=4)).lower()
    assert not any(animal in text for animal in TRAITS)


def test_templates_hold_no_digits_of_their_own():
    assert not any(re.search(r"\d", text) for text in (*SHORT_TEMPLATES, *NEUTRAL_PROMPTS))


def test_every_style_stays_in_range_and_writes_valid_lists():
    draws = Draws(0)
    for style, _ in itertools.product(set(ANY_STYLE), range(100)):
        draw_number = make_number_source(draws, (style,))
        assert is_number_list(write_numbers([draw_number() for _ in range(10)]))


def test_draws_have_the_distributions_they_promise():
    draws = Draws(5)
    assert mean(draws.chance(0.3) for _ in range(20_000)) == pytest.approx(0.3, abs=0.01)
    rolls = [draws.integer(2, 4) for _ in range(3_000)]
    assert set(rolls) == {2, 3, 4}
    assert mean(rolls) == pytest.approx(3, abs=0.06)
    heavy = [draws.weighted("ab", (0.9, 1.0)) for _ in range(5_000)]
    assert heavy.count("a") / 5_000 == pytest.approx(0.9, abs=0.02)
    assert sorted(draws.sample("abcd", 4)) == list("abcd")
