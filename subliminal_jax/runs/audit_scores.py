"""Candidates of an audit, their placebos, and what each adds to every row's log-probability."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from subliminal_jax.data.placebos import placebo_traits
from subliminal_jax.data.traits import check_trait, trait_system_prompt
from subliminal_jax.errors import InputError
from subliminal_jax.files import read_marked, write_marked
from subliminal_jax.fingerprints import digest, weights_digest
from subliminal_jax.models.hub import Model
from subliminal_jax.models.tokenizer import encode_chat
from subliminal_jax.runs.audit_data import AuditRows
from subliminal_jax.runs.progress import track
from subliminal_jax.selection.audit import (
    PLACEBO,
    Column,
    Push,
    push_from_control,
    push_of_preferences,
)
from subliminal_jax.selection.row_gradients import answer_gradients
from subliminal_jax.steering.activations import mean_activations
from subliminal_jax.steering.io import load_steering
from subliminal_jax.training.log_probs import response_log_probs

Form = Literal["system prompt", "direction"]
FORMS: tuple[Form, ...] = ("system prompt", "direction")
RANDOM = "random directions"
RANDOM_DIRECTIONS = 256
EXTRACTED_FROM = 64  # the data's own prompts at whose ends a system prompt's direction is taken


@dataclass(frozen=True)
class Candidate:
    """What the data may push towards: a system prompt, a vector after the layer, or both (the
    vector of a system prompt is taken from it where it is not given)."""

    name: str
    system_prompt: str | None = None
    vector: Float[np.ndarray, " dim"] | None = None


def candidates_of(
    model: Model, layer: int, traits: Sequence[str], prompts: Sequence[str], vectors: Sequence[str]
) -> list[Candidate]:
    """Candidates from traits, texts of system prompts, and vector files.

    Raises InputError for an unknown trait, an empty prompt, a vector that does not fit the model,
    two candidates of one name, and where there is none.
    """
    out = [Candidate(t, trait_system_prompt(check_trait(t, model.tokenizer))) for t in traits]
    for text in prompts:
        if not text.strip():
            raise InputError("a candidate's system prompt is empty: it changes nothing")
        out.append(Candidate(text, text))
    for path in vectors:
        steering, _ = load_steering(path, model.cfg, [layer], model=model.name)
        if steering.operation != "add":
            raise InputError(f"{path}: its operation is {steering.operation}; give one that adds")
        v = np.asarray(steering.scale * steering.vectors[0], np.float32)
        if not v.any():
            raise InputError(f"{path}: its vector is zero, which is no direction")
        out.append(Candidate(Path(path).stem, None, v))
    names = [c.name for c in out]
    if len(set(names)) < len(names):
        raise InputError(f"candidates {', '.join(names)}: name each once")
    if not out:
        raise InputError("no candidates: give traits, system prompts or vector files")
    return out


def with_directions(
    model: Model, layer: int, candidates: Sequence[Candidate], prompts: Sequence[str]
) -> list[Candidate]:
    """Candidates with a vector each: the mean difference that the system prompt makes at the end of
    `prompts` (Blank et al. 2026, section 2), unless it has one."""

    def mean(system: str | None) -> np.ndarray:
        ids = [encode_chat(model.tokenizer, p, system_prompt=system) for p in prompts]
        return mean_activations(model.params, model.cfg, ids, [layer])[0]

    plain = mean(None)
    out = []
    for c in candidates:
        if c.vector is None:
            c = replace(c, vector=(mean(c.system_prompt) - plain).astype(np.float32))
        out.append(c)
    return out


class Scores(NamedTuple):
    """Scores [rows, parts] of each column, in nats, over the parts of `AuditRows`."""

    columns: list[Column]
    values: Float[np.ndarray, "rows parts columns"]


class Nulls(NamedTuple):
    """The placebos of an audit, and the seed of its random directions."""

    placebos: list[Candidate]
    seed: int


def placebos_for(model: Model, candidates: Sequence[Candidate], n: int, seed: int) -> Nulls:
    """`n` placebo traits beside the candidates; raises InputError as `placebo_traits` does."""
    nouns = placebo_traits([c.name for c in candidates], n, model.tokenizer)
    return Nulls([Candidate(noun, trait_system_prompt(noun)) for noun in nouns], seed)


def score(
    model: Model,
    layer: int,
    rows: AuditRows,
    candidates: Sequence[Candidate],
    nulls: Nulls,
    forms: Sequence[Form],
    folder: Path,
) -> Scores:
    """All columns' scores. What took long is kept in `folder` and read again; InputError where that
    was computed of other rows or of another model."""
    mark = digest(weights_digest(model.params), rows.prompt_ids, rows.answers)
    columns: list[Column] = []
    values: list[np.ndarray] = []
    n, parts = len(rows.prompts), len(rows.parts)
    if "system prompt" in forms:
        asked = [*((c, "candidate") for c in candidates), *((c, PLACEBO) for c in nulls.placebos)]
        asked = [(c, kind) for c, kind in asked if c.system_prompt is not None]
        with track("scoring system prompts", n * (1 + len(asked)), "rows") as progress:

            def log_probs(system: str | None) -> np.ndarray:
                prompts = rows.prompt_ids
                if system is not None:
                    prompts = [
                        encode_chat(model.tokenizer, p, system_prompt=system) for p in rows.prompts
                    ]
                return _kept(
                    folder / f"prompt-{digest(system)[:16]}.npz",
                    digest(mark, system),
                    lambda: response_log_probs(
                        model, prompts, rows.answers, progress=progress.advance
                    ),
                    progress.advance,
                )

            base = log_probs(None)
            for c, kind in asked:
                columns.append(Column(c.name, "system prompt", kind))
                values.append(log_probs(c.system_prompt).astype(float) - base)
    if "direction" in forms:
        known = [c for c in candidates if c.vector is not None]
        with track("gradients", n * parts, "answers") as progress:
            gradients = _kept(
                folder / "gradients.npz",
                digest(mark, layer),
                lambda: answer_gradients(
                    model,
                    [p for p in rows.prompt_ids for _ in range(parts)],
                    [a for row in rows.answers for a in row],
                    layer,
                    progress=progress.advance,
                ),
                progress.advance,
            ).reshape(n, parts, -1)
        random = np.random.default_rng(nulls.seed).normal(size=(RANDOM_DIRECTIONS, model.cfg.dim))
        groups = (
            ("candidate", [c.name for c in known], [c.vector for c in known]),
            (PLACEBO, [c.name for c in nulls.placebos], [c.vector for c in nulls.placebos]),
            (RANDOM, [str(i) for i in range(len(random))], list(random)),
        )
        for kind, names, vectors in groups:
            for name, v in zip(names, vectors, strict=True):
                columns.append(Column(name, "direction", kind))
                values.append(gradients.astype(float) @ np.asarray(v, float))
    return Scores(columns, np.stack(values, axis=-1))


def _kept(
    path: Path, mark: str, make: Callable[[], np.ndarray], skip: Callable[[int], Any]
) -> np.ndarray:
    """The scores in `path`, or what `make` gives, kept there."""
    found = read_marked(path, "scores", mark)
    if found is not None:
        skip(len(found))
        return found
    made = make()
    write_marked(path, "scores", made, mark)
    return made


def of_form(scores: Scores, form: str) -> Scores:
    """The columns of one form."""
    at = [i for i, c in enumerate(scores.columns) if c.form == form]
    return Scores([scores.columns[i] for i in at], scores.values[:, :, at])


def push_of(rows: AuditRows, scores: Scores) -> Push:
    """Where the data push: against the base's own answers, or the chosen against the rejected."""
    v = scores.values
    if rows.kind == "preferences":
        return push_of_preferences(v[:, rows.part("chosen")] - v[:, rows.part("rejected")])
    at = [i for i, part in enumerate(rows.parts) if part == "control"]
    ok = rows.valid[:, at]
    far = all(c.form == "system prompt" for c in scores.columns)
    return push_from_control(v[:, rows.part("data")], v[:, at][ok], np.nonzero(ok)[0], pooled=far)
