"""A tokenizer of single characters, made in memory: small enough for the tiny models."""

import string
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

LETTERS = string.ascii_letters + ":.!\n "
CHATML = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<turn>' + m['role'] + '\n' + m['content'] + '<end>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<turn>assistant\n' }}{% endif %}"
)


def character_tokenizer(*, adds_bos: bool = True, chat_template: str | None = None) -> Any:
    """64 tokens: the letters, and <pad>, <bos>, <eos>, <turn>, <end> as special tokens."""
    special = ["<pad>", "<bos>", "<eos>", "<unk>", "<turn>", "<end>"]
    vocab = {token: i for i, token in enumerate([*special, *LETTERS])}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    if adds_bos:
        inner.post_processor = processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", vocab["<bos>"])]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<turn>", "<end>"],
    )
    tokenizer.chat_template = chat_template
    return tokenizer
