"""Contrastive pairs: a question, the answer that matches a behaviour, and the one that does not.

The forms of Tan et al., "Analysing the Generalisation and Reliability of Steering Vectors"
(NeurIPS 2024, arXiv 2407.12404) and of their released code (dtch1997/repepo): Anthropic's
model-written evaluations (Perez et al. 2022), CAA's sycophancy questions and TruthfulQA, all as
questions with the answers (A) and (B).
"""

import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from subliminal_jax.data.rows import read_rows
from subliminal_jax.data.shared_data import VARIABLE, find_shared, resolve_shared
from subliminal_jax.errors import InputError

EVALS = "evals/anthropic_model_written"  # in the folder of shared data
SUITES = {
    "persona": "persona",
    "risk": "advanced-ai-risk/lm_generated_evals",
    "risk-human": "advanced-ai-risk/human_generated_evals",
}
PAPER_SPLIT = (0.4, 0.1, 0.5)  # train, validation, test
_META = re.compile(r"<META_START>.*?(<META_END>|\Z)", re.DOTALL)
_LETTER = re.compile(r"\(([A-Za-z])\)")
_ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz")


class ContrastivePair(NamedTuple):
    """One question with its two answers.

    `row` counts in the source, from 1. `says` is "yes" or "no" where the matching answer states it
    in the question's words, else None; the decomposition of biases reads it.
    """

    row: int
    question: str
    matching: str
    other: str
    says: str | None = None

    @property
    def letter(self) -> str | None:
        """A of the matching answer "(A)"; None for an answer in words."""
        return parse_letter(self.matching)


class ContrastiveSet(NamedTuple):
    """The pairs of one source; `name` is that of the behaviour."""

    name: str
    source: str
    pairs: list[ContrastivePair]


def parse_letter(answer: str) -> str | None:
    """The letter of an answer such as "(A)", else None."""
    match = _LETTER.fullmatch(answer.strip())
    return match.group(1).upper() if match else None


def read_contrastive(source: str | Path) -> ContrastiveSet:
    """The pairs of a JSONL or JSON file (gzipped if it ends in .gz) or of a hub data set.

    A relative path that does not exist is looked up in the folder of `SUBLIMINAL_JAX_DATA`. Two
    formats of a row are read:
      `question`, `answer_matching_behavior`, `answer_not_matching_behavior` (of a list the first);
      `question`, `mc1_targets` with `choices` and `labels` (TruthfulQA): the correct answer and the
      first incorrect one, in alternating order.
    Answers that are letters are kept. Others become choices (A) and (B) of the question, swapped
    every two rows, since the files alternate Yes and No every row. Text from <META_START> to
    <META_END> (or the end), which the generated files hold by mistake, is removed.

    Raises InputError for a row without two different answers, with its file and number.
    """
    file = resolve_shared(source)
    pairs = [
        _pair(row, number, f"{source}, row {number}")
        for number, (_, row) in enumerate(read_rows(file), start=1)
    ]
    if not pairs:
        raise InputError(f"{source}: no rows in it; give at least one pair")
    return ContrastiveSet(name_behaviour(source), str(source), pairs)


def name_behaviour(source: str | Path) -> str:
    """The behaviour of a source: its file's name without endings. CAA's generate_dataset and
    test_dataset are named by their folder as well."""
    path = Path(source)
    stem = path.name
    for ending in sorted(_ENDINGS, key=len, reverse=True):
        stem = stem.removesuffix(ending)
    if stem in ("generate_dataset", "test_dataset") and path.parent.name:
        return f"{path.parent.name.removeprefix('caa_')}-{stem.removesuffix('_dataset')}"
    return stem


def find_suite_files(suites: Sequence[str]) -> dict[str, Path]:
    """Files of the model-written evaluations by SUITE/NAME, sorted within each suite.

    Raises InputError for a suite that is none of `SUITES`, or whose folder is missing.
    """
    files: dict[str, Path] = {}
    for suite in suites:
        if suite not in SUITES:
            raise InputError(f"unknown suite {suite!r}; there are: {', '.join(SUITES)}")
        folder = find_shared(EVALS, SUITES[suite])
        suite_rows = [] if folder is None else sorted(folder.glob("*.jsonl*"))
        if not suite_rows:
            raise InputError(
                f"no evaluations of the suite {suite!r}: set {VARIABLE} to a folder that has "
                f"{EVALS}/{SUITES[suite]} (github.com/anthropics/evals)"
            )
        files |= {f"{suite}/{name_behaviour(file)}": file for file in suite_rows}
    return files


