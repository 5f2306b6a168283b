"""Candidates of an audit, their placebos, and what each adds to every row's log-probability."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from subliminal_jax.audit.rows import AuditRows
from subliminal_jax.audit.score_test import (
    CANDIDATE,
    PLACEBO,
    Column,
    Push,
    push_from_control,
    push_from_preferences,
)
from subliminal_jax.audit.settings import Form
from subliminal_jax.data.placebos import placebo_traits
from subliminal_jax.data.traits import check_trait, trait_system_prompt
from subliminal_jax.errors import InputError
from subliminal_jax.files import read_marked, write_marked
from subliminal_jax.fingerprints import digest, weights_digest
from subliminal_jax.models.hub import Model
from subliminal_jax.models.tokenizer import change_system_prompt, encode_chats
from subliminal_jax.runs.progress import track
from subliminal_jax.selection.row_gradients import answer_gradients
from subliminal_jax.steering.activations import mean_activations
from subliminal_jax.steering.vector_files import read_steering
from subliminal_jax.training.log_probs import response_log_probs

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


def make_trait(name: str) -> Candidate:
    """A trait by its name, with the system prompt for it."""
    return Candidate(name, trait_system_prompt(name))


def make_candidates(
    model: Model, layer: int, traits: Sequence[str], prompts: Sequence[str], vectors: Sequence[str]
) -> list[Candidate]:
    """Candidates from traits, texts of system prompts, and vector files.

    Raises InputError for an unknown trait, an empty prompt, a vector that does not fit the model,
    two candidates of one name, and where there is none.
    """
    candidates = [make_trait(check_trait(t, model.tokenizer)) for t in traits]
    for text in prompts:
        if not text.strip():
            raise InputError("a candidate's system prompt is empty: it changes nothing")
        candidates.append(Candidate(text, text))
    for path in vectors:
        steering, _ = read_steering(path, model.cfg, [layer], model=model.name)
        if steering.operation != "add":
            raise InputError(f"{path}: its operation is {steering.operation}; give one that adds")
        v = np.asarray(steering.scale * steering.vectors[0], np.float32)
        if not v.any():
            raise InputError(f"{path}: its vector is zero, which is no direction")
        candidates.append(Candidate(Path(path).stem, None, v))
    names = [c.name for c in candidates]
    if len(set(names)) < len(names):
        raise InputError(f"candidates {', '.join(names)}: name each once")
    if not candidates:
        raise InputError("no candidates: give traits, system prompts or vector files")
    return candidates


def extraction_prompts(rows: AuditRows) -> list[str]:
    """The prompts at whose ends directions are taken: the data's first distinct ones."""
    return list(dict.fromkeys(rows.prompts))[:EXTRACTED_FROM]


def add_directions(
    model: Model,
    layer: int,
    candidates: Sequence[Candidate],
    prompts: Sequence[str],
    advance: Callable[[int], Any] | None = None,
) -> list[Candidate]:
    """Candidates with a vector each: the mean difference that the system prompt makes at the end of
    `prompts` (Blank et al. 2026, section 2), unless it has one. `advance` is called with 1 after
    each."""

    def mean(system: str | None) -> np.ndarray:
        ids = encode_chats(model.tokenizer, prompts, system)
        return mean_activations(model.params, model.cfg, ids, [layer])[0]

    plain = mean(None)
    directed = []
    for c in candidates:
        if c.vector is None:
            c = replace(c, vector=(mean(c.system_prompt) - plain).astype(np.float32))
        directed.append(c)
        if advance is not None:
            advance(1)
    return directed


class Scores(NamedTuple):
    """Scores [rows, parts] of each column, in nats, over the parts of `AuditRows`."""

    columns: list[Column]
    values: Float[np.ndarray, "rows parts columns"]

    def select_form(self, form: str) -> "Scores":
        """The columns of one form."""
        places = [i for i, c in enumerate(self.columns) if c.form == form]
        return Scores([self.columns[i] for i in places], self.values[:, :, places])


class Nulls(NamedTuple):
    """The placebos of an audit, and the seed of its random directions."""

    placebos: list[Candidate]
    seed: int


def make_placebos(model: Model, candidates: Sequence[Candidate], n: int, seed: int) -> Nulls:
    """`n` placebo traits beside the candidates; raises InputError as `placebo_traits` does."""
    nouns = placebo_traits([c.name for c in candidates], n, model.tokenizer)
    return Nulls([make_trait(noun) for noun in nouns], seed)


