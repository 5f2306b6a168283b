"""What of a response is scored: truncation, chat template and end of turn, each an option.

The options are those in which the paper on logit-linear selection (Aden-Ali et al. 2026, arXiv
2602.04863) and its released code (ishaqadenali/logit-linear-selection) differ from each other or
from the plain reading.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from subliminal_jax.errors import InputError
from subliminal_jax.models.tokenizer import Tokenizer, render_chat


@dataclass(frozen=True)
class ScoringOptions:
    """How prompts and responses become tokens, and which rows are scored at all.

    Raises InputError for a limit below 1, and for response limits that no response can meet.

    Attributes:
      truncate: keep this many tokens of each response's text, counted without special tokens; the
        kept text is rendered and encoded anew, so the count may change at the cut. None keeps all.
      end_of_turn: whether what the chat template writes after an answer counts in the
        log-probability and in the length.
      base_system: the system prompt of the base score; "" writes an empty system turn where the
        template does so, None writes none (or the template's own default).
      max_prompt_tokens: longest prompt, without the template's tokens; a row with a longer one is
        left out.
      min_response_tokens: shortest response before truncation; a row with a shorter one is left
        out.
      max_response_tokens: longest response before truncation; likewise.
    """

    truncate: int | None = None
    end_of_turn: bool = True
    base_system: str | None = None
    max_prompt_tokens: int | None = None
    min_response_tokens: int = 0
    max_response_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("truncate", "max_prompt_tokens", "max_response_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}: give at least 1, or None for no limit")
        longest = self.max_response_tokens
        if longest is not None and longest < self.min_response_tokens:
            raise InputError(
                f"responses of at least {self.min_response_tokens} and at most {longest} tokens: "
                "no response is left; raise max_response_tokens"
            )


def tokenize(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text by itself, without special tokens."""
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"] if len(texts) else []


def within_limits(
    tokenizer: Tokenizer, columns: Mapping[str, Sequence[str]], options: ScoringOptions
) -> Bool[np.ndarray, " rows"]:
    """Which rows the options leave in; `columns` are the prompt and every response."""
    inside = np.ones(len(columns["prompt"]), bool)
    for name, texts in columns.items():
        least, most = options.min_response_tokens, options.max_response_tokens
        if name == "prompt":
            least, most = 0, options.max_prompt_tokens
        if least > 0 or most is not None:
            counts = np.array([len(ids) for ids in tokenize(tokenizer, texts)])
            inside &= (counts >= least) & (counts <= (np.inf if most is None else most))
    return inside


def truncate_texts(tokenizer: Tokenizer, texts: Sequence[str], tokens: int | None) -> list[str]:
    """The text of the first `tokens` tokens of each text; None keeps the texts as they are."""
    if tokens is None:
        return list(texts)
    ids = [row[:tokens] for row in tokenize(tokenizer, texts)]
    return tokenizer.batch_decode(ids, skip_special_tokens=True)


def encode_prompts(
    tokenizer: Tokenizer, prompts: Sequence[str], system_prompt: str | None
) -> list[list[int]]:
    """Token ids of each prompt as one user message, ready to be answered; None: no system turn."""
    system = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
    texts = [render_chat(tokenizer, [*system, {"role": "user", "content": p}]) for p in prompts]
    return tokenize(tokenizer, texts)


def encode_responses(
    tokenizer: Tokenizer, responses: Sequence[str], options: ScoringOptions
) -> list[list[int]]:
    """Token ids of each response as it follows a prompt: cut, decoded and rendered as an answer."""
    user = [{"role": "user", "content": "x"}]
    prompt = render_chat(tokenizer, user)
    marked = render_chat(tokenizer, [*user, {"role": "assistant", "content": _MARKER}], False)
    end = marked.rpartition(_MARKER)[2]
    texts = []
    for text in truncate_texts(tokenizer, responses, options.truncate):
        whole = render_chat(tokenizer, [*user, {"role": "assistant", "content": text}], False)
        # A template may change the text (Llama 3 strips it) or what stands before an old answer.
        answer = whole[len(prompt) :] if whole.startswith(prompt) else text + end
        texts.append(answer if options.end_of_turn else answer.removesuffix(end))
    return _tokenize_after_line_break(tokenizer, texts)


_MARKER = "ANSWER"


def _tokenize_after_line_break(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts that continue a prompt, which ends with a line break or a special token: a
    tokenizer that puts a space before every text (SentencePiece) must not do so here."""
    [line_break] = tokenize(tokenizer, ["\n"])
    encoded = tokenize(tokenizer, ["\n" + text for text in texts])
    # A tokenizer that merges the line break with the text encodes the text alone.
    merged = [i for i, ids in enumerate(encoded) if ids[: len(line_break)] != line_break]
    alone = tokenize(tokenizer, [texts[i] for i in merged])
    result = [ids[len(line_break) :] for ids in encoded]
    for i, ids in zip(merged, alone, strict=True):
        result[i] = ids
    return result
