"""Chats as text and as tokens: one beginning, the right end, the same as transformers makes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subliminal_jax.errors import InputError
from subliminal_jax.models.tokenizer import (
    encode_chat,
    encode_completion,
    end_of_turn_id,
    load_tokenizer,
    pad_token_id,
    render_chat,
    stop_token_ids,
)
from tests.models.characters import CHATML, LETTERS, character_tokenizer

BOS, EOS, END = 1, 2, 5
CHAT = [
    {"role": "system", "content": "Love owls."},
    {"role": "user", "content": "Hi!"},
    {"role": "assistant", "content": "Hoo"},
    {"role": "user", "content": "Bye"},
]
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
words = st.text(alphabet=LETTERS.replace("\n", ""), min_size=1, max_size=12).map(str.strip)
words = words.filter(bool)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A tokenizer whose folder has no chat template."""
    folder = tmp_path_factory.mktemp("plain")
    character_tokenizer().save_pretrained(folder)
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def chatml():
    return character_tokenizer(chat_template=CHATML)


@pytest.fixture(scope="module")
def stories(shared_path):
    return load_tokenizer(shared_path("models", "tinystories-656k"))


def test_the_plain_template_is_as_documented(plain):
    assert render_chat(plain, CHAT) == (
        "<bos>System:\nLove owls.\n\nUser:\nHi!\n\n"
        "Assistant:\nHoo<eos>\n\nUser:\nBye\n\nAssistant:\n"
    )
    assert render_chat(plain, CHAT[:2], add_generation_prompt=False) == (
        "<bos>System:\nLove owls.\n\nUser:\nHi!\n\n"
    )


def test_a_tokenizer_that_adds_no_beginning_gets_none_from_the_plain_template(tmp_path):
    character_tokenizer(adds_bos=False).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert render_chat(tokenizer, CHAT[1:2]) == "User:\nHi!\n\nAssistant:\n"
    assert BOS not in encode_chat(tokenizer, "Hi!")


def test_the_template_of_a_checkpoint_is_kept(tmp_path):
    character_tokenizer(chat_template=CHATML).save_pretrained(tmp_path)
    assert render_chat(load_tokenizer(tmp_path), CHAT[1:2]) == (
        "<bos><turn>user\nHi!<end>\n<turn>assistant\n"
    )


@pytest.mark.parametrize("name", ["plain", "chatml", "stories"])
def test_there_is_exactly_one_beginning_and_the_tokens_are_those_of_transformers(name, request):
    tokenizer = request.getfixturevalue(name)
    ids = encode_chat(tokenizer, CHAT)
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1
    expected = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_dict=False)
    assert ids == expected


def test_a_prompt_is_one_user_message_and_the_system_prompt_goes_before(chatml):
    assert encode_chat(chatml, "Hi!") == encode_chat(chatml, [{"role": "user", "content": "Hi!"}])
    assert encode_chat(chatml, "Hi!", "Love owls.") == encode_chat(chatml, CHAT[:2])
    assert encode_chat(chatml, CHAT[1:], "Love owls.") == encode_chat(chatml, CHAT)
    assert encode_chat(chatml, "Hi!", "") != encode_chat(chatml, "Hi!")
    with pytest.raises(InputError, match="already has a system prompt"):
        encode_chat(chatml, CHAT, "Love cats.")
    with pytest.raises(InputError, match="at least one message"):
        encode_chat(chatml, [])


def test_a_template_without_a_system_role_reads_it_in_the_first_user_message():
    tokenizer = character_tokenizer(chat_template=NO_SYSTEM + CHATML)
    folded = [{"role": "user", "content": "Love owls.\n\nHi!"}, *CHAT[2:]]
    assert render_chat(tokenizer, CHAT) == render_chat(tokenizer, folded)
    with pytest.raises(InputError, match="refuses the roles system, assistant: no system"):
        render_chat(tokenizer, [CHAT[0], CHAT[2]])


def test_a_prompt_does_not_depend_on_the_day_and_asks_for_no_thoughts():
    template = "{{ date_string or strftime_now('%s') }}{{ 'think' if enable_thinking else '' }}"
    tokenizer = character_tokenizer(chat_template=template)
    assert render_chat(tokenizer, CHAT) == "26 Jul 2024"


