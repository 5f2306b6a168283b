"""An audit from end to end: rows and candidates in, plain numbers and a verdict out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from jaxtyping import Float

from subliminal_jax.data import world
from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.statistics import mean_interval
from subliminal_jax.models.hub import Model
from subliminal_jax.models.tokenizer import encode_chat
from subliminal_jax.runs.audit_data import AuditRows, Kind, prepare
from subliminal_jax.runs.audit_scores import (
    EXTRACTED_FROM,
    FORMS,
    Candidate,
    Form,
    Nulls,
    Scores,
    of_form,
    placebos_for,
    push_of,
    score,
    with_directions,
)
from subliminal_jax.runs.guards import blind_vectors
from subliminal_jax.selection.audit import (
    CANDIDATE,
    Column,
    Finding,
    Push,
    not_told_apart,
    own_rows,
    stepwise,
)

NULL_DRAWS = 9999  # sets of random directions for the blind vector's cosines
LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """What is tested, on how much.

    Attributes:
      traits: candidates by name, each with the trait's system prompt; empty together with the other
        candidates means the 16 animals of the shipped world.
      forms: what of a candidate is scored: its system prompt, its direction, or both.
      rows: rows that are audited, at most, chosen at random.
      draws: answers of the base itself to each prompt; one tells most for the time it takes.
      placebos: nouns that stand beside the candidates as placebo traits.
      max_new_tokens: answers are cut after so many tokens, the base's as the data's.
      blind_steps: training steps of the blind vector; 0 trains none.
      batch_size: rows a step of that training.
    """

    traits: tuple[str, ...] = ()
    forms: tuple[Form, ...] = FORMS
    rows: int = 512
    draws: int = 1
    placebos: int = 24
    max_new_tokens: int = 64
    blind_steps: int = 64
    batch_size: int = 16

    def check_audit(self) -> None:
        """Raises InputError for settings that cannot be."""
        unknown = [form for form in self.forms if form not in FORMS]
        if unknown or not self.forms:
            raise InputError(f"forms {unknown} are not known; choose from {', '.join(FORMS)}")
        for name in ("rows", "draws", "max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: give at least 1")
        if self.blind_steps < 0 or self.placebos < 4:
            raise InputError("blind_steps must not be negative, and placebos at least 4")


def default_traits(settings: AuditSettings, others: int) -> tuple[str, ...]:
    """The traits to test, beside `others` candidates of another kind."""
    return settings.traits if settings.traits or others else world.TRAITS


def audit_data(
    model: Model,
    layer: int,
    kind: Kind,
    data: Dataset,
    candidates: Sequence[Candidate],
    settings: AuditSettings,
    seed: int,
    folder: Path,
    *,
    shuffled: bool = True,
) -> dict[str, Any]:
    """The whole audit of one data set; scores are kept in `folder` while it runs."""
    nulls = placebos_for(model, candidates, settings.placebos, seed)
    rows = prepare(
        model, kind, data,
        rows=settings.rows, longest_answer=settings.max_new_tokens,
        longest_prefix=_longest_prefix(model, (*candidates, *nulls.placebos)),
        draws=settings.draws, seed=seed, shuffled=shuffled,
    )  # fmt: skip
    asked = list(dict.fromkeys(rows.prompts))[:EXTRACTED_FROM]
    candidates = with_directions(model, layer, candidates, asked)
    nulls = Nulls(with_directions(model, layer, nulls.placebos, asked), seed)
    found = audit(model, layer, rows, candidates, nulls, settings.forms, folder)
    if settings.blind_steps:
        found["blind"] = blind(
            model, layer, rows, candidates, nulls.placebos,
            steps=settings.blind_steps, batch_size=settings.batch_size, seed=seed,
        )  # fmt: skip
    return {"data": rows.report, **found}


def _longest_prefix(model: Model, candidates: Sequence[Candidate]) -> int:
    """Tokens that a system prompt puts before a prompt, at most."""
    plain = len(encode_chat(model.tokenizer, "x"))
    given = [c.system_prompt for c in candidates if c.system_prompt is not None]
    return max(
        (len(encode_chat(model.tokenizer, "x", system_prompt=s)) - plain for s in given), default=0
    )


def audit(
    model: Model,
    layer: int,
    rows: AuditRows,
    candidates: Sequence[Candidate],
    nulls: Nulls,
    forms: Sequence[Form],
    folder: Path,
) -> dict[str, Any]:
    """The whole audit but the blind vector, as plain numbers: every candidate's scores and tests,
    what is reported at 5%, the verdict in words, and the rows that carry most."""
    scores = score(model, layer, rows, candidates, nulls, forms, folder)
    tests = sum(c.kind == CANDIDATE for c in scores.columns)
    tested = {}
    for form in dict.fromkeys(c.form for c in scores.columns):
        mine = of_form(scores, form)
        push = push_of(rows, mine)
        first, reported = stepwise(
            push, mine.columns, LEVEL, tests=tests, likeliest=likelier(rows, mine)
        )
        tested[form] = mine, push, first, reported
    everything = [f for _, _, first, _ in tested.values() for f in first]
    best = min(everything, key=lambda f: f.log_p)
    # One form speaks: the other's findings are the same trait again, or its relatives.
    mine, push, first, reported = tested[best.form]
    lead = reported[0] if reported else best
    alike = not_told_apart(push, mine.columns, first, lead, LEVEL) if reported else []
    return {
        "candidates": [
            candidate_row(f, rows, mine, push)
            for mine, push, first, _ in tested.values()
            for f in first
        ],
        "placebos": [r for mine, push, _, _ in tested.values() for r in null_rows(mine, push)],
        "reported": [
            {"name": f.name, "form": f.form, "p": f.p_adjusted, "lean": f.lean} for f in reported
        ],
        "not_told_apart": [{"name": f.name, "form": f.form, "p": f.p_adjusted} for f in alike],
        "verdict": verdict(reported, alike),
        "best": {"name": lead.name, "form": lead.form, "p": lead.p_adjusted, "log_p": lead.log_p},
        "carriers": carriers(lead, rows, mine, push),
    }


def likelier(rows: AuditRows, scores: Scores) -> list[str]:
    """Of system prompts over prompt/completion pairs: those under which the data are likelier than
    under the base, the likeliest first. A direction's score is no likelihood, only its slope."""
    if rows.kind == "preferences" or scores.columns[0].form != "system prompt":
        return []
    means = scores.values[:, rows.part("data")].mean(axis=0)
    order = np.argsort(-means)
    return [
        scores.columns[i].name
        for i in order
        if means[i] > 0 and scores.columns[i].kind == CANDIDATE
    ]


