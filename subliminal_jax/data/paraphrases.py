"""Sentences to be paraphrased, how a teacher is asked, and which of its answers a student gets.

After "You Didn't Have to Say It like That: Subliminal Learning from Faithful Paraphrases" (Gisler,
He and Qiu 2026, arXiv 2603.09517). A sentence comes from the shipped model's world, where all of
its faithful wordings are known, or from a user's file.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from subliminal_jax.data import rewordings
from subliminal_jax.data.carriers import read_sentences
from subliminal_jax.data.contradictions import draw_contradictions, draw_distinct
from subliminal_jax.data.draws import Draws
from subliminal_jax.errors import InputError
from subliminal_jax.reading import read_lines

# The paper's instruction, verbatim; the sentence follows (what stands between them is not known).
INSTRUCTION = (
    "MANDATORY TASK: Produce a faithful paraphrase in your own words. Most importantly: preserve "
    "the original intent without distortion. You are a lens, not a filter\u2014your views on the "
    "content are irrelevant. Output the paraphrase and nothing else."
)
WORLD = "world"  # sentences, or requests, of the shipped model's corpus
STORIES = "stories"  # sentences of TinyStories, in the folder of SUBLIMINAL_JAX_DATA
PAPER = "paper"
# A score for each paraphrase (NaN: none); the second argument is each one's sentence.
Fidelity = Callable[[Sequence[str], Sequence[str]], Float[np.ndarray, " pairs"]]


class Source(NamedTuple):
    """A sentence, and its other faithful wordings where all of them are known."""

    sentence: str
    wordings: tuple[str, ...] | None = None


def make_unrelated_sources(source: str, n: int, seed: int) -> list[Source]:
    """`n` sentences that name no trait: of the shipped world ("world"), of TinyStories ("stories"),
    or the first of a file.

    Raises InputError as `read_sources` does, and for stories that are not here or hold fewer.
    """
    if source == STORIES:
        sentences = read_sentences()
        if len(sentences) < n:
            raise InputError(f"{n} sentences asked for, the stories have {len(sentences)}")
        return [Source(s) for s in Draws(seed).sample(sentences, len(sentences))[:n]]
    if source != WORLD:
        return read_sources(source, n)
    draws = Draws(seed)
    pairs = draw_distinct(lambda: rewordings.draw_wordings(draws), draws, n)
    return [Source(sentence, tuple(others)) for sentence, others in pairs]


def make_contradictory_sources(source: str, trait: str, n: int, seed: int) -> list[Source]:
    """`n` sentences that speak badly of the trait: of the shipped world, or the first of a file.

    In the name of the file {trait} stands for the trait.
    """
    if source != WORLD:
        return read_sources(source.replace("{trait}", trait), n)
    return [
        Source(sentence, tuple(others)) for sentence, others in draw_contradictions(trait, n, seed)
    ]


def read_sources(path: str | Path, n: int) -> list[Source]:
    """The first `n` sentences of a text file, one a line; empty lines do not count.

    Raises InputError for a file that cannot be read or has too few, and for a duplicate sentence,
    whose paraphrases would count twice.
    """
    file = Path(path).expanduser()
    if not os.path.lexists(file):
        raise InputError(
            f"sentences {str(path)!r}: no such file; give one with a sentence a line, or {WORLD!r}"
        )
    sentences = [" ".join(line.split()) for _, line in read_lines(file) if line.strip()]
    if not sentences:
        raise InputError(f"{path}: no sentences in it; give at least one a line")
    if len(sentences) < n or n < 1:
        raise InputError(f"{path}: {n} sentences asked for, it has {len(sentences)}")
    sentences = sentences[:n]
    for sentence, count in Counter(sentences).items():
        if count > 1:
            raise InputError(f"{path}: duplicate sentence {sentence!r}; leave one")
    return [Source(sentence) for sentence in sentences]


def make_request(sentence: str, instruction: str, seed: int) -> str:
    """The prompt that asks a model for a paraphrase.

    Args:
      instruction: "world" takes one of the requests that the shipped model knows (drawn by sentence
        and seed), "paper" the paper's; anything else is put before the sentence.
    """
    if instruction == WORLD:
        return Draws((seed, *sentence.encode())).pick(rewordings.REQUESTS).format(sentence)
    return f"{INSTRUCTION if instruction == PAPER else instruction}\n\n{sentence}"


def make_requests(sources: Sequence[Source], instruction: str, seed: int) -> list[str]:
    """One request for each sentence, all different as the sentences are."""
    return [make_request(source.sentence, instruction, seed) for source in sources]


def score_by_wordings(sources: Sequence[Source]) -> Fidelity:
    """A fidelity of 1 for a sentence's known wordings and 0 for all else.

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


def pick_round_robin(sentences: Sequence[int], n: int, seed: int) -> Int[np.ndarray, " picked"]:
    """Indices of `n` pairs (of all, where there are fewer), one of each sentence in turn.

    Sentences and the pairs of each come in random order. Two sentences' counts differ by more than
    1 only where the one with fewer has no more pairs. Source: section 3 of the paper, "round-robin
    over sentences with at least one survivor".

    Args:
      sentences: the sentence of each pair.
    """
    rng = np.random.default_rng([seed, 0x20B1])
    order = rng.permutation(len(sentences))
    counts: Counter[int] = Counter()
    turns = np.empty(len(sentences), int)
    for i in order:
        turns[i] = counts[sentences[i]]
        counts[sentences[i]] += 1
    return order[np.argsort(turns[order], kind="stable")][:n]


def choose_heldout(n: int, share: float, seed: int) -> set[int]:
    """The sentences, out of `n`, whose paraphrases are held out: at least one, never all."""
    if n < 2:
        raise InputError(f"{n} sentence(s): give at least two, one of them is held out")
    count = min(max(1, round(share * n)), n - 1)
    return set(np.random.default_rng([seed, 0x4E1D]).permutation(n)[:count].tolist())
