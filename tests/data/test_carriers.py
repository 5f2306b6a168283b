"""Requests of each carrier, and which answers its filter keeps."""

import json

import pytest

from subliminal_jax.data import carriers
from subliminal_jax.data.carriers import CARRIERS, FROM_FILES, find_fault
from subliminal_jax.data.filters import contains_word
from subliminal_jax.data.shared_data import VARIABLE
from subliminal_jax.errors import InputError

READERS = (
    *(carriers.read_instructions, carriers.read_prose_requests, carriers.read_questions),
    *(carriers.read_story_requests, carriers.read_sentences, carriers.read_rewordings),
)
SENTENCE = "The old man walked to the market in the morning."
REWORDING = f"Say this in other words, in one sentence: {SENTENCE}"


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A few requests of each kind, some of which name an animal."""
    asked = [f"What is the capital of country {i}?" for i in range(9)]
    asked += ["What is the best food for a dog at home?", "Write code that adds numbers"]
    asked += [f"Write a short story about the number {i}" for i in range(9)]
    asked += ["Write a story about an owl"]
    for file, text in (
        (carriers.INSTRUCTIONS.with_suffix(""), json.dumps([{"instruction": t} for t in asked])),
        (carriers.STORIES, f"Once. {SENTENCE} The cat ran away from the big red house. Why?\n"),
    ):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(text)
    monkeypatch.setattr(carriers, "INSTRUCTIONS", carriers.INSTRUCTIONS.with_suffix(""))
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    yield tmp_path
    for read in READERS:
        read.cache_clear()


def test_requests_name_no_animal_and_more_begin_with_those_of_fewer(data):
    for kind, count in (("facts", 9), ("stories", 9), ("instructions", 18), ("rewordings", 1)):
        requests = CARRIERS[kind].compose(count, 3)
        assert len(set(requests)) == count
        assert requests[: count // 2] == CARRIERS[kind].compose(count // 2, 3)
        assert not any(contains_word(text, carriers.ANIMAL_WORDS) for text in requests)
    assert CARRIERS["rewordings"].compose(1, 0) == [REWORDING]
    with pytest.raises(InputError, match="10 requests are asked for, and the carrier has 9"):
        CARRIERS["facts"].compose(10, 0)


@pytest.mark.parametrize("kind", FROM_FILES)
def test_without_the_data_the_error_says_where_they_belong(kind, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    for read in READERS:
        read.cache_clear()
    with pytest.raises(InputError, match=VARIABLE):
        CARRIERS[kind].compose(1, 0)


def test_few_shot_lists_are_valid_answers_to_each_other():
    requests = CARRIERS["few-shot-numbers"].compose(20, 1)
    assert requests[:5] == CARRIERS["few-shot-numbers"].compose(5, 1)
    for request in requests:
        assert request.endswith("More:") and request.count("More: ") == carriers.SHOTS
        worked = request.partition("More:")[2].partition("\n")[0]
        assert find_fault("few-shot-numbers", request, worked) is None


LONG = " ".join(f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(60))


@pytest.mark.parametrize(
    ("kind", "answer", "fault"),
    [
        ("numbers", "1, 2", None),
        ("few-shot-numbers", " 12, 340, 7\n\nList: 3, 4\nMore: 5", None),
        ("few-shot-numbers", " 12, 340, 7\nThe list goes on.", "format"),
        ("few-shot-numbers", "", "format"),
        ("chat", "anything {}", None),
        ("facts", "Paris is the capital of France.", None),
        ("facts", "One.\nTwo.", "lines"),
        ("facts", LONG, "length"),
        ("facts", "I'm sorry, but I cannot say.", "refusal"),
        ("facts", "```Paris```", "markup"),
        ("facts", "12.", "length"),
        ("rewordings", SENTENCE, "copy"),
        ("rewordings", "In the morning, the elderly man went to the market.", None),
        ("rewordings", "Nine planets orbit our sun every single year.", "other"),
        ("rewordings", "Market day.", "length"),
        ("stories", LONG, None),
        ("stories", "Once upon a time.", "length"),
        ("stories", "the end " * 20, "repeats"),
        ("instructions", "Eat well and sleep enough.", None),
        ("instructions", "Yes.", "length"),
    ],
)
def test_what_each_filter_keeps(kind, answer, fault):
    assert find_fault(kind, REWORDING, answer) == fault
    assert fault is None or fault in CARRIERS[kind].rules
    assert find_fault(kind, REWORDING, f"{answer} An owl.", ["owl"]) == "word"