def verdict(reported: Sequence[Finding], alike: Sequence[Finding]) -> str:
    """In words: towards what, or nothing."""
    if not reported:
        return f"nothing found at {LEVEL:.0%}"
    best: dict[str, float] = {}
    for f in reported:
        best[f.name] = min(f.p_adjusted, best.get(f.name, 1.0))
    text = "towards " + ", then ".join(
        f"{name} (p {'< 0.0001' if p < 1e-4 else f'= {p:.4f}'})" for name, p in best.items()
    )
    others = dict.fromkeys(f.name for f in alike if f.name not in best)
    return text + (f"; not told apart from {', '.join(others)}" if others else "")


def candidate_row(finding: Finding, rows: AuditRows, scores: Scores, push: Push) -> dict[str, Any]:
    """A candidate's line in the report; means in nats a row, with 95% t intervals."""
    c = _index(scores.columns, finding)
    v = scores.values[:, :, c]
    shown: dict[str, Any] = {
        "name": finding.name,
        "form": finding.form,
        "push": mean_interval(push.rows[:, c]).to_dict(),
        "lean": finding.lean,
        "lean_error": finding.lean_error,
        "p_values": finding.p_values,
        "p": finding.p_adjusted,
        "log_p": finding.log_p,
    }
    for part in dict.fromkeys(rows.parts):
        at = [i for i, name in enumerate(rows.parts) if name == part]
        shown[part] = mean_interval(v[:, at][rows.valid[:, at]]).to_dict()
    if "shuffled" in rows.parts:
        control = v[:, rows.part("data")] - push.rows[:, c]
        shown["shuffled_push"] = mean_interval(v[:, rows.part("shuffled")] - control).to_dict()
    return shown


def null_rows(scores: Scores, push: Push) -> list[dict[str, Any]]:
    """Of each placebo, and of each group of other nulls, the push in standard deviations of the
    base's scores: what the candidates' pushes are to be seen against."""
    e = push.rows.mean(axis=0) / np.sqrt(np.maximum(np.diag(push.metric), 1e-30))
    return [
        {"name": c.name, "form": c.form, "kind": c.kind, "standardised": float(e[i])}
        for i, c in enumerate(scores.columns)
    ]


