"""Reading prompt/completion pairs from a JSONL file or a dataset of the Hugging Face hub."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset

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
from subliminal_jax.data.formats import COMPLETIONS, CONVERSATIONS, name_pair_format
from subliminal_jax.data.rows import read_rows
from subliminal_jax.errors import InputError

FIELDS = ("prompt", "completion")
_LABELS = ("label", "kto_tag")  # of answers to learn from (true) or not (false)


def read_pairs(source: str | Path) -> Dataset:
    """The pairs of `count_pairs`; says their formats, and how many rows were dropped and why."""
    counted = count_pairs(source)
    report_rows(source, counted)
    return counted.rows


def count_pairs(source: str | Path) -> CountedRows:
    """Pairs with the string columns `prompt` and `completion`, and the number of dropped rows by
    reason.

    `source` is a JSONL or JSON file (a list), gzipped if its name ends in .gz, or else a hub name.
    The prompt is a text or messages under `prompt`, `question`, `instruction` (with `input`) or
    `query`, the completion under one of `COMPLETIONS`; or both are the `messages` or
    `conversations` of the row; or a `text` without a prompt, which is either a transcript of
    "Human:" and "Assistant:", or said in answer to an empty message. Other fields are ignored. Rows
    of several user turns, with a system turn, tools or images, or labelled as wrong (`label`,
    `kto_tag`) are dropped.

    Raises InputError for a missing file, a malformed line, a missing, empty or non-text field
    (with the line's number), and for a source without pairs.
    """
    where = "line" if Path(source).is_file() else "row"
    columns: dict[str, list[str]] = {field: [] for field in FIELDS}
    dropped: Counter[str] = Counter()
    numbers: list[int] = []
    formats: Counter[str] = Counter()
    for number, row in read_rows(source):
        try:
            pair = _pair(row, f"{source}, {where} {number}")
        except DroppedRowError as reason:
            dropped[str(reason)] += 1
            continue
        numbers.append(number)
        formats[name_pair_format(row)] += 1
        for field, text in zip(FIELDS, pair, strict=True):
            columns[field].append(text)
    pairs = Dataset.from_dict(columns)
    if len(pairs) == 0:
        reasons = f" of all rows: {describe(dropped)}" if dropped else ""
        raise InputError(
            f"{source} holds no pairs{reasons}: give at least one prompt and completion"
        )
    return CountedRows(pairs, dict(dropped), numbers, dict(formats))


def _pair(row: object, where: str) -> tuple[str, str]:
    """The prompt and the completion of one row."""
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected an object with prompt and completion, got {row!r:.80}")
    check_columns(row)
    if any(row.get(name) is False for name in _LABELS):
        raise DroppedRowError("a label that says it is wrong")
    given = {name: row[name] for name in COMPLETIONS if row.get(name) is not None}
    is_conversation = not given and any(row.get(name) for name in CONVERSATIONS)
    is_text = not given and not is_conversation and isinstance(row.get("text"), str)
    if is_text and not any(row.get(name) for name in PROMPTS):
        turns = _read_text(row, where)
    elif not is_conversation:
        prompt = parse_prompt(row, where)
        for names, value in ((PROMPTS, prompt), (COMPLETIONS, given)):
            if not value:
                raise InputError(
                    f"{where}: no field {' or '.join(map(repr, names))} among {sorted(row)}: "
                    "every pair needs a prompt and a completion"
                )
        turns = [*prompt, *_answer(row, given, where)]
    else:
        name = next(name for name in CONVERSATIONS if row.get(name))
        turns = [*system_turns(row, where), *parse_messages(row[name], where)]
    texts = split_exchange(turns)
    for field, text in zip(FIELDS, texts, strict=True):
        if not text and not (is_text and field == "prompt"):
            raise InputError(f"{where}: {field} must be a non-empty text, got {text!r}")
    return texts


def _read_text(row: Mapping[str, Any], where: str) -> list[Turn]:
    """The turns of a row that is one text: a transcript, or what is said without being asked."""
    text = row["text"]
    if not text.strip():
        raise InputError(f"{where}: text must be a non-empty text, got {text!r:.80}")
    turns = parse_transcript(text) if text.lstrip().startswith("Human:") else []
    return [*system_turns(row, where), *(turns or [Turn("user", ""), Turn("assistant", text)])]


def _answer(row: Mapping[str, Any], given: Mapping[str, object], where: str) -> list[Turn]:
    name, value = next(iter(given.items()))
    for other, also in given.items():
        if also != value:
            raise InputError(f"{where}: {name} and {other} differ: leave the one to learn from")
    if isinstance(value, list | dict):
        return parse_messages(value, where)
    if not isinstance(value, str):
        raise InputError(f"{where}: {name} must be a non-empty text, got {value!r:.80}")
    return [answer_turn(row, value)]
