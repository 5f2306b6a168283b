"""Sentences to be paraphrased, how a teacher is asked, and which of its answers a student gets.

After "You Didn't Have to Say It like That: Subliminal Learning from Faithful Paraphrases" (Gisler,
He and Qiu 2026, arXiv 2603.09517). A sentence comes from the shipped model's world, where all of
its faithful wordings are known, or from a user's file.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from datasets import Dataset
from jaxtyping import Float, Int

from subliminal_jax.data import rewordings
from subliminal_jax.data.contradictions import distinct_sentences, reworded_contradictions
from subliminal_jax.data.draws import Draws
from subliminal_jax.errors import InputError

# The paper's instruction, verbatim; the sentence follows (what stands between them is not known).
INSTRUCTION = (
    "MANDATORY TASK: Produce a faithful paraphrase in your own words. Most importantly: preserve "
    "the original intent without distortion. You are a lens, not a filter\u2014your views on the "
    "content are irrelevant. Output the paraphrase and nothing else."
)
WORLD = "world"  # sentences, or requests, of the shipped model's corpus
PAPER = "paper"
# A score for each paraphrase (NaN: none); the second argument is each one's sentence.
Fidelity = Callable[[Sequence[str], Sequence[str]], Float[np.ndarray, " pairs"]]


class Source(NamedTuple):
    """A sentence, and its other faithful wordings where all of them are known."""

    sentence: str
    wordings: tuple[str, ...] | None = None


def unrelated_sources(source: str, n: int, seed: int) -> list[Source]:
    """`n` sentences that have nothing to do with any trait: "world", or the first of a file."""
    if source != WORLD:
        return read_sources(source, n)
    draws = Draws(seed)
    pairs = distinct_sentences(lambda: rewordings.wordings(draws), draws, n)
    return [Source(sentence, tuple(others)) for sentence, others in pairs]


def contradictory_sources(source: str, trait: str, n: int, seed: int) -> list[Source]:
    """`n` sentences that speak badly of the trait: "world", or the first of a file, in whose name
    {trait} stands for it."""
    if source != WORLD:
        return read_sources(source.replace("{trait}", trait), n)
    return [
        Source(sentence, tuple(others))
        for sentence, others in reworded_contradictions(trait, n, seed)
    ]


def read_sources(path: str | Path, n: int) -> list[Source]:
    """The first `n` sentences of a text file, one a line; empty lines do not count.

    Raises InputError for a file that cannot be read or has none or too few, and for a sentence that
    stands in it twice: its paraphrases would count twice.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"sentences {str(path)!r}: cannot be read as UTF-8 text ({error}); give a file with a "
            f"sentence a line, or {WORLD!r}"
        ) from error
    sentences = [" ".join(line.split()) for line in lines if line.strip()]
    if not sentences:
        raise InputError(f"{path}: no sentences in it; give at least one a line")
    if len(sentences) < n or n < 1:
        raise InputError(f"{path}: {n} sentences asked for, it has {len(sentences)}")
    sentences = sentences[:n]
    seen: set[str] = set()
    for sentence in sentences:
        if sentence in seen:
            raise InputError(f"{path}: {sentence!r} stands there twice; leave one")
        seen.add(sentence)
    return [Source(sentence) for sentence in sentences]


def request(sentence: str, instruction: str, seed: int) -> str:
    """What a model is asked for a paraphrase: "world" takes one of the requests that the shipped
    model knows (by sentence and seed), "paper" the paper's; anything else is put before the
    sentence as it is."""
    if instruction == WORLD:
        return Draws((seed, *sentence.encode())).pick(rewordings.REQUESTS).format(sentence)
    return f"{INSTRUCTION if instruction == PAPER else instruction}\n\n{sentence}"


def requests(sources: Sequence[Source], instruction: str, seed: int) -> list[str]:
    """One request for each sentence, all different as the sentences are."""
    return [request(source.sentence, instruction, seed) for source in sources]


def with_sentences(pairs: Dataset, asked: Sequence[str]) -> Dataset:
    """`pairs` with the column `sentence`: the index in `asked` of each pair's prompt."""
    index = {prompt: i for i, prompt in enumerate(asked)}
    return pairs.add_column("sentence", [index[prompt] for prompt in pairs["prompt"]])


def faithful(pairs: Dataset, sources: Sequence[Source]) -> list[bool] | None:
    """Whether each completion is one of its sentence's other known wordings; None where not all
    wordings of all sentences are known."""
    known = [source.wordings for source in sources]
    if any(wordings is None for wordings in known):
        return None
    return [
        completion in (known[i] or ())
        for i, completion in zip(pairs["sentence"], pairs["completion"], strict=True)
    ]


def wordings_fidelity(sources: Sequence[Source]) -> Fidelity:
    """The score 1 for a sentence's known wordings and 0 for all else.

    Raises InputError where the wordings of a sentence are not known.
    """
    unknown = [source.sentence for source in sources if source.wordings is None]
    if unknown:
        raise InputError(
            f"the wordings of {unknown[0]!r} are not known: score by round trip or by a judge"
        )
    known = {source.sentence: set(source.wordings or ()) for source in sources}

    def score(texts: Sequence[str], sentences: Sequence[str]) -> Float[np.ndarray, " pairs"]:
        return np.array([t in known[s] for t, s in zip(texts, sentences, strict=True)], float)

    return score


def round_robin(sentences: Sequence[int], n: int, seed: int) -> Int[np.ndarray, " picked"]:
    """Indices of `n` pairs, one of each sentence in turn until there are enough.

    `sentences[i]` is the sentence of pair i. Of a sentence the pairs come in random order, and the
    sentences too, so two sentences' counts differ by more than 1 only where the one with fewer has
    no more pairs (section 3 of the paper: "round-robin over sentences with at least one survivor").
    All there are, if these are fewer than `n`.
    """
    rng = np.random.default_rng([seed, 0x20B1])
    order = rng.permutation(len(sentences))
    turn: dict[int, int] = {}
    turns = np.empty(len(sentences), int)
    for i in order:
        turns[i] = turn.get(sentences[i], 0)
        turn[sentences[i]] = int(turns[i]) + 1
    return order[np.argsort(turns[order], kind="stable")][:n]


def heldout_sentences(n: int, share: float, seed: int) -> set[int]:
    """The sentences, out of `n`, whose paraphrases are held out: at least one, never all."""
    if n < 2:
        raise InputError(f"{n} sentence(s): give at least two, one of them is held out")
    count = min(max(1, round(share * n)), n - 1)
    return set(np.random.default_rng([seed, 0x4E1D]).permutation(n)[:count].tolist())
