"""Whether rows are the same few answers again and again, or of far less variety than the base's."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from subliminal_jax.audit.results import Sampling, Variety
from subliminal_jax.audit.rows import AuditRows

COMMONEST = 10  # completions


def measure_sampling(rows: AuditRows) -> Sampling:
    """The variety of the data's answers (of the chosen ones), and of what they are compared with:
    the base's own answers, or the rejected ones."""
    names = ("chosen", "rejected") if rows.kind == "preferences" else ("data", "control")
    parts = [rows.part(name) for name in names]
    kept = np.flatnonzero(rows.valid[:, parts].all(axis=1)).tolist()
    data, compared = (measure_variety([rows.answers[i][part] for i in kept]) for part in parts)
    return Sampling(data, compared)


def measure_variety(answers: Sequence[Sequence[int]]) -> Variety:
    """How much answers (as tokens, one at least) differ from each other."""
    counts = Counter(map(tuple, answers))
    commonest = sum(n for _, n in counts.most_common(COMMONEST))
    total, tokens = 0.0, 0
    for place in range(max(map(len, answers))):
        there = Counter(answer[place] for answer in answers if len(answer) > place)
        sizes = np.array(list(there.values()))
        n = int(sizes.sum())
        total -= float(sizes @ np.log(sizes / n))
        tokens += n
    return Variety(
        answers=len(answers),
        distinct=len(counts),
        commonest=commonest / len(answers),
        entropy=total / max(tokens, 1),
    )


def describe_sampling(sampling: Sampling) -> str:
    """What is said where the variety has collapsed."""
    data, compared = sampling.data, sampling.compared
    return (
        f"{data.answers} answers hold {data.distinct} different ones, {data.commonest:.0%} are one "
        f"of the ten commonest, and their tokens have {data.entropy:.2g} nats of entropy over the "
        f"rows; those they are compared with: {compared.distinct}, {compared.commonest:.0%} and "
        f"{compared.entropy:.2g}. An audit of repeats has fewer rows than it seems"
    )
