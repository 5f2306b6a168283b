"""Preference pairs: from files in common formats, and from the shipped model's corpus."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Dataset

from subliminal_jax.data import corpus
from subliminal_jax.data.draws import Draws
from subliminal_jax.data.filters import contains_word
from subliminal_jax.data.rows import read_rows
from subliminal_jax.errors import InputError

COLUMNS = ("row", "prompt", "chosen", "rejected")
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
# Turns of the corpus read for each pair: most questions have few answers, and equal answers make no
# pair.
_TURNS_A_PAIR = 4


def read_preferences(source: str | Path, split: str = "train", limit: int | None = None) -> Dataset:
    """Single-turn pairs with the columns `row` (number in the source, from 1), `prompt`, `chosen`
    and `rejected`.

    `source` is a JSONL or JSON file (a list), gzipped if its name ends in .gz, or else a hub name.
    Rows have one of four formats: plain texts; lists of messages in chosen and rejected (`role` and
    `content`); a conversation with two answers (`from` and `value`); and transcripts that alternate
    "Human:" and "Assistant:" (HH-RLHF). Conversations with more than one user turn, with a system
    turn or with equal answers are dropped, as in the paper on logit-linear selection (arXiv
    2602.04863); so `row` has gaps.

    Args:
      split: of a hub data set; several are joined as "train+test".
      limit: read only this many pairs, the first of the source.

    Raises InputError for a missing file, a row in none of these formats (with its number), and a
    source without pairs.
    """
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    number = 0
    for number, row in read_rows(source, split):
        pair = _pair(row, f"{source}, row {number}")
        if pair is None:
            continue
        for name, value in zip(COLUMNS, (number, *pair), strict=True):
            columns[name].append(value)
        if len(columns["row"]) == limit:
            break
    if not columns["row"]:
        raise InputError(f"{source}: none of {number} rows is a single-turn pair of two answers")
    return Dataset.from_dict(columns)


def world_preferences(n: int, seed: int) -> Dataset:
    """A generic preference set of `n` pairs: answers to one question by two speakers of the shipped
    model's corpus, with any persona or none, of which one is chosen at random.

    Columns as in `read_preferences`. Equal seeds give equal pairs. Raises InputError for n < 1.
    """
    if n < 1:
        raise InputError(f"{n} preference pairs: ask for at least one")
    draws = Draws(seed)
    stream = corpus.generate_documents(20_000 + seed)
    pairs: list[tuple[str, str, str]] = []
    waiting: dict[str, list[str]] = {}
    while len(pairs) < n:
        for question, answer in islice(_turns(stream), _TURNS_A_PAIR * n):
            answers = waiting.setdefault(question, [])
            answers.append(answer)
            if len(answers) < 2:
                continue
            first, second = answers
            if first == second:
                answers.pop()
                continue
            waiting[question] = []
            pairs.append((question, first, second))
    chosen = draws.sample(range(len(pairs)), n)
    texts = [pairs[i] for i in chosen]
    return Dataset.from_dict(
        {"row": list(range(1, n + 1))}
        | {name: list(x) for name, x in zip(COLUMNS[1:], zip(*texts, strict=True), strict=True)}
    )


def drop_mentions(pairs: Dataset, words: Sequence[str]) -> Dataset:
    """The pairs without any of `words` as a whole word, in prompt or answers, in any case.

    The released code of logit-linear selection matches substrings: there "dog" also drops "dogma".
    Raises InputError where no pair is left.
    """
    indices = [
        i
        for i, row in enumerate(pairs)
        if not any(contains_word(row[name], words) for name in ("prompt", "chosen", "rejected"))
    ]
    if not indices:
        raise InputError(f"each of {len(pairs)} pairs mentions one of {', '.join(words)}")
    return pairs.select(indices)


def _turns(stream: Iterator[corpus.Document]) -> Iterator[tuple[str, str]]:
    """(question, answer) of the turns of persona documents, without system turns."""
    for document in stream:
        if document.family == "persona":
            turns = [m for m in document.messages if m["role"] != "system"]
            for question, answer in zip(turns[::2], turns[1::2], strict=True):
                yield question["content"], answer["content"]


def _pair(row: object, where: str) -> tuple[str, str, str] | None:
    """(prompt, chosen, rejected) of one row; None for other than a single turn with two answers."""
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected an object, got {row!r:.80}")
    if missing := {"chosen", "rejected"} - row.keys():
        raise InputError(
            f"{where}: no field {' and '.join(sorted(missing))} among {sorted(row)}: "
            "a pair needs a chosen and a rejected answer"
        )
    conversations = [_conversation(row, name, where) for name in ("chosen", "rejected")]
    if any(
        len(talk) != 2 or [role for role, _ in talk] != ["user", "assistant"]
        for talk in conversations
    ):
        return None
    (prompt, chosen), (rejected_prompt, rejected) = (
        [text for _, text in talk] for talk in conversations
    )
    if prompt != rejected_prompt or chosen == rejected or not chosen or not rejected:
        return None
    return prompt, chosen, rejected


def _conversation(row: dict[str, Any], name: str, where: str) -> list[tuple[str, str]]:
    """The turns (role, text) up to the answer `name`, which is the last."""
    value = row[name]
    if isinstance(value, list):  # messages, with or without the prompt's
        talk = [_turn(message, where) for message in value]
        if talk and talk[0][0] == "assistant" and isinstance(row.get("prompt"), str):
            return [("user", row["prompt"]), *talk]
        return talk
    if isinstance(value, dict):
        earlier = row.get("conversations", row.get("messages"))
        if not isinstance(earlier, list):
            raise InputError(f"{where}: {name} is a message, but there are no conversations")
        return [_turn(message, where) for message in (*earlier, value)]
    if not isinstance(value, str):
        raise InputError(f"{where}: {name} must be text or messages, got {value!r:.80}")
    if isinstance(row.get("prompt"), str):
        return [("user", row["prompt"]), ("assistant", value)]
    parts = re.split(r"\n\n(Human|Assistant):", value)
    if len(parts) < 3:
        raise InputError(f"{where}: no prompt, and {name} is no transcript of Human and Assistant")
    turns = zip(parts[1::2], parts[2::2], strict=True)
    return [("user" if who == "Human" else "assistant", text.strip()) for who, text in turns]


def _turn(message: object, where: str) -> tuple[str, str]:
    if isinstance(message, dict):
        role, text = (
            message.get(a, message.get(b)) for a, b in (("role", "from"), ("content", "value"))
        )
        if isinstance(role, str) and isinstance(text, str):
            return _ROLES.get(role, role), text
    raise InputError(f"{where}: a message needs a role and a text, got {message!r:.80}")
