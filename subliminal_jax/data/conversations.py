"""Conversations in the formats of public data sets, and rows that no format covers, by reason.

The formats are those of TRL's "Dataset formats and types" (texts, and messages with `role` and
`content`), of ShareGPT and LLaMA-Factory (`from` and `value`; `instruction`, `input` and `system`),
and of HH-RLHF (transcripts that alternate "Human:" and "Assistant:").
"""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from datasets import Dataset

from subliminal_jax.errors import InputError
from subliminal_jax.escaping import print_line

PROMPTS = ("prompt", "question", "instruction", "query")  # names of the column with the prompt
ROLES = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
# What a chat template renders beside a message's text.
_MORE_THAN_TEXT = (
    "tool_calls",
    "function_call",
    "tool_call_id",
    "reasoning_content",
    "reasoning",
    "thinking",
)
# Columns that change what a model reads.
_MORE_THAN_TURNS = {
    "tools": "tools",
    "chat_template_kwargs": "arguments of the chat template",
    **dict.fromkeys(
        ("image", "images", "video", "videos", "audio", "audios"), "images, sound or video"
    ),
}

_SEVERAL_TURNS = "several user turns"

log = logging.getLogger(__name__)


class Turn(NamedTuple):
    """What one side says; `role` is "user", "assistant", "system", or as the source has it."""

    role: str
    text: str


class DroppedRowError(Exception):
    """A sound row that is of no use here; the message is the reason, counted over a source."""


class CountedRows(NamedTuple):
    """The rows of a source, and how many others were dropped, by reason; `numbers` are those of the
    rows (lines) in the source, where they are not a column of the rows; `formats` counts the rows
    of each format (`data.formats`)."""

    rows: Dataset
    dropped: Mapping[str, int]
    numbers: Sequence[int] = ()
    formats: Mapping[str, int] = {}


def report_rows(source: object, counted: CountedRows) -> None:
    """Print how many rows have which format, and log how many were dropped and why, if any: a
    warning, which shows on the screen, too."""
    if counted.formats:
        formats = ", ".join(f"{n} as {name}" for name, n in counted.formats.items())
        print_line(f"{source}: {len(counted.rows)} rows read: {formats}")
    dropped = sum(counted.dropped.values())
    if dropped:
        total = len(counted.rows) + dropped
        log.warning(
            "%s: %d of %d rows dropped: %s", source, dropped, total, describe(counted.dropped)
        )


def describe(dropped: Mapping[str, int]) -> str:
    """The reasons with their counts, the most frequent first."""
    ordered = sorted(dropped.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} with {reason}" for reason, count in ordered)


def check_columns(row: Mapping[str, Any]) -> None:
    """Raises DroppedRowError for a row with more than the text of turns: tools, images, ..."""
    for name, reason in _MORE_THAN_TURNS.items():
        if row.get(name) not in (None, "", [], {}, "[]", "{}", "null"):
            raise DroppedRowError(reason)
    if isinstance(row.get("history"), list) and row["history"]:  # LLaMA-Factory's earlier turns
        raise DroppedRowError(_SEVERAL_TURNS)


def parse_prompt(row: Mapping[str, Any], where: str) -> list[Turn]:
    """The turns before the answer that a row has in a column of their own; none without one.

    Raises InputError for other values than text and messages, and for two prompts that differ.
    """
    given = {name: row[name] for name in PROMPTS if row.get(name) is not None}
    given = {name: value for name, value in given.items() if value != ""} or given
    if not given:
        return []
    name, value = next(iter(given.items()))
    for other, also in given.items():
        if also != value:
            raise InputError(
                f"{where}: {name} and {other} differ: leave the one that is the prompt"
            )
    if isinstance(value, str):
        addition = row.get("input")
        if name == "instruction" and isinstance(addition, str) and addition.strip():
            value = f"{value}\n{addition}"
        turns = parse_transcript(value) if _is_transcript(value) else [Turn("user", value)]
    elif isinstance(value, list | dict):
        turns = parse_messages(value, where)
    else:
        raise InputError(f"{where}: {name} must be a non-empty text, got {value!r:.80}")
    return [*system_turns(row, where), *turns]


