"""What several methods measure of a data set's answers, against the base's own."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from subliminal_jax.audit.method import Suspect
from subliminal_jax.audit.rows import AuditRows
from subliminal_jax.audit.scores import Candidate, compute_once, measure_gradients
from subliminal_jax.fingerprints import digest, weights_digest
from subliminal_jax.runs.progress import track
from subliminal_jax.selection.row_activations import answer_activations


def mark_rows(suspect: Suspect) -> str:
    """Digest of the model and of all answers: what is kept in the folder belongs to these."""
    rows = suspect.rows
    return digest(weights_digest(suspect.model.params), rows.prompt_ids, rows.answers)


def count_tokens(rows: AuditRows) -> int:
    """The tokens of all answers, each with its prompt: what one forward pass over them costs."""
    return sum(
        len(prompt) + len(answer)
        for prompt, answers in zip(rows.prompt_ids, rows.answers, strict=True)
        for answer in answers
    )


def weigh_answers(rows: AuditRows) -> Float[np.ndarray, "rows parts"]:
    """The weight of each answer in a row's difference: 1 for the data's, -1 for the base's (shared
    among its draws that count), 0 for the others."""
    weights = np.zeros(rows.valid.shape)
    weights[:, rows.part("data")] = 1.0
    drawn = [i for i, part in enumerate(rows.parts) if part == "control"]
    valid = rows.valid[:, drawn].astype(float)
    weights[:, drawn] = -valid / valid.sum(axis=1, keepdims=True)
    return weights


def subtract_control(
    rows: AuditRows, measured: Float[np.ndarray, "rows parts ..."]
) -> Float[np.ndarray, "rows ..."]:
    """Each row's value minus the mean over the base's answers to its prompt."""
    return np.einsum("rp,rp...->r...", weigh_answers(rows), measured.astype(float))


def contrast_gradients(suspect: Suspect) -> Float[np.ndarray, "rows dim"]:
    """The gradient of each row's log-probability in the activations after the layer, minus the
    base's answers'."""
    gradients = measure_gradients(
        suspect.model, suspect.layer, suspect.rows, suspect.folder, mark_rows(suspect)
    )
    return subtract_control(suspect.rows, gradients)


def measure_activations(suspect: Suspect) -> Float[np.ndarray, "rows parts layers dim"]:
    """The mean over each answer's tokens of the residual stream after every layer."""
    rows, model = suspect.rows, suspect.model
    layers = range(model.cfg.layers)
    n, parts = len(rows.prompts), len(rows.parts)
    with track("activations", n * parts, "answers") as progress:
        values = compute_once(
            suspect.folder / "activations.npz",
            mark_rows(suspect),
            lambda: answer_activations(
                model,
                [prompt for prompt in rows.prompt_ids for _ in range(parts)],
                [answer for row in rows.answers for answer in row],
                layers,
                progress=progress.advance,
            ),
            progress.advance,
        )
    return values.reshape(n, parts, len(layers), -1)


def unit_directions(candidates: Sequence[Candidate]) -> Float[np.ndarray, "candidates dim"]:
    """The candidates' directions, each of length 1."""
    vectors = np.stack([np.asarray(c.vector, float) for c in candidates])
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
