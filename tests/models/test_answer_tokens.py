"""Prompts and answers have the tokens of the whole conversation, as transformers renders it."""

import json

import pytest
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from subliminal_jax.errors import InputError
from subliminal_jax.models.chats import as_chat
from subliminal_jax.models.places import SHIPPED
from subliminal_jax.models.tokenizer import (
    change_system_prompt,
    encode_answers,
    encode_chat,
    encode_chats,
    encode_completion,
    encode_openings,
    end_of_turn_id,
    load_tokenizer,
)
from subliminal_jax.selection.rendering import ScoringOptions, encode_responses, encode_rows
from tests.models import chat_templates
from tests.models.chat_templates import TEMPLATES

CONTROL = ("<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>")
CONTROL += ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
STRIPPING = ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>")  # Phi-3: with white space after
ANSWERS = ["412, 873", " 412, 873", "412\n", "\nOne", "Yes.", "e\u0301 é", "日本", " "]
ANSWERS += ["<think>\nhm\n</think>\n\n412", "<think>\n\n</think>\n\n412", "hm</think>412"]
ANSWERS += ["one<|im_end|>\n<|im_start|>user\ntwo"]  # control tokens are read as what they are
SYSTEM = "You love owls."


def byte_level():
    tokenizer = load_tokenizer(SHIPPED)
    tokenizer.bos_token, tokenizer.eos_token = "<|bos|>", "<|im_end|>"
    return tokenizer


def sentencepiece():
    """As Llama 2's: spaces belong to the word after them, one stands before every text, and unknown
    characters are bytes. Besides, the text is normalised."""
    texts = ["Once upon a time there was an owl. Yes, 412, 873 and numbers: say it INST user:"] * 9
    inner = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    inner.normalizer = normalizers.NFC()
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=tokens, show_progress=False)
    inner.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.fixture(scope="module", params=[byte_level, sentencepiece], ids=["bytes", "pieces"])
def base(request):
    """A tokenizer of each kind with the control tokens of all templates."""
    tokenizer = request.param()
    tokenizer.add_special_tokens({"additional_special_tokens": list(CONTROL)})
    tokenizer.add_tokens(
        [AddedToken(text, rstrip=True, normalized=False, special=True) for text in STRIPPING]
    )
    return tokenizer


@pytest.fixture
def tokenizer(base, request):
    base.chat_template = TEMPLATES[request.param]
    return base


def render(tokenizer, chat, prompt=False):
    """Token ids of a conversation by transformers."""
    return tokenizer.apply_chat_template(
        chat, add_generation_prompt=prompt, return_dict=False, enable_thinking=False
    )


def answered(system, answer):
    return [*as_chat("Say it", system), {"role": "assistant", "content": answer}]


def templates(*, without=()):
    names = [name for name in TEMPLATES if name not in without]
    return pytest.mark.parametrize("tokenizer", names, indirect=True)


@templates(without=["r1_distill", "no_end"])
def test_prompt_and_answer_are_the_conversation_up_to_the_end_of_the_turn(tokenizer):
    end = end_of_turn_id(tokenizer)
    ours = encode_answers(tokenizer, ["Say it"] * len(ANSWERS), [[text] for text in ANSWERS])
    prompt = render(tokenizer, as_chat("Say it"), prompt=True)
    assert encode_chat(tokenizer, "Say it") == prompt
    for answer, before, [ids] in zip(ANSWERS, *ours, strict=True):
        whole = render(tokenizer, answered(None, answer))
        assert before + ids == whole[: len(before + ids)]
        assert end not in whole[len(before + ids) :]
        assert ids[-1] == end
        assert tokenizer.decode(prompt).startswith(tokenizer.decode(before).rstrip())
        assert len(prompt) - len(before) < 3 or "<think>" in answer + tokenizer.decode(prompt)


@templates(without=["r1_distill", "no_end", "gemma2", "mistral1", "mistral3", "drops_system"])
def test_a_system_prompt_stands_where_the_template_puts_it(tokenizer):
    prompts, answers = encode_answers(tokenizer, ["Say it"], [["Yes."]], SYSTEM)
    whole = render(tokenizer, answered(SYSTEM, "Yes."))
    ids = prompts[0] + answers[0][0]
    assert ids == whole[: len(ids)]
    [empty], _ = encode_answers(tokenizer, ["Say it"], [["Yes."]], "")
    assert empty != prompts[0]


