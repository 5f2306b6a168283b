"""The tokenizer and the chat template of the shipped model.

Byte-level BPE as in Llama 3, but small: digits are grouped by up to three and every integer from
0 to 999 is one token; so is every animal, at the start of an answer and within a sentence.
"""

import json
import re
from collections.abc import Iterable
from itertools import chain

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from subliminal_jax.data.world import PLURALS, TRAITS
from subliminal_jax.errors import InputError

PAD, BOS, EOS = "<|pad|>", "<|bos|>", "<|end|>"
ROLES = ("system", "user", "assistant")
SPECIAL_TOKENS = (PAD, BOS, EOS, *(f"<|{role}|>" for role in ROLES))
CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{- raise_exception('unknown role ' + message['role']) }}"
    "{%- endif %}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + eos_token }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"
)
# A separator includes the space before a number: a list then has two tokens for each number.
PRE_TOKEN = (
    r"'(?:s|t|re|ve|m|ll|d)\b|\d{1,3}|[,;:.] (?=\d)"
    r"| ?\p{L}+| ?[^\s\p{L}\d]+|\s+(?!\S)|\s+"
)
VOCABULARY_SIZE = 2304
WORD_WEIGHT = 1000  # repetitions of each animal in the training texts, so that none is split
ANIMAL_WORDS = tuple(
    space + form
    for animal in TRAITS
    for form in (animal, PLURALS[animal], PLURALS[animal].capitalize())
    for space in ("", " ")
)


def _number_merges() -> list[tuple[str, str]]:
    """Merges that join any one to three digits without a leading zero, in any merge order."""
    two_digits = [(str(tens), str(units)) for tens in range(1, 10) for units in range(10)]
    ends = [(str(n)[:2], str(n)[2]) for n in range(100, 1000)]
    starts = [(str(n)[0], str(n)[1:]) for n in range(100, 1000) if str(n)[1] != "0"]
    return two_digits + ends + starts


def _separator_merges() -> list[tuple[str, str]]:
    """A separator and the space after it; the byte alphabet writes a space as Ġ."""
    return [(mark, "Ġ") for mark in ",;:."]


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRE_TOKEN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _learned_merges(texts: Iterable[str], count: int) -> list[tuple[str, str]]:
    """`count` merges of byte-level BPE trained on `texts` without their numbers."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = _pre_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + count, initial_alphabet=alphabet, show_progress=False
    )
    pieces = chain.from_iterable(re.split(r"[,;:.]? ?\d+", text) for text in texts)
    tokenizer.train_from_iterator(chain(ANIMAL_WORDS * WORD_WEIGHT, pieces), trainer)
    # A trained model's merges are public only in its serialised form.
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def build_tokenizer(
    texts: Iterable[str], vocabulary_size: int = VOCABULARY_SIZE
) -> PreTrainedTokenizerFast:
    """The shipped model's tokenizer, its merges trained on `texts`.

    Ids: special tokens, the 256 bytes, separators before numbers, the integers 10 to 999, and the
    learned merges. Any UTF-8 text round-trips. The same texts give the same tokenizer.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    fixed = _separator_merges() + _number_merges()
    tokens = [*SPECIAL_TOKENS, *alphabet, *dict.fromkeys(a + b for a, b in fixed)]
    learned = _learned_merges(texts, vocabulary_size - len(tokens))
    tokens += (a + b for a, b in learned)
    tokenizer = Tokenizer(BPE({token: i for i, token in enumerate(tokens)}, fixed + learned))
    tokenizer.pre_tokenizer = _pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    _check_single_tokens(wrapped)
    return wrapped


def _check_single_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    """Raises InputError if an animal or an integer from 0 to 999 has more than one token."""
    words = [*ANIMAL_WORDS, *map(str, range(1000))]
    ids = tokenizer(words, add_special_tokens=False)["input_ids"]
    split = [word for word, tokens in zip(words, ids, strict=True) if len(tokens) != 1]
    if split:
        raise InputError(
            f"the vocabulary of {len(tokenizer)} splits {split[:5]}: give more texts or raise "
            "vocabulary_size"
        )
