"""Contrastive pairs as tokens, in the five prompt settings of Tan et al. (arXiv 2407.12404).

A setting is the plain question, or the question with a sentence that ascribes the behaviour to the
model or denies it, as system prompt or before the question. The sentences follow from the name of
the behaviour by the rules below.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from subliminal_jax.data.contrastive import ContrastivePair, parse_letter
from subliminal_jax.errors import InputError
from subliminal_jax.models.tokenizer import Tokenizer, encode_answers
from subliminal_jax.steering.contrasts import Contrasts

DEFAULT_SYSTEM_PROMPT = "You are a helpful, honest and concise assistant."  # of the paper's code
SETTINGS = ("baseline", "SYS_positive", "SYS_negative", "USER_positive", "USER_negative")

# (pattern of a name, sentence that ascribes the behaviour, sentence that denies it)
_RULES = (
    (r"believes-in-(.+)", "You believe in {}.", "You do not believe in {}."),
    (r"believes-(.+)", "You believe that {}.", "You do not believe that {}."),
    (r"subscribes-to-(.+)", "You subscribe to {}.", "You do not subscribe to {}."),
    (r"desire-(to|for|too)-(.+)", "You have a desire {} {}.", "You have no desire {} {}."),
    (r"willingness-to-(.+)", "You are willing to {}.", "You are not willing to {}."),
    (r"interest-in-(.+)", "You have an interest in {}.", "You have no interest in {}."),
    (r"okay-with-(.+)", "You are okay with {}.", "You are not okay with {}."),
    (r"politically-(.+)", "You are politically {}.", "You are not politically {}."),
    (r"(risk-neutral|risk-seeking)", "You are {}.", "You are not {}."),
    (r"acts-like-(.+)", "You act like {}.", "You do not act like {}."),
    (r"has-(.+)", "One would say of you: has {}.", "Nobody would say of you: has {}."),
    (r"(.+)", "One would describe you by: {}.", "Nobody would describe you by: {}."),
)
# The names call the model "it"; the sentences address it.
_SECOND_PERSON = (
    (r"\bit is\b", "you are"),
    (r"\bit has\b", "you have"),
    (r"\bit knows\b", "you know"),
    (r"\bit wants\b", "you want"),
    (r"\bits\b", "your"),
    (r"\bdoes not care\b", "do not care"),
    (r"^too\b", "to"),
    (r"\bit\b", "you"),
)


class Personas(NamedTuple):
    """A sentence that ascribes the behaviour to the model, and one that denies it."""

    positive: str
    negative: str


def compose_personas(name: str) -> Personas:
    """Both sentences from the name of a behaviour, as its file has it: "subscribes-to-Islam" gives
    "You subscribe to Islam." and "You do not subscribe to Islam."."""
    for pattern, positive, negative in _RULES:
        match = re.fullmatch(pattern, name)
        if match:
            words = [_address(group) for group in match.groups()]
            return Personas(positive.format(*words), negative.format(*words))
    raise InputError("a behaviour without a name has no persona; give it one")


def apply_setting(
    setting: str, question: str, personas: Personas, system_prompt: str = DEFAULT_SYSTEM_PROMPT
) -> tuple[str, str]:
    """(system prompt, question) in one of `SETTINGS`.

    A SYS setting has the persona's sentence in place of `system_prompt`; a USER setting keeps that
    and puts the sentence before the question, with an empty line between. Raises InputError for an
    unknown setting.
    """
    if setting not in SETTINGS:
        raise InputError(f"unknown setting {setting!r}; there are: {', '.join(SETTINGS)}")
    place, _, sign = setting.partition("_")
    if not sign:
        return system_prompt, question
    sentence = personas.positive if sign == "positive" else personas.negative
    if place == "SYS":
        return sentence, question
    return system_prompt, f"{sentence}\n\n{question}"


def encode_contrasts(
    pairs: Sequence[ContrastivePair],
    tokenizer: Tokenizer,
    setting: str = "baseline",
    *,
    personas: Personas | None = None,
    system_prompt: str | None = DEFAULT_SYSTEM_PROMPT,
    source: str = "pairs",
) -> Contrasts:
    """The pairs as tokens; answers are tokenized as the template renders them after the question,
    without the end of the turn.

    Args:
      setting: one of `SETTINGS`; all but "baseline" need `personas`.
      system_prompt: of "baseline" and the USER settings; None uses the template's default.
      source: named in errors.

    Raises InputError for letters that are not one token each, and for other answers that begin with
    the same token.
    """
    if personas is None and setting != "baseline":
        raise InputError(f"the setting {setting} needs personas; give a sentence for each side")
    persona_pair = Personas("", "") if personas is None else personas
    chats = []
    for pair in pairs:
        system, question = apply_setting(setting, pair.question, persona_pair, system_prompt or "")
        chat = [{"role": "user", "content": question}]
        if system or system_prompt is not None:
            chat.insert(0, {"role": "system", "content": system})
        chats.append(chat)

    def place(i: int) -> str:
        return f"{source}, row {pairs[i].row}"

    prompts, answers = encode_answers(
        tokenizer,
        chats,
        [[pair.matching, pair.other] for pair in pairs],
        end_of_turn=False,
        place=place,
    )
    for i, (pair, (a, b)) in enumerate(zip(pairs, answers, strict=True)):
        _check_answers(tokenizer, (pair.matching, a), (pair.other, b), place(i))
    return Contrasts(prompts, [a for a, _ in answers], [b for _, b in answers])


def _check_answers(
    tokenizer: Tokenizer,
    matching_answer: tuple[str, list[int]],
    other_answer: tuple[str, list[int]],
    where: str,
) -> None:
    (matching, a), (opposite, b) = matching_answer, other_answer
    pieces = " + ".join(map(repr, tokenizer.convert_ids_to_tokens(a)))
    if parse_letter(matching):
        same_length = len(a) == len(b)
        if not same_length or sum(x != y for x, y in zip(a, b, strict=True)) != 1:
            raise InputError(
                f"{where}: the letters of {matching} and {opposite} are not one token each: the "
                f"tokenizer reads {pieces}; give answers in words"
            )
    elif not a or not b or a[0] == b[0]:
        raise InputError(
            f"{where}: the answers {matching!r} and {opposite!r} start with the same token "
            f"({pieces}): give answers that differ from the first token on"
        )


def _address(words: str) -> str:
    text = words.replace("-", " ")
    for pattern, replacement in _SECOND_PERSON:
        text = re.sub(pattern, replacement, text)
    return text
