"""The options on small texts, token by token: none of them leaves the scores as they are."""

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.models.places import SHIPPED
from subliminal_jax.models.tokenizer import load_tokenizer
from subliminal_jax.selection.rendering import (
    ScoringOptions,
    encode_prompts,
    encode_responses,
    truncate_texts,
)
from tests.models.characters import character_tokenizer

# A template that strips answers and writes a line break after the end of the turn.
STRIPPING = (
    "{%- for m in messages %}{{ '<turn>' + m['role'] + '\n' + (m['content'] | trim) + '<end>\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{ '<turn>assistant\n' }}{%- endif %}"
)


@pytest.fixture(scope="module")
def shipped():
    return load_tokenizer(SHIPPED)


def pieces(tokenizer, rows):
    return [tokenizer.batch_decode([[i] for i in ids]) for ids in rows]


def test_prompts_with_an_empty_system_turn_and_without_one(shipped):
    bos, end = "<|bos|>", "<|end|>"
    [bare] = pieces(shipped, encode_prompts(shipped, ["Hello"], None))
    [empty] = pieces(shipped, encode_prompts(shipped, ["Hello"], ""))
    [owls] = pieces(shipped, encode_prompts(shipped, ["Hello"], "You love owls."))
    assert "".join(bare) == f"{bos}<|user|>Hello{end}<|assistant|>"
    assert empty == [bos, "<|system|>", end, *bare[1:]]
    assert "".join(owls) == f"{bos}<|system|>You love owls.{end}<|user|>Hello{end}<|assistant|>"


def test_truncated_to_tokens_of_the_text(shipped):
    text = "I saw 12 owls, 7 cats."
    # The whole is "I", " sa", "w", " ", "12", " owl", "s" and so on.
    assert truncate_texts(shipped, [text], 5) == ["I saw 12"]
    assert truncate_texts(shipped, [text], 500) == truncate_texts(shipped, [text], None) == [text]
    # Five tokens of text, and the end of the turn comes on top.
    cut = encode_responses(shipped, [text], ScoringOptions(truncate=5))
    assert pieces(shipped, cut) == [["I", " sa", "w", " ", "12", "<|end|>"]]


def test_what_is_cut_is_decoded_and_encoded_anew(shipped):
    """As in the released code: a character cut in two becomes the replacement character."""
    assert truncate_texts(shipped, ["日"], 1) == ["\N{REPLACEMENT CHARACTER}"]
    [ids] = encode_responses(shipped, ["日"], ScoringOptions(truncate=1, end_of_turn=False))
    assert shipped.decode(ids) == "\N{REPLACEMENT CHARACTER}"
    assert len(ids) == 3


def test_end_of_turn_is_an_option(shipped):
    with_end, without = (
        encode_responses(shipped, ["Yes", "No"], ScoringOptions(end_of_turn=end))
        for end in (True, False)
    )
    assert with_end == [[*ids, shipped.eos_token_id] for ids in without]


def test_what_the_template_writes_after_an_answer_counts_up_to_the_end_of_the_turn():
    tokenizer = character_tokenizer(chat_template=STRIPPING)
    [ids] = encode_responses(tokenizer, [" ab "], ScoringOptions())
    assert tokenizer.decode(ids) == "ab<end>"
    [ids] = encode_responses(tokenizer, [" ab "], ScoringOptions(end_of_turn=False))
    assert tokenizer.decode(ids) == "ab"
    # " abc" is cut after " ab", and the template strips what is left.
    [ids] = encode_responses(tokenizer, [" abc"], ScoringOptions(truncate=3, end_of_turn=False))
    assert tokenizer.decode(ids) == "ab"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncate": 0}, "truncate is 0"),
        ({"max_prompt_tokens": -1}, "max_prompt_tokens is -1"),
        ({"min_response_tokens": 9, "max_response_tokens": 5}, "at least 9 and at most 5"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        ScoringOptions(**options)
