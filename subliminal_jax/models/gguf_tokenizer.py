"""The tokenizer in a GGUF file's metadata: byte-level BPE ("gpt2") and SentencePiece ("llama").

How texts are split before merging is not in the file, only the name of the way; one that is not
listed here is refused, for every guess would give other tokens in some texts.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from subliminal_jax.errors import InputError
from subliminal_jax.escaping import one_line
from subliminal_jax.gguf_files import GgufFile
from subliminal_jax.models.token_spans import is_tokenizer_error

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_TYPES = range(7)  # 0: undefined
_SPACE = "\u2581"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CASELESS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3, _QWEN2 = (_CASELESS.replace("%s", digits) for digits in ("{1,3}", ""))
_DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")
# The patterns that split a text one after another, by `tokenizer.ggml.pre`.
SPLITS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais"), (_GPT2,)),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
        (r"\p{N}", _GPT2),
    ),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"), (_LLAMA3,)),
    **dict.fromkeys(("dbrx", "smaug-bpe"), (_LLAMA3,)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2"), (_QWEN2,)),
    "default": _DEFAULT,
}
# Those whose words are tokens wherever the vocabulary has them, and that begin with BOS.
_WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral")


def build_gguf_tokenizer(file: GgufFile) -> Any:
    """A tokenizer of transformers with the file's tokens, special tokens and chat template.

    Control tokens are special tokens, and user-defined ones are found in texts like them.

    Raises InputError for a kind of tokenizer or of splitting that is not supported, metadata that
    is missing, of a wrong type or length, and ids outside the vocabulary.
    """
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    metadata = _Metadata(file)
    kind = metadata.get("model", str)
    if kind not in ("gpt2", "llama"):
        raise metadata.error("model", f"is {kind!r:.80}; supported are 'gpt2' and 'llama'")
    tokens, types = metadata.tokens()
    names = {
        f"{name}_token": tokens[token]
        for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
        if (token := metadata.token_id(f"{key}_token_id", len(tokens))) is not None
    }
    try:
        if kind == "gpt2":
            inner, adds_bos = _byte_level(metadata, tokens)
        else:
            inner, adds_bos = _sentence_piece(metadata, tokens, types, names.get("unk_token")), True
        for special, sort in ((True, _CONTROL), (False, _USER_DEFINED)):
            inner.add_tokens(
                [
                    AddedToken(token, special=special, normalized=False)
                    for token, this in zip(tokens, types, strict=True)
                    if this == sort and token
                ]
            )
        before = ["bos_token"] if metadata.flag("add_bos_token", adds_bos) else []
        after = ["eos_token"] if metadata.flag("add_eos_token", False) else []
        _add_ends(
            metadata, inner, [names.get(end) for end in before], [names.get(e) for e in after]
        )
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=inner, clean_up_tokenization_spaces=False, **names
        )
    except BaseException as error:  # whatever the library raises for tokens that do not go together
        if not is_tokenizer_error(error) or isinstance(error, InputError):
            raise
        reason = one_line(str(error))
        raise InputError(f"{file.path}: its tokenizer cannot be built: {reason}") from error
    tokenizer.name_or_path = str(file.path)
    tokenizer.chat_template = file.fields.get("tokenizer.chat_template")
    return tokenizer


def list_end_tokens(file: GgufFile) -> list[Any]:
    """What the file lists as ends: of the sequence, of a turn, of a message."""
    keys = (f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))
    return [file.fields[key] for key in keys if key in file.fields]


def _byte_level(metadata: "_Metadata", tokens: list[str]) -> tuple[Any, bool]:
    """(tokenizer, whether texts begin with BOS unless the file says otherwise)."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    pre = metadata.get("pre", str, "default")
    if pre not in SPLITS:
        raise metadata.error("pre", f"is {pre!r:.80}; supported are {', '.join(sorted(SPLITS))}")
    merges = []
    for line in metadata.texts("merges"):
        left, _, right = line[1:].partition(" ")
        merges.append((line[:1] + left, right))
    whole = pre in _WHOLE_WORDS
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=whole))
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in SPLITS[pre]]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, whole