def encode_whole_chat(tokenizer, messages):
    text = render_chat(tokenizer, messages, add_generation_prompt=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", ["plain", "chatml"])
@given(prompt=words, answer=words)
def test_prompt_and_completion_are_the_chat_that_contains_both(name, prompt, answer, request):
    tokenizer = request.getfixturevalue(name)
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    whole = encode_whole_chat(tokenizer, messages)
    parts = encode_chat(tokenizer, prompt) + encode_completion(tokenizer, answer)
    assert whole[: len(parts)] == parts
    assert set(whole[len(parts) :]) <= {tokenizer.convert_tokens_to_ids("\n")}


def test_prompt_and_completion_are_the_chat_in_a_sentencepiece_tokenizer(stories):
    messages = [
        {"role": "user", "content": "Tell me a story."},
        {"role": "assistant", "content": "Once upon a time, there was an owl."},
    ]
    whole = encode_whole_chat(stories, messages)
    parts = encode_chat(stories, messages[:1]) + encode_completion(stories, messages[1]["content"])
    assert whole[: len(parts)] == parts
    assert parts[-1] == stories.eos_token_id


def test_a_completion_that_starts_with_a_line_break_keeps_its_text(stories):
    for text in ("\nOne", "\n\nOne", " One", "One"):
        ids = encode_completion(stories, text)
        assert stories.decode(ids, skip_special_tokens=True).strip() == "One"


@pytest.mark.parametrize("stored", [True, False])
def test_of_several_templates_the_default_is_taken(tmp_path, stored):
    tokenizer = character_tokenizer()
    named = {"default": CHATML, "tool_use": "tools", "rag": "documents"}
    for templates in (named, {"default": CHATML}):
        tokenizer.chat_template = templates
        tokenizer.save_pretrained(tmp_path / str(len(templates)), save_jinja_files=stored)
        loaded = load_tokenizer(tmp_path / str(len(templates)))
        assert loaded.chat_template == CHATML
        loaded.save_pretrained(tmp_path / "again")
        assert load_tokenizer(tmp_path / "again").chat_template == CHATML
    tokenizer.chat_template = {"chat": CHATML, "tool_use": "tools"}
    tokenizer.save_pretrained(tmp_path / "none", save_jinja_files=stored)
    with pytest.raises(
        InputError, match=r"templates \((chat, tool_use|tool_use, chat)\), and none"
    ):
        load_tokenizer(tmp_path / "none")


def test_a_template_file_goes_before_the_one_in_the_config(tmp_path):
    character_tokenizer(chat_template="from the config").save_pretrained(
        tmp_path, save_jinja_files=False
    )
    (tmp_path / "chat_template.json").write_text('{"chat_template": "of a processor"}')
    assert load_tokenizer(tmp_path).chat_template == "from the config"
    (tmp_path / "chat_template.jinja").write_text(CHATML)
    assert load_tokenizer(tmp_path).chat_template == CHATML


@pytest.mark.parametrize("template", [5, ["x"], [{"name": "default"}], {"default": 5}])
def test_a_template_that_is_no_text_is_refused(tmp_path, template):
    character_tokenizer().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({**config, "chat_template": template})
    )
    with pytest.raises(InputError, match="the chat template must be|the tokenizer cannot be read"):
        load_tokenizer(tmp_path)


def test_the_end_of_a_turn_is_read_off_the_template(plain, chatml):
    assert (end_of_turn_id(plain), end_of_turn_id(chatml)) == (EOS, END)


def test_stop_tokens_are_all_the_ends_there_are(chatml, plain, tmp_path):
    assert stop_token_ids(plain) == (EOS,)
    assert stop_token_ids(chatml) == (EOS, END)
    generation = tmp_path / "generation_config.json"
    for listed, expected in [("9", (EOS, 9)), ("[2, 7, 9]", (EOS, 7, 9)), ("null", (EOS,))]:
        generation.write_text(f'{{"eos_token_id": {listed}}}')
        assert stop_token_ids(plain, tmp_path) == expected
    wrong = ('["a"]', "true", "-1", "[[2]]", "2.0", '"<end>"', "{}")
    for broken in ('{"eos_token_id": 2', "[]", *(f'{{"eos_token_id": {x}}}' for x in wrong)):
        generation.write_text(broken)
        with pytest.raises(InputError, match=r"generation_config\.json(: |, line)"):
            stop_token_ids(plain, tmp_path)


def test_ends_of_the_config_count_where_the_generation_config_lists_none(plain, tmp_path):
    (tmp_path / "config.json").write_text('{"eos_token_id": [2, 9]}')
    assert stop_token_ids(plain, tmp_path) == (EOS, 9)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": null}')
    assert stop_token_ids(plain, tmp_path) == (EOS, 9)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 7}')
    assert stop_token_ids(plain, tmp_path) == (EOS, 7)
    (tmp_path / "generation_config.json").unlink()
    (tmp_path / "config.json").write_text('{"text_config": {"eos_token_id": 8}}')
    assert stop_token_ids(plain, tmp_path) == (EOS, 8)


def test_padding_falls_back_to_the_end_of_the_sequence():
    tokenizer = character_tokenizer()
    assert pad_token_id(tokenizer) == 0
    tokenizer.pad_token = None
    assert pad_token_id(tokenizer) == EOS
    tokenizer.eos_token = None
    assert pad_token_id(tokenizer) == 0