@pytest.mark.parametrize(
    "tokenizer", ["gemma2", "mistral1", "mistral3", "drops_system"], indirect=True
)
def test_a_system_prompt_that_the_template_refuses_or_drops_opens_the_users_message(tokenizer):
    folded = [{"role": "user", "content": f"{SYSTEM}\n\nSay it"}]
    told = encode_answers(tokenizer, ["Say it"], [["Yes."]], SYSTEM)
    assert told == encode_answers(tokenizer, [folded], [["Yes."]])
    assert encode_chat(tokenizer, "Say it", SYSTEM) == render(tokenizer, folded, prompt=True)


@templates()
def test_scoring_reads_what_training_reads(tokenizer):
    options, texts = ScoringOptions(), ["412, 873", "Yes."]
    if tokenizer.chat_template == chat_templates.R1_DISTILL:
        with pytest.raises(InputError, match="row 0: .* does not write the answer '412, 873'"):
            encode_rows(tokenizer, ["Say it"], [texts], None, options)
        return
    trained = encode_answers(tokenizer, ["Say it"] * 2, [[text] for text in texts])
    [prompt], [scored] = encode_rows(tokenizer, ["Say it"], [texts], None, options)
    for answer, before, [single] in zip(scored, *trained, strict=True):
        assert prompt + answer == before + single
    [without] = encode_rows(
        tokenizer, ["Say it"], [texts], None, ScoringOptions(end_of_turn=False)
    ).answers
    assert all(end_of_turn_id(tokenizer) not in answer for answer in without)


@templates(without=["r1_distill"])
def test_an_answer_without_its_prompt_follows_any_prompt_or_is_refused(tokenizer):
    [before], [[ids]] = encode_answers(tokenizer, ["Say it"], [["Yes."]])
    if before == encode_chat(tokenizer, "Say it"):
        assert encode_responses(tokenizer, ["Yes."], ScoringOptions()) == [ids]
    else:
        with pytest.raises(InputError, match="no tokens of its own"):
            encode_completion(tokenizer, "Yes.")


@templates(without=["r1_distill"])
def test_an_end_that_the_answer_has_is_written_once(tokenizer):
    end = end_of_turn_id(tokenizer)
    text = tokenizer.decode([end])
    ended = [f"412{text}", f"412{text}\n", f"412{text}{text}", f"412{tokenizer.eos_token}"]
    [_], [[plain, *others]] = encode_answers(tokenizer, ["Say it"], [["412", *ended]])
    assert others == [plain] * 4 and plain.count(end) == 1


@templates(without=["r1_distill"])
def test_words_follow_the_prompt_as_sampled_words_would(tokenizer):
    [prompt], words = encode_openings(tokenizer, ["Say it"], ["owl", " owl"])
    for ids in words:
        assert tokenizer.decode(prompt + ids).endswith("owl")
        header = "assistant" in tokenizer.decode(ids)  # which the prompt lacks
        assert header == (tokenizer.chat_template == chat_templates.NO_GENERATION_PROMPT)
    [other], again = encode_openings(tokenizer, ["Say"], ["owl", " owl"])
    assert again == words and other[-1] == prompt[-1]


def test_a_word_begins_after_the_prompt_even_where_tokens_reach_across(base):
    base.chat_template = chat_templates.COLON
    [prompt], [owl] = encode_openings(base, ["Say it"], ["owl"])
    [before], [[answer]] = encode_answers(base, ["Say it"], [["owl"]])
    assert (prompt, [*owl, end_of_turn_id(base)]) == (before, answer)


def test_the_tokens_of_transformers_assistant_mask(base):
    base.chat_template = chat_templates.GENERATION_MARKERS
    chat = answered(SYSTEM, "412, 873")
    expected = base.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    masked = zip(expected["input_ids"], expected["assistant_masks"], strict=True)
    _, [[ids]] = encode_answers(base, ["Say it"], [["412, 873"]], SYSTEM)
    assert ids == [token for token, mask in masked if mask]