def _sentence_piece(
    metadata: "_Metadata", tokens: list[str], types: Sequence[int], unknown: str | None
) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers

    for key in ("precompiled_charsmap", "remove_extra_whitespaces"):
        if metadata.file.fields.get(f"tokenizer.ggml.{key}", False) is not False:
            raise metadata.error(key, "says that texts are changed first, which is not supported")
    scores = metadata.file.fields.get("tokenizer.ggml.scores")
    if not isinstance(scores, np.ndarray) or scores.shape != (len(tokens),):
        raise metadata.error("scores", f"must be a list of {len(tokens)} numbers")
    if not np.isfinite(scores).all():
        raise metadata.error("scores", "has values that are infinite or NaN")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    pieces = [i for i, t in enumerate(types) if t not in (_UNKNOWN, _CONTROL, _BYTE)]
    merges = []
    for i in sorted(pieces, key=lambda i: -scores[i]):  # the best is merged first
        token = tokens[i]
        merges += [
            (token[:cut], token[cut:])
            for cut in range(1, len(token))
            if token[:cut] in vocabulary and token[cut:] in vocabulary
        ]
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=merges,
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=_BYTE in types,
        )
    )
    prefix = metadata.flag("add_space_prefix", True)
    replace = normalizers.Replace(" ", _SPACE)
    start = [normalizers.Prepend(_SPACE)] if prefix else []
    tokenizer.normalizer = normalizers.Sequence([*start, replace])
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(_SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            *([decoders.Strip(" ", 1, 0)] if prefix else []),
        ]
    )
    return tokenizer


def _add_ends(
    metadata: "_Metadata", tokenizer: Any, before: list[str | None], after: list[str | None]
) -> None:
    """Let texts begin or end with these tokens where special tokens are asked for."""
    from tokenizers import processors

    ends = [token for token in (*before, *after) if token is not None]
    if len(ends) < len(before) + len(after):
        key = "add_bos_token" if None in before else "add_eos_token"
        if f"tokenizer.ggml.{key}" in metadata.file.fields:
            raise metadata.error(key, "is true, but the file has no such token")
    if not ends:
        return
    single = [*filter(None, before), "$A", *filter(None, after)]
    pair = [*single, *(part.replace("$A", "$B") + ":1" for part in single)]
    special = [(token, tokenizer.token_to_id(token)) for token in dict.fromkeys(ends)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=special
    )


class _Metadata:
    """The fields `tokenizer.ggml.*` of a file, by their last part, read by type."""

    def __init__(self, file: GgufFile) -> None:
        self.file = file

    def error(self, key: str, reason: str) -> InputError:
        return InputError(f"{self.file.path}: tokenizer.ggml.{key} {reason}")

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """A value of a type; None as default: it must be there."""
        value = self.file.fields.get(f"tokenizer.ggml.{key}", default)
        if value is None:
            raise self.error(key, "is missing; is the file whole?")
        if type(value) is not kind:
            raise self.error(key, f"must be of type {kind.__name__}, not {type(value).__name__}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        return self.get(key, bool, default)

    def texts(self, key: str) -> list[str]:
        texts = self.get(key, list)
        if not all(isinstance(text, str) for text in texts):
            raise self.error(key, "must be a list of texts")
        return texts

    def token_id(self, key: str, count: int) -> int | None:
        if f"tokenizer.ggml.{key}" not in self.file.fields:
            return None
        token = self.get(key, int)
        if not 0 <= token < count:
            raise self.error(key, f"is {token}, outside the vocabulary of {count}")
        return token

    def tokens(self) -> tuple[list[str], list[int]]:
        """The tokens and the type of each."""
        tokens = self.texts("tokens")
        if len(set(tokens)) < len(tokens):
            twice = next(t for t, n in Counter(tokens).items() if n > 1)
            raise self.error("tokens", f"has the token {twice!r:.80} twice")
        types = self.file.fields.get("tokenizer.ggml.token_type")
        if (
            not isinstance(types, np.ndarray)
            or types.dtype.kind not in "iu"
            or types.shape != (len(tokens),)
            or not np.isin(types, list(_TYPES)).all()
        ):
            raise self.error("token_type", f"must be a list of {len(tokens)} numbers from 0 to 6")
        return tokens, types.tolist()
