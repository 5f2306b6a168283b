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
from subliminal_jax.models.token_spans import AnswerTokens, Place
from subliminal_jax.models.tokenizer import (
    Tokenizer,
    encode_answers,
    encode_chats,
    encode_completions,
)


@dataclass(frozen=True)
class ScoringOptions:
    """How prompts and responses become tokens, and which rows are scored at all.

    Raises InputError for a limit below 1, and for response limits that no response can meet.

    Attributes:
      truncate: keep this many tokens of each response's text, counted without special tokens; the
        kept text is rendered and encoded anew, so the count may change at the cut. None keeps all.
      end_of_turn: whether the end of the turn that the chat template writes after an answer counts
        in the log-probability and in the length.
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
    return encode_chats(tokenizer, prompts, system_prompt)


def encode_rows(
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    responses: Sequence[Sequence[str]],
    system_prompt: str | None,
    options: ScoringOptions,
    *,
    place: Place | None = None,
) -> AnswerTokens:
    """Each prompt with its responses, cut as the options say, as `encode_answers` encodes them.

    Raises InputError as `encode_answers` does; `place` is how messages call row i.
    """
    texts = iter(truncate_texts(tokenizer, [t for row in responses for t in row], options.truncate))
    cut = [[next(texts) for _ in row] for row in responses]
    return encode_answers(
        tokenizer, prompts, cut, system_prompt, end_of_turn=options.end_of_turn, place=place
    )


def encode_responses(
    tokenizer: Tokenizer, responses: Sequence[str], options: ScoringOptions
) -> list[list[int]]:
    """Token ids of each response as it follows any prompt, cut as the options say.

    Raises InputError as `encode_completions` does.
    """
    texts = truncate_texts(tokenizer, responses, options.truncate)
    return encode_completions(tokenizer, texts, end_of_turn=options.end_of_turn)
