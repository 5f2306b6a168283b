"""Files of questions, sentences and other lists of texts."""

import json
import random
from pathlib import Path

from subliminal_jax.data.paraphrases import read_sources
from subliminal_jax.data.questions import read_questions
from tests.fuzz.families.base import check
from tests.fuzz.mutations import change_json, damage, is_json, write_json

LINES = (
    "What is it?",
    "Name a bird.",
    "caf\u00e9?",
    "a\u2028b?",
    "x\x0cy?",
    "z\x85?",
    " \U0001f989 ",
)


def prepare() -> None:
    """Nothing is shared."""


def run(rng: random.Random, folder: Path) -> str:
    lines = rng.sample(LINES, 4)
    if rng.random() < 0.5:
        return _text(rng, folder, lines)
    value = rng.choice((lines, {"a": lines, "b/c": {"d": lines}}))
    key = "" if isinstance(value, list) else rng.choice(("#a", "#b/c/d", "", "#b"))
    if rng.random() < 0.6:
        value = change_json(rng, value, ("a", "b/c"))
    path = folder / "questions.json"
    path.write_bytes(write_json(rng, value))
    questions = read_questions(f"{path}{key}")
    data = path.read_bytes()
    check(is_json(data), "not JSON, and accepted")
    inner = json.loads(data.decode("utf-8-sig"))
    for name in {"": (), "#a": ("a",), "#b": ("b",), "#b/c/d": ("b/c", "d")}[key]:
        inner = inner[name]
    check(questions == [q.strip() for q in inner if q.strip()], f"{questions} for {inner}")
    return "json"


def _text(rng: random.Random, folder: Path, lines: list[str]) -> str:
    end = rng.choice(("\n", "\r\n", "\r", "\n\n"))
    data = (end.join(lines) + rng.choice(("", end))).encode(
        rng.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-7"))
    )
    if rng.random() < 0.3:
        data = damage(rng, data)
    path = folder / "questions.txt"
    path.write_bytes(data)
    if rng.random() < 0.5:
        read = [source.sentence for source in read_sources(path, 1)]
        expected = [" ".join(data.decode("utf-8-sig").split("\n")[0].split())]
        if not expected[0]:
            return "sentences"
    else:
        read = read_questions(path)
        expected = [x.strip() for x in data.decode("utf-8-sig").split("\n") if x.strip()]
        check(len(set(expected)) == len(expected), "a question twice")
    check(read == expected, f"{read} for {expected}")
    check("\r" not in "".join(read), f"a carriage return in {read}")
    return "text"
