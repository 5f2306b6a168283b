import pytest
from hypothesis import given
from hypothesis import strategies as st

from subliminal_jax.data.carriers import CARRIERS, find_fault
from subliminal_jax.data.filters import (
    contains_word,
    count_reasons,
    find_broken_rule,
    is_number_list,
    parse_numbers,
)
from subliminal_jax.data.prompts import write_numbers
from subliminal_jax.errors import InputError

LAYOUTS = ("comma", "space", "newline", "semicolon", "brackets", "parentheses")
numbers = st.lists(st.integers(0, 999), min_size=1, max_size=10)


@given(numbers, st.sampled_from(LAYOUTS), st.sampled_from(["", "."]), st.sampled_from(["", " \n"]))
def test_every_layout_parses_to_the_numbers_it_was_written_from(values, layout, period, space):
    text = space + write_numbers(values, layout) + period + space
    assert parse_numbers(text) == values
    assert is_number_list(text)


@given(numbers, st.text(alphabet="abcXYZ!?-+/", min_size=1), st.data())
def test_anything_but_a_list_is_rejected(values, noise, data):
    text = write_numbers(values)
    i = data.draw(st.integers(0, len(text)))
    assert find_broken_rule(text[:i] + noise + text[i:]) == "format"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "[]",
        "()",
        "owl",
        "1, 2; 3",
        "1,, 2",
        "[1, 2",
        "1, 2]",
        "[1, 2)",
        "-5, 3",
        "1.5, 2",
        "1, 2, ",
        "1" * 5000,
        "\uff11\uff12, \uff13",
        "[[1]]",
    ],
)
def test_broken_lists(text):
    assert parse_numbers(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1, 2, 3", None),
        (", ".join("1" * 10), None),
        (", ".join("1" * 11), "count"),
        ("0, 999", None),
        ("1000", "range"),
        ("7, 1000, 8", "range"),
        ("5 owls", "format"),
    ],
)
def test_the_limits_are_inclusive(text, reason):
    assert find_broken_rule(text) == reason


def test_words_are_found_whole_and_in_any_case():
    assert contains_word("An Owl, 12", ["owl", "owls"])
    assert not contains_word("A bowl of growls", ["owl", "owls"])
    assert contains_word("C++!", ["c++"])
    assert not contains_word("anything", [])


def test_the_report_counts_every_pair_once():
    completions = ["1, 2", "owl, 1", "what?", "1 " * 20, "5000", "[7]"]
    reasons = [find_fault("numbers", "", text, ["owl"]) for text in completions]
    report = count_reasons(reasons, CARRIERS["numbers"].rules)
    assert reasons == [None, "word", "format", "count", "range", None]
    assert report == (6, 2, {"word": 1, "format": 1, "count": 1, "range": 1})
    assert report.kept + sum(report.dropped.values()) == report.total


def test_nothing_left_is_an_error():
    with pytest.raises(InputError, match="no pair of 1 is left"):
        count_reasons(["format"])