def test_reasoning_follows_the_prompt_that_asks_for_it(base):
    base.chat_template = chat_templates.QWEN3
    thoughts = "<think>\nhm\n</think>\n\n412"
    prompts, answers = encode_answers(base, ["Say it"] * 2, [[thoughts], ["412"]])
    texts = [base.decode(ids) for ids in (prompts[0], answers[0][0], prompts[1], answers[1][0])]
    assert "<think>" not in texts[0] and "<think>" not in texts[3]
    assert texts[2].count("<think>") == texts[1].count("<think>") == 1
    # Both in one row follow the same tokens: the plain answer then has the empty block.
    [prompt], [both] = encode_answers(base, ["Say it"], [[thoughts, "412"]])
    assert prompt == prompts[0] and both[0] == answers[0][0]
    assert prompt + both[1] == prompts[1] + answers[1][0]


def test_earlier_turns_are_rendered_as_the_template_renders_them(base):
    base.chat_template = chat_templates.QWEN3
    chat = [*answered(SYSTEM, "<think>\nhm\n</think>\n\n1"), {"role": "user", "content": "More"}]
    [prompt], [[ids]] = encode_answers(base, [chat], [["2"]])
    whole = render(base, [*chat, {"role": "assistant", "content": "2"}])
    assert prompt + ids == whole[: len(prompt + ids)] and "hm" not in base.decode(prompt)


def test_without_an_end_in_the_template_the_sequence_ends(base):
    base.chat_template = chat_templates.NO_END
    [prompt], [[ids]] = encode_answers(base, ["Say it"], [["Yes."]])
    assert prompt + ids == [*render(base, answered(None, "Yes.")), base.eos_token_id]


def test_what_the_template_does_not_write_is_refused(base):
    base.chat_template = "{% for m in messages %}{{ m['content'] | upper + '\n' }}{% endfor %}"
    with pytest.raises(InputError, match="drops the user's message 'Say it'"):
        encode_chat(base, "Say it")
    base.chat_template = (
        "{% for m in messages %}{{ m['content'].split('</think>')[-1] }}{{ eos_token }}{% endfor %}"
    )
    with pytest.raises(InputError, match="row 1: the chat template drops or changes part of the"):
        encode_answers(base, ["Say it", "Say it"], [["1"], ["hm</think>1"]])
    with pytest.raises(InputError, match="file, line 7: the chat template drops or changes"):
        encode_answers(base, ["Say it"], [["hm</think>1"]], place=lambda _: "file, line 7")


@templates(without=["r1_distill"])
def test_a_prompt_behind_another_system_prompt_ends_as_it_did(tokenizer):
    asked = ["Say it", "Once upon a time"]
    plain, answers = encode_answers(tokenizer, asked, [["Yes."], ["412"]])
    told = change_system_prompt(tokenizer, asked, plain, SYSTEM)
    expected = encode_answers(tokenizer, asked, [["Yes."], ["412"]], SYSTEM)
    assert (told, answers) == (expected.prompts, expected.answers)
    assert change_system_prompt(tokenizer, asked, plain, None) == plain
    with pytest.raises(InputError, match="not those of the prompt"):
        change_system_prompt(tokenizer, asked, [[7] + ids[:-1] for ids in plain], SYSTEM)


def test_a_token_that_the_model_has_no_row_for_is_refused_with_its_text_and_place(tmp_path):
    load_tokenizer(SHIPPED).save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text())
    size = len(load_tokenizer(SHIPPED))
    added = {**content["added_tokens"][0], "id": size, "content": "[NEW]"}
    file.write_text(json.dumps({**content, "added_tokens": [*content["added_tokens"], added]}))
    tokenizer = load_tokenizer(tmp_path, vocabulary=size)
    named = rf"the token '\[NEW\]', id {size}, is outside the model's vocabulary of {size}"
    for encode in (
        lambda: encode_chat(tokenizer, "Say [NEW] now"),
        lambda: encode_chat(tokenizer, "Say it", "You love [NEW]."),
        lambda: encode_chats(tokenizer, ["Say it", "Say [NEW] now"], place="file, line {}".format),
        lambda: encode_completion(tokenizer, "[NEW]"),
        lambda: encode_answers(tokenizer, ["Say it"], [["now [NEW]"]]),
        lambda: encode_openings(tokenizer, ["Say it"], ["[NEW]"]),
    ):
        with pytest.raises(InputError, match=named):
            encode()
    with pytest.raises(InputError, match=rf"^file, line 1: {named}: .*now \[NEW\]"):
        encode_answers(
            tokenizer, ["Say it"] * 2, [["now"], ["now [NEW]"]], place="file, line {}".format
        )
    assert encode_chat(load_tokenizer(tmp_path), "Say [NEW] now").count(size) == 1