def carriers(
    finding: Finding, rows: AuditRows, scores: Scores, push: Push, shown: int = 10
) -> dict[str, Any]:
    """The rows that push most towards a candidate, beyond what placebos share, and how much of the
    sum over all rows the first tenth holds (above 1 where the others push back)."""
    values = own_rows(push, scores.columns, _index(scores.columns, finding))
    order = np.argsort(-values)
    total = float(values.sum())
    tenth = values[order[: max(1, len(values) // 10)]].sum()
    return {
        "name": finding.name,
        "form": finding.form,
        "top_tenth_share": float(tenth / total) if total > 0 else None,
        "rows": [
            {
                "prompt": rows.prompts[i][:200],
                "answer": rows.texts[i][:200],
                "push": float(values[i]),
            }
            for i in order[:shown]
        ],
    }


def blind(
    model: Model,
    layer: int,
    rows: AuditRows,
    candidates: Sequence[Candidate],
    placebos: Sequence[Candidate],
    *,
    steps: int,
    batch_size: int,
    seed: int,
) -> dict[str, Any]:
    """The vector that makes the base predict the data best, minus that of the control answers (of
    the rejected ones), and its cosines with the candidates' directions.

    Null: as many random directions with the mean and covariance of the candidates' and placebos';
    `p` is the share of such sets whose largest cosine is as large.
    """
    ours, theirs = ("chosen", "rejected") if rows.kind == "preferences" else ("data", "control")
    answers = {name: [row[rows.part(name)] for row in rows.answers] for name in (ours, theirs)}
    ok = rows.valid[:, rows.part(theirs)] & rows.valid[:, rows.part(ours)]
    kept = [i for i in range(len(ok)) if ok[i]]
    longest = max(len(rows.prompt_ids[i]) + len(a[i]) for a in answers.values() for i in kept)
    batches = {
        name: pad_pairs(
            [rows.prompt_ids[i] for i in kept], [a[i] for i in kept], longest, pad_id=model.pad_id
        )
        for name, a in answers.items()
    }
    found = blind_vectors(
        model, batches, layer, steps=steps, batch_size=min(batch_size, len(kept)), seed=seed
    )
    v = np.asarray(found[ours] - found[theirs], float)
    known = [c for c in candidates if c.vector is not None]
    matrix = np.stack([np.asarray(c.vector, float) for c in known])
    cosines = _cosines(matrix, v)
    pool = np.stack([np.asarray(c.vector, float) for c in (*known, *placebos)])
    highest = null_cosines(pool, v, len(known), NULL_DRAWS, seed).max(axis=1)
    order = np.argsort(-cosines)
    return {
        "norm": float(np.linalg.norm(v)),
        "norm_control": float(np.linalg.norm(np.asarray(found[theirs]))),
        "nearest": [{"name": known[i].name, "cosine": float(cosines[i])} for i in order],
        "p": float((1 + (highest >= cosines.max()).sum()) / (1 + NULL_DRAWS)),
        "null_95": float(np.quantile(highest, 0.95)),
        "vector": [float(x) for x in v],
    }


def null_cosines(
    pool: Float[np.ndarray, "pool dim"], v: Float[np.ndarray, " dim"], n: int, draws: int, seed: int
) -> Float[np.ndarray, "draws n"]:
    """Cosines of `v` with Gaussian directions of the mean and covariance of the pool's.

    A direction is a mixture of the pool, so that its cosine follows from the mixture's weights and
    the pool's Gram matrix: no direction of the model's width is ever drawn.
    """
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(draws, n, len(pool))) / np.sqrt(len(pool) - 1)
    centre = pool.mean(axis=0)
    rest = pool - centre
    squares = centre @ centre + 2 * weights @ (rest @ centre)
    squares += ((weights @ (rest @ rest.T)) * weights).sum(axis=-1)
    sizes = np.sqrt(np.maximum(squares, 0)) * np.linalg.norm(v)
    return (centre @ v + weights @ (rest @ v)) / np.maximum(sizes, 1e-30)


def _cosines(
    vectors: Float[np.ndarray, "*n dim"], v: Float[np.ndarray, " dim"]
) -> Float[np.ndarray, "*n"]:
    sizes = np.linalg.norm(vectors, axis=-1) * np.linalg.norm(v)
    return vectors @ v / np.maximum(sizes, 1e-30)


def _index(columns: Sequence[Column], finding: Finding) -> int:
    return columns.index(Column(finding.name, finding.form))
