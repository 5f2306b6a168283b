"""The tokens that end an answer: what the chat template writes, and what a model's files list."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from subliminal_jax.errors import InputError
from subliminal_jax.gguf_files import is_gguf, read_gguf_header
from subliminal_jax.models.chats import ANY_ANSWER, ANY_PROMPT, Tokenizer, render_chat
from subliminal_jax.models.gguf_tokenizer import list_end_tokens
from subliminal_jax.models.token_spans import run_tokenizer
from subliminal_jax.reading import read_json_object


def configured_end_tokens(folder: str | Path) -> dict[int, str]:
    """The ids of `eos_token_id` in generation_config.json, each with the file that it stands in.

    Where that file is missing, those of config.json count (or of its `text_config`), from which
    transformers makes a generation config; and also where it lists none, which would leave the
    model's answers without an end. Of a GGUF file its metadata count.

    Raises InputError for a file that is no JSON object, and for what is no token id or list of
    them.
    """
    for path, value in _read_end_tokens(Path(folder)):
        ids = [
            token for token in (value if isinstance(value, list) else [value]) if token is not None
        ]
        for token in ids:
            if type(token) is not int or token < 0:  # a bool is an int, too
                raise InputError(
                    f"{path}: eos_token_id must be a token id, 0 or more, or a list of them, "
                    f"not {value!r:.80}"
                )
        if ids:
            return dict.fromkeys(ids, str(path))
    return {}


def _read_end_tokens(folder: Path) -> Iterator[tuple[Path, Any]]:
    """Each file that may list ends, with what it lists."""
    if is_gguf(folder):
        yield folder, list_end_tokens(read_gguf_header(folder))
        return
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        if not path.is_file():
            continue
        settings = read_json_object(path)
        value = settings.get("eos_token_id")
        if value is None and isinstance(nested := settings.get("text_config"), Mapping):
            value = nested.get("eos_token_id")
        yield path, value


class EndOfTurn(NamedTuple):
    """The end of an assistant's turn: its token and its text in the template (None: the template
    writes none, and the end of the sequence stands for it), and all that follows an answer."""

    token: int | None
    text: str | None
    tail: str
    endings: "re.Pattern[str] | None"  # one or more ends at the end of a text

    def remove(self, answer: str) -> str:
        """The answer without the ends that it already has."""
        return answer if self.endings is None else self.endings.sub("", answer)

    def cut(self, whole: str, start: int, keep: bool) -> str:
        """The conversation up to the end of its last answer, which begins after `start`."""
        at = -1 if self.text is None else whole.rfind(self.text, start)
        if self.text is None or at < 0:
            return whole if keep else whole[:start] + whole[start:].removesuffix(self.tail)
        if keep:
            return whole[: at + len(self.text)]
        return whole[:start] + whole[start:at].removesuffix(self.tail.partition(self.text)[0])


def find_end(tokenizer: Tokenizer) -> EndOfTurn:
    """The first added token that the template writes after an answer, special or not."""
    chat = [
        {"role": "user", "content": ANY_PROMPT},
        {"role": "assistant", "content": ANY_ANSWER},
    ]
    tail = render_chat(tokenizer, chat, add_generation_prompt=False).rpartition(ANY_ANSWER)[2]
    token, text = tokenizer.eos_token_id, None
    added = tokenizer.added_tokens_decoder
    for candidate in run_tokenizer(tokenizer, tail, add_special_tokens=False)["input_ids"]:
        content = added[candidate].content if candidate in added else ""
        if content.strip() and content in tail:  # not an unknown token, nor one of white space
            token, text = candidate, content
            break
    ends = [re.escape(end) for end in (text, tokenizer.eos_token) if end]
    endings = re.compile(rf"(?:(?:{'|'.join(ends)})\s*)+\Z") if ends else None
    return EndOfTurn(token, text, tail, endings)
