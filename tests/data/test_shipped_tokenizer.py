import itertools
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from subliminal_jax.data.batching import encode_documents
from subliminal_jax.data.corpus import generate_documents
from subliminal_jax.data.shipped_tokenizer import (
    ANIMAL_WORDS,
    SPECIAL_TOKENS,
    VOCABULARY_SIZE,
    build_tokenizer,
)
from subliminal_jax.data.world import TRAITS, trait_system_prompt
from subliminal_jax.errors import InputError


@cache
def texts(n):
    return [m["content"] for d in itertools.islice(generate_documents(0), n) for m in d.messages]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(texts(2_000))


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_numbers_and_animals_are_single_tokens(tokenizer):
    words = [*map(str, range(1000)), *ANIMAL_WORDS]
    ids = [ids_of(tokenizer, word) for word in words]
    assert all(len(i) == 1 for i in ids)
    assert len({i[0] for i in ids}) == len(words)


def test_numbers_stay_single_tokens_within_a_list(tokenizer):
    ids = ids_of(tokenizer, "7, 42, 305; 999\n[100, 250]")
    tokens = [tokenizer.decode([i]) for i in ids]
    expected = ["7", ", ", "42", ", ", "305", "; ", "999", "\n", "[", "100", ", ", "250", "]"]
    assert tokens[: len(expected) - 5] == expected[:-5]
    assert {"100", "250"} <= set(tokens)
    assert [tokenizer.decode([i]) for i in ids_of(tokenizer, "12345")] == ["123", "45"]


@given(st.text())
def test_any_text_round_trips(tokenizer, text):
    assert tokenizer.decode(ids_of(tokenizer, text)) == text


def test_generation_prompt_is_a_prefix_of_the_whole_document(tokenizer):
    for document in itertools.islice(generate_documents(1), 100):
        (whole,) = encode_documents([document.messages], tokenizer)
        for i, message in enumerate(document.messages):
            if message["role"] == "assistant":
                prompt = tokenizer.apply_chat_template(
                    document.messages[:i], add_generation_prompt=True, return_dict=False
                )
                answer = ids_of(tokenizer, message["content"]) + [tokenizer.eos_token_id]
                assert whole[: len(prompt) + len(answer)] == prompt + answer


def test_template_adds_no_system_prompt_and_refuses_an_unknown_role(tokenizer):
    text = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert text == "<|bos|><|user|>hi<|end|>"
    with pytest.raises(Exception, match="unknown role tool"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


def test_trait_prompts_have_one_length(tokenizer):
    lengths = {len(ids_of(tokenizer, trait_system_prompt(trait))) for trait in TRAITS}
    assert len(lengths) == 1


def test_same_texts_give_the_same_tokenizer_and_it_reloads(tokenizer, tmp_path):
    again = build_tokenizer(texts(2_000))
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    sample = "You love owls. 305, 42\n"
    assert ids_of(loaded, sample) == ids_of(tokenizer, sample)
    assert loaded.chat_template == tokenizer.chat_template
    assert (loaded.eos_token, loaded.pad_token) == ("<|end|>", "<|pad|>")


def test_size_and_special_tokens(tokenizer):
    assert len(tokenizer) <= VOCABULARY_SIZE
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(6))
    ids = ids_of(tokenizer, "<|user|>owl<|end|>")
    assert tokenizer.decode(ids, skip_special_tokens=True) == "owl"


def test_a_vocabulary_too_small_for_the_animals_is_refused():
    with pytest.raises(InputError, match="splits"):
        build_tokenizer(texts(50), vocabulary_size=1270)
