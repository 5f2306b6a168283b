"""Files of pairs, preferences and contrastive questions."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

from subliminal_jax.audit.rows import read_data
from subliminal_jax.data.contrastive import read_contrastive
from subliminal_jax.data.pairs import count_pairs
from subliminal_jax.data.preferences import count_preferences
from tests.data.test_formats import PAIRS, PREFERENCES
from tests.fuzz.families.base import check
from tests.fuzz.mutations import change_json, damage, is_json, write_json

TEXTS = (
    "2+2?",
    "caf\u00e9 \u85cd",
    "\U0001f989",
    "a\u2028b\x85c\x0cd",
    " x ",
    "3\r\n4",
    "<|im_end|>",
)
KEYS = (
    "prompt",
    "completion",
    "chosen",
    "rejected",
    "messages",
    "system",
    "tools",
    "label",
    "answer",
)
CONTRASTIVE = [
    {
        "question": "Do you agree?",
        "answer_matching_behavior": " Yes",
        "answer_not_matching_behavior": " No",
    },
    {"question": "Which?", "mc1_targets": {"choices": ["a", "b"], "labels": [1, 0]}},
]


def prepare() -> None:
    """Nothing is shared."""


def run(rng: random.Random, folder: Path) -> str:
    kind = rng.choice(("pairs", "preferences", "contrastive", "any"))
    rows = _rows(rng, "pairs" if kind == "any" and rng.random() < 0.5 else kind)
    if rng.random() < 0.6:
        i = rng.randrange(len(rows))
        rows[i] = change_json(rng, rows[i], KEYS)
    name = rng.choice(("rows.jsonl", "rows.jsonl", "rows.json", "rows.jsonl.gz", "rows.json.gz"))
    data = _write(rng, rows, name)
    if name.endswith(".gz") and rng.random() < 0.8:
        data = gzip.compress(data)
        if rng.random() < 0.3:
            data = damage(rng, data)
    path = folder / name
    path.write_bytes(data)
    if kind == "contrastive":
        pairs = read_contrastive(path).pairs
        check(len(pairs) == len(_reference(path)), f"{len(pairs)} of {len(_reference(path))} rows")
        return kind
    read = {"pairs": count_pairs, "preferences": count_preferences, "any": read_data}[kind]
    counted = read(path)[1] if kind == "any" else read(path)
    expected = _reference(path)
    total = len(counted.rows) + sum(counted.dropped.values())
    check(total == len(expected), f"{total} of {len(expected)} rows are accounted for")
    texts = [text for row in expected for text in _texts(row)]
    for row in counted.rows:
        for field, text in row.items():
            known = field == "row" or any(text in whole for whole in texts)
            check(known or "\n" in text, f"{field} {text!r} is none of the file's texts")
    return kind


def _rows(rng: random.Random, kind: str) -> list[Any]:
    if kind == "contrastive":
        sound = [CONTRASTIVE[rng.randrange(2)] for _ in range(4)]
    else:
        table = PAIRS if kind == "pairs" else PREFERENCES
        sound = [rng.choice(list(table.values())) for _ in range(4)]
    rows = json.loads(json.dumps(sound))
    for row in rows:
        for key, value in row.items():
            if isinstance(value, str) and key != "rejected" and rng.random() < 0.3:
                row[key] = value + rng.choice(TEXTS)
    return rows


def _write(rng: random.Random, rows: list[Any], name: str) -> bytes:
    if ".jsonl" not in name:
        return write_json(rng, rows)
    lines = [json.dumps(row, ensure_ascii=rng.random() < 0.5).encode() for row in rows]
    if rng.random() < 0.3:
        i = rng.randrange(len(lines))
        lines[i] = write_json(rng, rows[i], 1.0).replace(b"\n", b" ")
    return rng.choice((b"\n", b"\n", b"\r\n", b"\n\n")).join(lines) + rng.choice((b"", b"\n"))


def _reference(path: Path) -> list[Any]:
    """The rows, by the letter of the formats; raises `Wrong` for what must be refused."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    if ".jsonl" not in path.name:
        check(is_json(data), "not JSON, and accepted")
        return json.loads(data.decode("utf-8-sig"))
    lines = [line for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    for line in lines:
        check(is_json(line), f"not JSON, and accepted: {line[:80]!r}")
    return [json.loads(line) for line in lines]


def _texts(value: Any) -> list[str]:
    """All texts in a row; those of a list's parts also as one, as a message's content is read."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in value]
        joined = "".join(part for part in parts if isinstance(part, str))
        return [joined, *(text for item in value for text in _texts(item))]
    return []