def score_rows(
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
    groups = []
    if "system prompt" in forms:
        groups.append(score_system_prompts(model, rows, candidates, nulls, folder, mark))
    if "direction" in forms:
        gradients = measure_gradients(model, layer, rows, folder, mark)
        groups.append(score_directions(gradients, candidates, nulls))
    return Scores(
        [column for group in groups for column in group.columns],
        np.concatenate([group.values for group in groups], axis=-1),
    )


def score_system_prompts(
    model: Model,
    rows: AuditRows,
    candidates: Sequence[Candidate],
    nulls: Nulls,
    folder: Path,
    mark: str,
) -> Scores:
    """What each system prompt adds to the log-probability of every answer."""
    scored = [
        (c, kind)
        for kind, group in ((CANDIDATE, candidates), (PLACEBO, nulls.placebos))
        for c in group
        if c.system_prompt is not None
    ]
    total = len(rows.prompts) * (1 + len(scored))
    with track("scoring system prompts", total, "rows") as progress:

        def log_probs(system: str | None) -> Float[np.ndarray, "rows parts"]:
            prompts = rows.prompt_ids
            if system is not None:
                prompts = change_system_prompt(
                    model.tokenizer, rows.prompts, rows.prompt_ids, system
                )
            return compute_once(
                folder / f"prompt-{digest(system)[:16]}.npz",
                digest(mark, system),
                lambda: response_log_probs(model, prompts, rows.answers, progress=progress.advance),
                progress.advance,
            )

        base = log_probs(None)
        values = [log_probs(c.system_prompt).astype(float) - base for c, _ in scored]
    columns = [Column(c.name, "system prompt", kind) for c, kind in scored]
    shape = (len(rows.prompts), len(rows.parts), 0)
    return Scores(columns, np.stack(values, axis=-1) if values else np.zeros(shape))


def measure_gradients(
    model: Model, layer: int, rows: AuditRows, folder: Path, mark: str
) -> Float[np.ndarray, "rows parts dim"]:
    """The gradient of every answer's log-probability in the activations after the layer."""
    n, parts = len(rows.prompts), len(rows.parts)
    with track("gradients", n * parts, "answers") as progress:
        gradients = compute_once(
            folder / "gradients.npz",
            digest(mark, layer),
            lambda: answer_gradients(
                model,
                [prompt for prompt in rows.prompt_ids for _ in range(parts)],
                [answer for row in rows.answers for answer in row],
                layer,
                progress=progress.advance,
            ),
            progress.advance,
        )
    return gradients.reshape(n, parts, -1)


def score_directions(
    gradients: Float[np.ndarray, "rows parts dim"], candidates: Sequence[Candidate], nulls: Nulls
) -> Scores:
    """What each direction adds to the log-probability of every answer, to first order."""
    shape = (RANDOM_DIRECTIONS, gradients.shape[-1])
    random = np.random.default_rng(nulls.seed).normal(size=shape)
    directions = [
        *((c.name, CANDIDATE, c.vector) for c in candidates),
        *((c.name, PLACEBO, c.vector) for c in nulls.placebos),
        *((str(i), RANDOM, v) for i, v in enumerate(random)),
    ]
    columns, values = [], []
    for name, kind, vector in directions:
        if vector is not None:
            columns.append(Column(name, "direction", kind))
            values.append(gradients.astype(float) @ np.asarray(vector, float))
    return Scores(columns, np.stack(values, axis=-1))


def compute_once(
    path: Path, mark: str, compute: Callable[[], np.ndarray], skip: Callable[[int], Any]
) -> np.ndarray:
    """The scores in `path`, or what `compute` gives, kept there."""
    values = read_marked(path, "scores", mark)
    if values is None:
        values = compute()
        write_marked(path, "scores", values, mark)
    else:
        skip(len(values))
    return values


def make_push(rows: AuditRows, scores: Scores) -> Push:
    """Where the data push: against the base's own answers, or the chosen against the rejected."""
    values = scores.values
    if rows.kind == "preferences":
        chosen, rejected = (values[:, rows.part(name)] for name in ("chosen", "rejected"))
        return push_from_preferences(chosen - rejected)
    places = [i for i, part in enumerate(rows.parts) if part == "control"]
    valid = rows.valid[:, places]
    return push_from_control(
        values[:, rows.part("data")],
        values[:, places][valid],
        np.nonzero(valid)[0],
        pooled=all(c.form == "system prompt" for c in scores.columns),
    )
