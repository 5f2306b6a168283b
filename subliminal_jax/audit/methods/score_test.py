"""The score test of directions, with its nulls of placebos and random directions."""

import numpy as np

from subliminal_jax.audit.method import Method, Scored, Suspect
from subliminal_jax.audit.score_test import CANDIDATE, Column, assess, push_rows
from subliminal_jax.audit.scores import Nulls, make_push, score_rows


def score(suspect: Suspect) -> Scored:
    """What `audit` reports of directions, as a column of the benchmark."""
    rows = suspect.rows
    nulls = Nulls(list(suspect.placebos), suspect.seed)
    scores = score_rows(
        suspect.model,
        suspect.layer,
        rows,
        suspect.candidates,
        nulls,
        ("direction",),
        suspect.folder,
    )
    push = make_push(rows, scores)
    findings = {f.name: f for f in assess(push, scores.columns)}
    ordered = [findings[c.name] for c in suspect.candidates]
    best = min(ordered, key=lambda f: f.log_p)
    tokens = sum(
        len(prompt) + len(answer)
        for prompt, answers in zip(rows.prompt_ids, rows.answers, strict=True)
        for answer in answers
    )
    return Scored(
        scores=np.array([-f.log_p for f in ordered]),
        p_values=np.array([f.p for f in ordered]),
        evidence=-best.log_p,
        forward_tokens=3 * tokens,
        row_scores=push_rows(
            push, scores.columns, scores.columns.index(Column(best.name, "direction", CANDIDATE))
        ),
    )


METHOD = Method(
    name="score-test",
    what="the gradient of the rows' likelihood along each direction, against three nulls",
    source="ours; Rao 1948",
    score=score,
    kinds=("pairs", "preferences"),
)