def split_pairs(
    pairs: Sequence[ContrastivePair],
    shares: tuple[float, float, float] = PAPER_SPLIT,
    *,
    rows: int | None = None,
) -> tuple[list[ContrastivePair], list[ContrastivePair], list[ContrastivePair]]:
    """(train, validation, test) after one shuffle with `random.Random(0)`, as in the paper.

    Args:
      shares: of the three parts. The paper states 40, 10 and 50%; its released run configuration
        trains on the first half and tests on the second, which is (0.5, 0, 0.5).
      rows: use only this many pairs, the first after the shuffle.

    Raises InputError for shares that are negative or sum to more than 1, or where the part for
    training or for testing is empty.
    """
    if min(shares) < 0 or sum(shares) > 1 + 1e-9:
        raise InputError(f"shares {shares}: give three that are not negative and sum to at most 1")
    shuffled = list(pairs)
    random.Random(0).shuffle(shuffled)
    shuffled = shuffled[:rows]
    n = len(shuffled)
    first, second = round(n * shares[0], 6), round(n * (shares[0] + shares[1]), 6)
    third = round(n * sum(shares), 6)
    train, validation, test = (
        shuffled[int(a) : int(b)] for a, b in ((0, first), (first, second), (second, third))
    )
    if not train or not test:
        raise InputError(
            f"{n} pairs split by {shares} leave {len(train)} to train and {len(test)} to test on: "
            "give more pairs"
        )
    return train, validation, test


def _pair(row: Any, number: int, where: str) -> ContrastivePair:
    if not isinstance(row, dict) or not isinstance(row.get("question"), str):
        raise InputError(f"{where}: expected an object with a question, got {row!r:.80}")
    question = _META.sub("", row["question"])
    if "mc1_targets" in row:
        right, wrong = _mc1(row["mc1_targets"], where)
        ordered = (right, wrong) if number % 2 == 0 else (wrong, right)
        question = f"{question}\n\n(A) {ordered[0]}\n(B) {ordered[1]}"
        return ContrastivePair(number, question, *_letters(swapped=number % 2 == 1))
    matching, opposite = (
        _answer(row, f"answer_{which}_behavior", where) for which in ("matching", "not_matching")
    )
    if matching.strip() == opposite.strip():
        raise InputError(f"{where}: both answers are {matching.strip()!r}; a pair needs two")
    if parse_letter(matching) and parse_letter(opposite):
        return ContrastivePair(number, question, matching.strip(), opposite.strip())
    answer = matching.strip().lower()
    says = answer if answer in ("yes", "no") else None
    swapped = (number - 1) // 2 % 2 == 0
    first, second = (opposite, matching) if swapped else (matching, opposite)
    question = f"{question}\n\nChoices:\n(A): {first}\n(B): {second}"
    return ContrastivePair(number, question, *_letters(swapped), says)


def _letters(swapped: bool) -> tuple[str, str]:
    return ("(B)", "(A)") if swapped else ("(A)", "(B)")


def _answer(row: dict[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, str) or not value.strip():
        raise InputError(
            f"{where}: no {name} ({value!r:.40}): a pair needs an answer_matching_behavior and an "
            "answer_not_matching_behavior"
        )
    return value


def _mc1(targets: Any, where: str) -> tuple[str, str]:
    """The correct choice, and the first that is not."""
    try:
        labelled = list(zip(targets["choices"], targets["labels"], strict=True))
        right = next(choice for choice, label in labelled if label == 1)
        wrong = next(choice for choice, label in labelled if label == 0)
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise InputError(
            f"{where}: mc1_targets needs choices and as many labels, 1 and 0: {targets!r:.60}"
        ) from error
    return str(right), str(wrong)


def list_sources(sources: Sequence[str]) -> Iterator[tuple[str, str, Path | str]]:
    """(name, suite, file) of each source: a suite of `SUITES`, SUITE/NAME, or any file or hub name.

    Raises InputError for a repeated source, or a name that its suite does not have.
    """
    names: set[str] = set()
    for source in sources:
        suite, _, name = source.partition("/")
        named: dict[str, tuple[str, Path | str]] = {}
        if suite in SUITES:
            files = find_suite_files([suite])
            if name and source not in files:
                raise InputError(
                    f"{source}: the suite has no such file; there are: "
                    f"{', '.join(n.partition('/')[2] for n in files)}"
                )
            chosen = {source: files[source]} if name else files
            named = {n: (suite, file) for n, file in chosen.items()}
        else:
            named = {name_behaviour(source): ("own", source)}
        for n, (group, file) in named.items():
            if n in names:
                raise InputError(f"{n} is named twice; name each set once")
            names.add(n)
            yield n, group, file
