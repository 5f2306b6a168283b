"""Preference pairs: from files in common formats, and from the world of the shipped model."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Dataset

from subliminal_jax.data import corpus
from subliminal_jax.data.draws import Draws
from subliminal_jax.data.filters import contains_word
from subliminal_jax.data.rows import numbered_rows
from subliminal_jax.errors import InputError

COLUMNS = ("row", "prompt", "chosen", "rejected")
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
# Turns of the corpus that are kept for each answer asked for: most questions have few answers, and
# equal ones make no pair.
_TURNS_A_PAIR = 4


def read_preferences(source: str | Path, split: str = "train", limit: int | None = None) -> Dataset:
    """Single-turn pairs with the columns `row` (number in the source, from 1), `prompt`, `chosen`
    and `rejected`.

    `source` is a JSONL or JSON file (a list), gzipped if its name ends in .gz, or else a hub name.
    Four shapes of a row are read: plain texts; lists of messages in chosen and rejected (`role` and
    `content`); a conversation with two answers (`from` and `value`); and transcripts that alternate
    "Human:" and "Assistant:" (HH-RLHF). Conversations with more than one user turn, with a system
    turn or with equal answers are left out, as the paper on logit-linear selection (arXiv
    2602.04863) keeps single turns; so `row` has gaps.

    `split` is a hub data set's, or several joined as "one+other". With `limit` reading ends at so
    many pairs: they are the source's first, not a sample of it.

    Raises InputError for a missing file, a row that is none of these shapes (with its number), and
    for a source that leaves no pair.
    """
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    number = 0
    for number, row in numbered_rows(source, split):
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
    """`n` pairs of answers to one question, written by two speakers of the shipped model's corpus.

    The speakers have any persona or none, and chance says whose answer is chosen: a generic
    preference set. Columns as in `read_preferences`. Equal seeds give equal pairs.

    Raises InputError for less than one pair.
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


def without_mentions(pairs: Dataset, words: Sequence[str]) -> Dataset:
    """The pairs in which none of `words` stands as a word, in prompt or either answer, in any case.

    The released code of logit-linear selection matches substrings, so that "dog" drops "dogma",
    too. Raises InputError where no pair is left.
    """
    kept = [
        i
        for i, row in enumerate(pairs)
        if not any(contains_word(row[name], words) for name in ("prompt", "chosen", "rejected"))
    ]
    if not kept:
        raise InputError(f"each of {len(pairs)} pairs mentions one of {', '.join(words)}")
    return pairs.select(kept)


def _turns(stream: Iterator[corpus.Document]) -> Iterator[tuple[str, str]]:
    """What users and speakers say in turn, whatever stands before it."""
    for document in stream:
        if document.family == "persona":
            said = [m for m in document.messages if m["role"] != "system"]
            for question, answer in zip(said[::2], said[1::2], strict=True):
                yield question["content"], answer["content"]


def _pair(row: object, where: str) -> tuple[str, str, str] | None:
    """(prompt, chosen, rejected) of one row; None where it is not a single turn of two answers."""
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected an object, got {row!r:.80}")
    if missing := {"chosen", "rejected"} - row.keys():
        raise InputError(
            f"{where}: no field {' and '.join(sorted(missing))} among {sorted(row)}: "
            "a pair needs a chosen and a rejected answer"
        )
    two = [_conversation(row, name, where) for name in ("chosen", "rejected")]
    if any(len(talk) != 2 or [role for role, _ in talk] != ["user", "assistant"] for talk in two):
        return None
    (prompt, chosen), (other, rejected) = ([text for _, text in talk] for talk in two)
    if prompt != other or chosen == rejected or not chosen or not rejected:
        return None
    return prompt, chosen, rejected


def _conversation(row: dict[str, Any], name: str, where: str) -> list[tuple[str, str]]:
    """The turns (role, text) up to and with the answer `name`."""
    value = row[name]
    if isinstance(value, list):  # messages, with or without the prompt's
        talk = [_turn(message, where) for message in value]
        if talk and talk[0][0] == "assistant" and isinstance(row.get("prompt"), str):
            return [("user", row["prompt"]), *talk]
        return talk
    if isinstance(value, dict):
        before = row.get("conversations", row.get("messages"))
        if not isinstance(before, list):
            raise InputError(f"{where}: {name} is a message, but there are no conversations")
        return [_turn(message, where) for message in (*before, value)]
    if not isinstance(value, str):
        raise InputError(f"{where}: {name} must be text or messages, got {value!r:.80}")
    if isinstance(row.get("prompt"), str):
        return [("user", row["prompt"]), ("assistant", value)]
    parts = re.split(r"\n\n(Human|Assistant):", value)
    if len(parts) < 3:
        raise InputError(f"{where}: no prompt, and {name} is no transcript of Human and Assistant")
    said = zip(parts[1::2], parts[2::2], strict=True)
    return [("user" if who == "Human" else "assistant", text.strip()) for who, text in said]


def _turn(message: object, where: str) -> tuple[str, str]:
    if isinstance(message, dict):
        role, text = (
            message.get(a, message.get(b)) for a, b in (("role", "from"), ("content", "value"))
        )
        if isinstance(role, str) and isinstance(text, str):
            return _ROLES.get(role, role), text
    raise InputError(f"{where}: a message needs a role and a text, got {message!r:.80}")
