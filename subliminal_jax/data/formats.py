"""The name of a row's format, as docs/guides/data.md has it in its tables."""

from collections.abc import Mapping
from typing import Any

from subliminal_jax.data.conversations import PROMPTS, parse_transcript

COMPLETIONS = ("completion", "response", "output", "answer")
CONVERSATIONS = ("messages", "conversations")


def name_pair_format(row: Mapping[str, Any]) -> str:
    """The format of a row that `pairs.count_pairs` has read."""
    if not any(row.get(name) is not None for name in COMPLETIONS):
        return "messages" if any(row.get(name) for name in CONVERSATIONS) else "text"
    if isinstance(row.get("instruction"), str):
        return "Alpaca"
    said = [row.get(name) for name in (*PROMPTS, *COMPLETIONS)]
    is_conversation = any(isinstance(value, list | dict) for value in said)
    return "conversational prompt and completion" if is_conversation else "prompt and completion"


def name_preference_format(row: Mapping[str, Any]) -> str:
    """The format of a row that `preferences.count_preferences` has read."""
    is_conversation = isinstance(row["chosen"], list | dict)
    has_prompt = any(row.get(name) not in (None, "") for name in PROMPTS)
    if is_conversation:
        has_prompt |= isinstance(row["chosen"], dict) and any(map(row.get, CONVERSATIONS))
    elif not has_prompt and parse_transcript(row["chosen"]):
        return "transcripts"
    words = "conversational preferences" if is_conversation else "preferences"
    return f"{words}, {'explicit' if has_prompt else 'implicit'} prompt"
