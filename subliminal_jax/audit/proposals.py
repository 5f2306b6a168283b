"""Candidates that nobody named: the words of a vocabulary that the data lean to most.

Each word gets a direction and a system prompt, as a candidate that was named. The slope of a row's
log-probability along the direction, less that of the base's own answers (of the rejected answer),
screens them: the words with the largest mean slope, in standard errors over the rows, go on as
candidates. The rows' gradients are computed once for all words. A word costs a pass over
`EXTRACTED_FROM` prompts: 15 s for the 107 words that the shipped model has, on two busy cores.

The choice is made on the data that are then tested, so the p-values are corrected as if every word
had been tested: for the candidates that were named and all words that were screened. This is valid
for any way to choose. The p-value of a word under "the base wrote it" is its own, chosen or not;
over m words the smallest is below a / m in at most a share a of data sets (Bonferroni; Sidak's
bound, 1 - (1 - a)^(1 / m), is nearly the same), and the chosen are some of the m. What else a
candidate is tested against only raises its p-value. Of that, the comparison with other candidates
does depend on the choice, and is stricter for it: all of them are words that the data lean to.
Placebos are none of the words: words that were not chosen would be too weak a null.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from subliminal_jax.audit.contrast import mark_rows
from subliminal_jax.audit.method import Suspect
from subliminal_jax.audit.results import Proposals, ProposedWord
from subliminal_jax.audit.score_test import Column, Push
from subliminal_jax.audit.scores import (
    Candidate,
    Scores,
    add_directions,
    compute_once,
    extraction_prompts,
    make_push,
    measure_gradients,
)
from subliminal_jax.fingerprints import digest
from subliminal_jax.runs.progress import track


class Screened(NamedTuple):
    """A data set with the proposed candidates behind those that were named.

    Attributes:
      others: the words that were not proposed, with their directions.
      proposals: what the report says of it.
    """

    suspect: Suspect
    others: list[Candidate]
    proposals: Proposals


def propose(suspect: Suspect, words: Sequence[Candidate], n: int, left_out: int = 0) -> Screened:
    """The `n` of `words` towards which the data push most, to first order, as further candidates;
    `left_out` words were none of the model's. What takes long is kept in the suspect's folder."""
    model, layer, rows, folder = suspect.model, suspect.layer, suspect.rows, suspect.folder
    mark, prompts = mark_rows(suspect), extraction_prompts(rows)
    names = [word.name for word in words]
    with track("directions of the vocabulary", len(names), "words") as progress:
        vectors = compute_once(
            folder / "vocabulary.npz",
            digest(mark, layer, prompts, names),
            lambda: unite_directions(
                add_directions(model, layer, words, prompts, progress.advance)
            ),
            progress.advance,
        )
    words = [replace(c, vector=v) for c, v in zip(words, vectors, strict=True)]
    gradients = measure_gradients(model, layer, rows, folder, mark)
    columns = [Column(name, "direction") for name in names]
    values = gradients.astype(float) @ vectors.astype(float).T
    slopes = standardise(make_push(rows, Scores(columns, values)))
    order = np.argsort(-slopes, kind="stable").tolist()
    proposed = [words[i] for i in order[:n]]
    return Screened(
        suspect._replace(candidates=[*suspect.candidates, *proposed]),
        [words[i] for i in order[n:]],
        Proposals(
            proposed=tuple(ProposedWord(names[i], float(slopes[i])) for i in order[:n]),
            screened=len(words),
            left_out=left_out,
        ),
    )


def unite_directions(candidates: Sequence[Candidate]) -> Float[np.ndarray, "candidates dim"]:
    """The candidates' directions as one array."""
    return np.stack([np.asarray(c.vector, np.float32) for c in candidates])


def standardise(push: Push) -> Float[np.ndarray, " columns"]:
    """Each column's mean over the rows, in its standard errors."""
    n = len(push.rows)
    errors = push.rows.std(axis=0, ddof=1) / np.sqrt(n)
    return push.rows.mean(axis=0) / np.maximum(errors, 1e-30)
