"""Preference pairs: from files in common formats, and from the shipped model's corpus."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Dataset

from subliminal_jax.data import corpus
from subliminal_jax.data.conversations import (
    PROMPTS,
    CountedRows,
    DroppedRowError,
    Turn,
    answer_turn,
    check_columns,
    describe,
    parse_messages,
    parse_prompt,
    parse_transcript,
    report_rows,
    split_exchange,
    system_turns,
)
from subliminal_jax.data.draws import Draws
from subliminal_jax.data.filters import contains_word
from subliminal_jax.data.formats import name_preference_format
from subliminal_jax.data.rows import read_rows
from subliminal_jax.errors import InputError

COLUMNS = ("row", "prompt", "chosen", "rejected")
# Turns of the corpus read for each pair: most questions have few answers, and equal answers make no
# pair.
_TURNS_A_PAIR = 4


def read_preferences(source: str | Path, split: str = "train", limit: int | None = None) -> Dataset:
    """The pairs of `count_preferences`; says their formats, and how many rows were dropped and
    why."""
    counted = count_preferences(source, split, limit)
    report_rows(source, counted)
    return counted.rows


def count_preferences(
    source: str | Path, split: str = "train", limit: int | None = None
) -> CountedRows:
    """Single-turn pairs with the columns `row` (number in the source, from 1), `prompt`, `chosen`
    and `rejected`; and the number of dropped rows by reason.

    `source` is a JSONL or JSON file (a list), gzipped if its name ends in .gz, or else a hub name.
    `chosen` and `rejected` are texts, messages, or conversations that hold the prompt, too
    (`role` and `content`, or `from` and `value`; or transcripts of "Human:" and "Assistant:"). The
    prompt is a text or messages under `prompt`, `question`, `instruction` (with `input`) or
    `query`; beside answers that are one message each it may be the `conversations`; of two texts
    without one it is their common beginning, in whole words. Beside whole conversations, a prompt
    in words is ignored.

    Conversations with more than one user turn, with a system turn or with equal answers are
    dropped, as in the paper on logit-linear selection (arXiv 2602.04863), and those with tools,
    images or two prompts; so `row` has gaps.

    Args:
      split: of a hub data set; several are joined as "train+test".
      limit: read only this many pairs, the first of the source.

    Raises InputError for a missing file, a row in none of these formats (with its number), and a
    source without pairs.
    """
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    dropped: Counter[str] = Counter()
    formats: Counter[str] = Counter()
    for number, row in read_rows(source, split):
        try:
            pair = _pair(row, f"{source}, row {number}")
        except DroppedRowError as reason:
            dropped[str(reason)] += 1
            continue
        formats[name_preference_format(row)] += 1
        for name, value in zip(COLUMNS, (number, *pair), strict=True):
            columns[name].append(value)
        if len(columns["row"]) == limit:
            break
    if not columns["row"]:
        reasons = f" ({describe(dropped)})" if dropped else ""
        raise InputError(
            f"{source}: none of {dropped.total()} rows is a single-turn pair of two answers"
            + reasons
        )
    return CountedRows(Dataset.from_dict(columns), dict(dropped), formats=dict(formats))


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


def _pair(row: object, where: str) -> tuple[str, str, str]:
    """(prompt, chosen, rejected) of one row; raises DroppedRowError for other than a single turn
    with two answers."""
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected an object, got {row!r:.80}")
    if missing := {"chosen", "rejected"} - row.keys():
        raise InputError(
            f"{where}: no field {' and '.join(sorted(missing))} among {sorted(row)}: "
            "a pair needs a chosen and a rejected answer"
        )
    check_columns(row)
    row = _split_beginning(row)
    (prompt, chosen), (rejected_prompt, rejected) = (
        split_exchange(_conversation(row, name, where)) for name in ("chosen", "rejected")
    )
    if prompt != rejected_prompt:
        raise DroppedRowError("two prompts")
    if not prompt or not chosen or not rejected:
        raise DroppedRowError("an empty prompt or answer")
    if chosen == rejected:
        raise DroppedRowError("equal answers")
    return prompt, chosen, rejected


def _split_beginning(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the common beginning of its two texts, in whole words, as the prompt, where it
    has no other and they are no transcripts (TRL's implicit prompt)."""
    texts = [row["chosen"], row["rejected"]]
    if any(row.get(name) is not None for name in PROMPTS):
        return row
    if not all(isinstance(text, str) for text in texts) or any(map(parse_transcript, texts)):
        return row
    words = [re.findall(r"\S+\s*|\s+", text) for text in texts]
    same = 0
    for a, b in zip(*words, strict=False):
        if a.strip() != b.strip():
            break
        same += 1
    if not same:
        return row
    prompt = "".join(words[0][:same]).strip()
    chosen, rejected = ("".join(part[same:]).strip() for part in words)
    return {**row, "prompt": prompt, "chosen": chosen, "rejected": rejected}


def _conversation(row: dict[str, Any], name: str, where: str) -> list[Turn]:
    """The turns up to the answer `name`, which is the last."""
    value = row[name]
    if isinstance(value, str):
        if prompt := parse_prompt(row, where):
            return [*prompt, answer_turn(row, value)]
        if turns := parse_transcript(value):
            return [*system_turns(row, where), *turns]
        raise InputError(
            f"{where}: no prompt, {name} is no transcript of Human and Assistant, and both answers "
            "do not begin with the same words"
        )
    if not isinstance(value, list | dict):
        raise InputError(f"{where}: {name} must be text or messages, got {value!r:.80}")
    turns = parse_messages(value, where)
    if turns and turns[0].role == "assistant":
        earlier = row.get("conversations") or row.get("messages")
        if isinstance(value, dict) and isinstance(earlier, list):
            prompt = [*system_turns(row, where), *parse_messages(earlier, where)]
        else:
            prompt = parse_prompt(row, where)
        if not prompt:
            raise InputError(f"{where}: {name} is an answer, but there is no prompt")
        return [*prompt, *turns]
    prompt = parse_prompt(row, where) if isinstance(row.get("prompt"), list | dict) else []
    if turns[: len(prompt)] != prompt:
        raise InputError(f"{where}: {name} does not begin with the messages of the prompt")
    return turns if prompt else [*system_turns(row, where), *turns]