def answer_turn(row: Mapping[str, Any], text: str) -> Turn:
    """The turn of an answer in words; one that goes on a transcript is without spaces around it."""
    continues = any(_is_transcript(row.get(name)) for name in PROMPTS)
    return Turn("assistant", text.strip() if continues else text)


def system_turns(row: Mapping[str, Any], where: str) -> list[Turn]:
    """The system prompt that a row has in a column of its own, if any."""
    for name in ("system", "system_prompt"):
        text = row.get(name)
        if text is not None and not isinstance(text, str):
            raise InputError(f"{where}: {name} must be a text, got {text!r:.80}")
        if text:
            return [Turn("system", text)]
    return []


def parse_messages(value: object, where: str) -> list[Turn]:
    """The turns of a list of messages, or of a single one.

    Raises InputError for what is no message, and DroppedRowError for one with more than text.
    """
    return [_parse_message(m, where) for m in (value if isinstance(value, list) else [value])]


def parse_transcript(text: str) -> list[Turn]:
    """The turns of a transcript, without spaces around them; none where the text is no transcript.

    Raises DroppedRowError for text before the first turn.
    """
    before, *parts = re.split(r"(?:\A|\n\n)(Human|Assistant):", text)
    if parts and before.strip():
        raise DroppedRowError("text before the first turn")
    turns = zip(parts[::2], parts[1::2], strict=True)
    return [
        Turn("user" if who == "Human" else "assistant", said.strip())
        for who, said in turns
        if said.strip() or who == "Human"  # a prompt ends in "Assistant:"
    ]


def split_exchange(turns: Sequence[Turn]) -> tuple[str, str]:
    """(prompt, answer) of a conversation of two turns; raises DroppedRowError for other ones."""
    roles = [turn.role for turn in turns]
    if "system" in roles:
        raise DroppedRowError("a system turn")
    for role in roles:
        if role not in ("user", "assistant"):
            raise DroppedRowError(f"a turn of {role:.40}")
    if roles.count("user") > 1:
        raise DroppedRowError(_SEVERAL_TURNS)
    if roles != ["user", "assistant"]:
        raise DroppedRowError("turns other than a question and its answer")
    return turns[0].text, turns[1].text


def _is_transcript(prompt: object) -> bool:
    """Whether a prompt is a transcript that an answer goes on (Dahoas/rm-static)."""
    if not isinstance(prompt, str):
        return False
    return re.match(r"\s*Human:.*\n\nAssistant:\s*\Z", prompt, re.DOTALL) is not None


def _parse_message(message: object, where: str) -> Turn:
    if not isinstance(message, dict):
        raise InputError(f"{where}: a message needs a role and a text, got {message!r:.80}")
    for name in _MORE_THAN_TEXT:
        if message.get(name):
            kind = "tool calls" if "call" in name else "thoughts beside the answer"
            raise DroppedRowError(kind)
    role, content = message.get("role", message.get("from")), message.get("content")
    if content is None:
        content = message.get("value")
    if isinstance(content, list):
        content = _join_parts(content, where)
    if not isinstance(role, str) or not isinstance(content, str):
        raise InputError(f"{where}: a message needs a role and a text, got {message!r:.80}")
    return Turn(ROLES.get(role, role), content)


def _join_parts(parts: Sequence[object], where: str) -> str:
    """The text of a message in parts; raises DroppedRowError where a part is no text."""
    texts = []
    for part in parts:
        if isinstance(part, dict) and part.get("type", "text") == "text":
            part = part.get("text")
        elif isinstance(part, dict):
            raise DroppedRowError("images, sound or video")
        if not isinstance(part, str):
            raise InputError(f"{where}: a part of a message is no text: {part!r:.80}")
        texts.append(part)
    return "".join(texts)
