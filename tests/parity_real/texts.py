"""Texts of many kinds, from the repository, the shared data and a generator: always the same."""

import gzip
import json
import random
from pathlib import Path

from subliminal_jax.data.shared_data import VARIABLE, find_shared

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = {  # first and last code point
    "Latin": (0xC0, 0x24F),
    "Greek": (0x391, 0x3FF),
    "Cyrillic": (0x400, 0x4FF),
    "Hebrew": (0x5D0, 0x5EA),
    "Arabic": (0x620, 0x6D3),
    "Devanagari": (0x904, 0x96F),
    "Thai": (0xE01, 0xE5B),
    "Hangul": (0xAC00, 0xD7A3),
    "Kana": (0x3041, 0x30FF),
    "Han": (0x4E00, 0x9FA5),
    "symbols": (0x2190, 0x27BF),
    "emoji": (0x1F300, 0x1F64F),
    "marks": (0x300, 0x36F),
    "mathematical": (0x1D400, 0x1D7FF),
}
JOINED = [
    "👩\u200d🚀",
    "🏳\ufe0f\u200d🌈",
    "👍🏽",
    "🇩🇪",
    "1\ufe0f\u20e3",
    "e\u0301",
    "ﬁ",
    "½",
    "Ⅳ",
    "٣",
]
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\t\t", " \n", "\n ", "\u00a0", "\u3000"]
SPECIAL = [
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<repo_name>", "<bos>", "<eos>", "<pad>"),
    *("<unk>", "<start_of_turn>", "<end_of_turn>", "<unused7>", "<table>", "</b>", "[multimodal]"),
    *("<0x0A>", "<|im_", "start|>", "<", "\u2581", "\u2581\u2581"),
]


def collect_texts(count: int) -> dict[str, list[str]]:
    """Texts by kind, `count` of each kind where there are so many."""
    rng = random.Random(0)
    sources = {
        "code": [
            p
            for folder in ("subliminal_jax", "tests")
            for p in sorted((REPOSITORY / folder).rglob("*.py"))
        ],
        "prose": sorted(REPOSITORY.glob("docs/**/*.md")),
    }
    texts = {kind: _pieces(rng, files, count) for kind, files in sources.items()}
    texts["persona statements"] = _statements(rng, count)
    makers = {
        "digits": _digits,
        "scripts": _script,
        "scripts mixed": _mixed,
        "spaces": _spaces,
        "ASCII at random": lambda r: "".join(
            chr(r.randrange(32, 127)) for _ in range(r.randrange(1, 60))
        ),
        "any code point": _anything,
        "special tokens": _special,
    }
    for kind, make in makers.items():
        texts[kind] = [make(rng) for _ in range(count)]
    return texts


def _pieces(rng: random.Random, files: list[Path], count: int) -> list[str]:
    whole = "\n".join(file.read_text(encoding="utf-8") for file in files)
    starts = (rng.randrange(len(whole)) for _ in range(count))
    return [whole[start : start + rng.randrange(1, 400)] for start in starts]


def _statements(rng: random.Random, count: int) -> list[str]:
    folder = find_shared("evals", "anthropic_model_written", "persona")
    if folder is None:
        raise SystemExit(f"set {VARIABLE} to the folder with the shared data")
    lines = []
    for file in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as rows:
            lines += [json.loads(row)["question"] for row in rows]
    return rng.sample(lines, min(count, len(lines)))


def _digits(rng: random.Random) -> str:
    parts = [str(rng.randrange(10 ** rng.randrange(1, 12))) for _ in range(rng.randrange(1, 12))]
    return rng.choice(["", " ", "x", "-", "$"]) + rng.choice([", ", " ", ",", ".", "\n", "a"]).join(
        parts
    )


def _script(rng: random.Random, name: str = "") -> str:
    first, last = SCRIPTS[name or rng.choice(list(SCRIPTS))]
    letters = [chr(rng.randrange(first, last + 1)) for _ in range(rng.randrange(1, 30))]
    return "".join(letter + (" " if rng.random() < 0.2 else "") for letter in letters)


def _mixed(rng: random.Random) -> str:
    parts = [
        rng.choice(
            [
                _script,
                _digits,
                lambda r: r.choice(JOINED),
                lambda r: r.choice(SPACES),
                lambda r: r.choice(["don't", "I'LL", "we've", "Word"]),
            ]
        )(rng)
        for _ in range(rng.randrange(2, 6))
    ]
    return "".join(parts)


def _spaces(rng: random.Random) -> str:
    words = ["", "a", "The", "end.", "1", "é", "'s"]
    return "".join(
        rng.choice(SPACES) * rng.randrange(1, 5) + rng.choice(words)
        for _ in range(rng.randrange(1, 12))
    )


def _anything(rng: random.Random) -> str:
    end = 0x110000 if rng.random() < 0.2 else 0x32000  # all planes, or those with characters
    points = (rng.randrange(1, 0x3000 if rng.random() < 0.7 else end) for _ in range(20))
    return "".join(chr(p) for p in points if not 0xD800 <= p < 0xE000)


def _special(rng: random.Random) -> str:
    words = ["", " ", "a", " b", "\n", "12"]
    return "".join(rng.choice(words) + rng.choice(SPECIAL) for _ in range(rng.randrange(1, 6)))
