"""The interface of an audit's methods: rows and candidates in, a score of each candidate out.

A method is one file of `subliminal_jax/audit/methods/` that defines `METHOD`. The benchmark
(`audit-benchmark`) runs every method on data sets of known teachers, and `audit` uses the one that
did best there.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from subliminal_jax.audit import methods
from subliminal_jax.audit.rows import AuditRows
from subliminal_jax.audit.scores import Candidate
from subliminal_jax.models.hub import Model


class Suspect(NamedTuple):
    """What a method gets to see.

    Attributes:
      model: the auditor's. Whether it also wrote the data, the auditor does not know.
      layer: the block after which directions are added or read.
      rows: of the data, with the base's own answers to the same prompts (or, of preferences, the
        rejected answers).
      candidates: what the data may push towards, each with a direction.
      placebos: candidates of the same making that nobody suspects.
      seed: of everything that a method draws.
      folder: for what takes long, so that an interrupted audit goes on.
    """

    model: Model
    layer: int
    rows: AuditRows
    candidates: Sequence[Candidate]
    placebos: Sequence[Candidate]
    seed: int
    folder: Path


@dataclass(frozen=True)
class Scored:
    """What a method says of a data set.

    Attributes:
      scores: of each candidate, in their order; the largest is the one that the data push towards
        most.
      p_values: of each candidate under "the data do not push towards it", before any correction for
        the number of candidates; None where the method has no test.
      evidence: that the data are not clean, on a scale of the method's own; the area under the ROC
        curve is made of it.
      forward_tokens: cost, in tokens of forward passes; a backward pass counts as two.
      row_scores: how much each row pushes towards the candidate of the largest score; None where
        the method does not say.
    """

    scores: Float[np.ndarray, " candidates"]
    p_values: Float[np.ndarray, " candidates"] | None
    evidence: float
    forward_tokens: int
    row_scores: Float[np.ndarray, " rows"] | None = None


@dataclass(frozen=True)
class Method:
    """A way to audit.

    Attributes:
      name: in commands and tables.
      what: one line on what it measures.
      source: paper, or "ours".
      kinds: of data that it reads: pairs, preferences.
      score: the method itself. Raises InputError for data that it cannot read.
    """

    name: str
    what: str
    source: str
    score: Callable[[Suspect], Scored]
    kinds: tuple[str, ...] = ("pairs",)


def find_methods() -> Mapping[str, Method]:
    """All methods by name, one of each file in `methods`."""
    found = {}
    for module in pkgutil.iter_modules(methods.__path__):
        method: Method = importlib.import_module(f"{methods.__name__}.{module.name}").METHOD
        found[method.name] = method
    return found
