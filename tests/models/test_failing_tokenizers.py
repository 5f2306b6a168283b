"""Tokenizers whose files fail on some texts: one line, never a traceback or a panic."""

import json

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from subliminal_jax.errors import InputError
from subliminal_jax.models.tokenizer import encode_chat, load_tokenizer

EXPLODING = pre_tokenizers.Split(Regex(r"(a+)+$"), "isolated")


def write_tokenizer(folder, **options):
    inner = Tokenizer(models.WordLevel({"User": 0, "<e>": 1, "b": 2}, **options.pop("model", {})))
    inner.pre_tokenizer = options.pop("pre_tokenizer", pre_tokenizers.Whitespace())
    wrapped = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<e>")
    wrapped.chat_template = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    wrapped.save_pretrained(folder)


def test_a_pattern_that_takes_too_many_steps(tmp_path):
    write_tokenizer(tmp_path, pre_tokenizer=EXPLODING, model={"unk_token": "b"})
    tokenizer = load_tokenizer(tmp_path)
    with pytest.raises(InputError, match="the tokenizer fails on .*retry-limit"):
        encode_chat(tokenizer, "a" * 28 + "c")


def test_an_unknown_token_that_is_missing(tmp_path):
    write_tokenizer(tmp_path, model={"unk_token": "<unk>"})
    tokenizer = load_tokenizer(tmp_path)
    with pytest.raises(InputError, match=f"{tmp_path}: the tokenizer fails on .*WordLevel error"):
        encode_chat(tokenizer, "another word")


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"type": "WordLevel", "vocab": {"a": -1}, "unk_token": "a"}},
        {"model": None},
        {"model": {"type": "BPE", "vocab": {}, "merges": [["a", "b"]]}},
        {"added_tokens": [{"id": 10**20, "content": "x"}]},
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"}},
        {"version": "9"},
        {"decoder": {"type": "Nothing"}},
        {"post_processor": {"type": "TemplateProcessing", "single": [], "special_tokens": 3}},
    ],
)
def test_a_broken_file_is_named(change, tmp_path):
    write_tokenizer(tmp_path, model={"unk_token": "b"})
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=f"{tmp_path}: the tokenizer "):
        encode_chat(load_tokenizer(tmp_path), "b")
