"""The vector that an audit recovers from the data alone, and the candidates nearest to it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from subliminal_jax.audit.results import BlindVector, Nearest
from subliminal_jax.audit.rows import AuditRows
from subliminal_jax.audit.scores import Candidate
from subliminal_jax.audit.settings import BlindSettings
from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.guards import recover_vectors

NULL_DRAWS = 9999  # sets of random directions for the cosines


def recover_blind(
    model: Model,
    layer: int,
    rows: AuditRows,
    candidates: Sequence[Candidate],
    placebos: Sequence[Candidate],
    settings: BlindSettings,
    seed: int,
) -> BlindVector:
    """The vector that makes the base predict the data best, minus that of the control answers (of
    the rejected ones), and its cosines with the candidates' directions.

    Null: as many random directions with the mean and covariance of the candidates' and placebos';
    `p` is the share of such sets whose largest cosine is as large.
    """
    names = ("chosen", "rejected") if rows.kind == "preferences" else ("data", "control")
    parts = [rows.part(name) for name in names]
    kept = np.flatnonzero(rows.valid[:, parts].all(axis=1)).tolist()
    prompts = [rows.prompt_ids[i] for i in kept]
    answers = {
        name: [rows.answers[i][part] for i in kept] for name, part in zip(names, parts, strict=True)
    }
    longest = max(
        len(p) + len(a) for each in answers.values() for p, a in zip(prompts, each, strict=True)
    )
    batches = {
        name: pad_pairs(prompts, each, longest, pad_id=model.pad_id)
        for name, each in answers.items()
    }
    vectors = recover_vectors(
        model,
        batches,
        layer,
        steps=settings.blind_steps,
        batch_size=min(settings.batch_size, len(kept)),
        seed=seed,
    )
    treated, control = (np.asarray(vectors[name]) for name in names)
    v = np.asarray(treated - control, float)
    known = [c for c in candidates if c.vector is not None]
    pool = np.stack([np.asarray(c.vector, float) for c in (*known, *placebos)])
    directions = pool[: len(known)]
    sizes = np.linalg.norm(directions, axis=-1) * np.linalg.norm(v)
    cosines = directions @ v / np.maximum(sizes, 1e-30)
    highest = null_cosines(pool, v, len(known), NULL_DRAWS, seed).max(axis=1)
    return BlindVector(
        norm=float(np.linalg.norm(v)),
        norm_control=float(np.linalg.norm(control)),
        nearest=tuple(Nearest(known[i].name, float(cosines[i])) for i in np.argsort(-cosines)),
        p=float((1 + (highest >= cosines.max()).sum()) / (1 + NULL_DRAWS)),
        null_95=float(np.quantile(highest, 0.95)),
        vector=tuple(v.tolist()),
    )


def null_cosines(
    pool: Float[np.ndarray, "pool dim"], v: Float[np.ndarray, " dim"], n: int, draws: int, seed: int
) -> Float[np.ndarray, "draws n"]:
    """Cosines of `v` with Gaussian directions of the mean and covariance of the pool's.

    A direction is a mixture of the pool, so its cosine follows from the mixture's weights and the
    pool's Gram matrix: no direction of the model's width is ever drawn.
    """
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(draws, n, len(pool))) / np.sqrt(len(pool) - 1)
    centre = pool.mean(axis=0)
    rest = pool - centre
    squares = centre @ centre + 2 * weights @ (rest @ centre)
    squares += ((weights @ (rest @ rest.T)) * weights).sum(axis=-1)
    sizes = np.sqrt(np.maximum(squares, 0)) * np.linalg.norm(v)
    return (centre @ v + weights @ (rest @ v)) / np.maximum(sizes, 1e-30)
