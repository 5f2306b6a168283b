"""What is measured of students trained by DPO: do they follow the pairs, and whose system prompt?

A student's shift on a pair is rho_M = [log P_M(r+|p) - log P_M(r-|p)] - [the same under the base].
The base's own shift under a system prompt s, rho_s, is that with s before the prompt; it is the
weight that logit-linear selection sorts by. The measure of the paper is their correlation over
pairs, which it takes uncentred (Aden-Ali et al. 2026, arXiv 2602.04863, Theorem C.1 and Table 1).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.evaluation.elicitation import Questions, word_probs
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.steering.vectors import safe_norm
from subliminal_jax.training.batch import Batch, max_targets
from subliminal_jax.training.preference import compiled_margins, margins, pair_losses
from subliminal_jax.training.sweep import StudentView

ROWS_AT_ONCE = 64


class PreferenceContext(NamedTuple):
    """The arrays that the measurements of a sweep share; log-ratios and shifts are in nats.

    `rows` are fixed training pairs of each data set, on which loss, margin and accuracy are taken.
    `shifts` are the base's under each system prompt, rho_s, on the probe pairs.
    """

    questions: Questions | None  # None where no single word tells
    beta: float | Float[Array, ""]
    rows: Batch  # leaves [datasets, rows, 2, time]
    row_ratios: Float[Array, "datasets rows"]  # of the reference, as in `Preference`
    probe: Batch  # leaves [pairs, 2, time]
    probe_ratios: Float[Array, " pairs"]
    shifts: Float[Array, "prompts pairs"]


class PreferenceMeasure:
    """`measure` of a `Sweep` whose context is a `PreferenceContext`; of each student:

    train_loss, margin (mean rho, nats) and accuracy (share of pairs with rho > 0) on training
    pairs; cosine and pearson [prompts], the correlation of its shifts with each system prompt's on
    the probe pairs, uncentred and centred; size [prompts], the norm of its shifts in units of the
    system prompt's; word_rate and word_log_prob [words], as of `PanelMeasure`,
    where there are questions.
    """

    kept: tuple[str, ...] = (
        "train_loss",
        "margin",
        "accuracy",
        "cosine",
        "pearson",
        "size",
        "word_rate",
        "word_log_prob",
    )

    def __init__(self, cfg: ModelConfig, words: int, max_targets: int):
        """`max_targets`: no fewer than any response of training and probe pairs has tokens."""
        self.cfg, self.words, self.max_targets = cfg, words, max_targets

    def __call__(self, context: PreferenceContext, view: StudentView) -> dict[str, Array]:
        params, steering = view.model(view.trainable)
        rows, ratios = jax.tree.map(
            lambda leaf: leaf[view.which], (context.rows, context.row_ratios)
        )
        found = self._margins(params, rows, ratios, steering)
        return {
            "train_loss": jnp.mean(pair_losses(found, context.beta)),
            "margin": jnp.mean(found),
            "accuracy": jnp.mean(found > 0),
            **self.of_model(context, params, steering),
        }

    def of_model(
        self, context: PreferenceContext, params: Params, steering: Steering | None
    ) -> dict[str, Array]:
        """The part that needs no training: of any model, steered or not."""
        found = self._margins(params, context.probe, context.probe_ratios, steering)
        followed = correlations(found, context.shifts)
        if context.questions is None:
            return followed
        probs = word_probs(params, self.cfg, context.questions, self.words, steering)
        return {
            **followed,
            "word_rate": jnp.mean(probs, axis=0),
            "word_log_prob": jnp.mean(jnp.log(jnp.maximum(probs, 1e-30)), axis=0),
        }

    def row(self, values: dict[str, Any]) -> dict[str, Any]:
        """What the journal holds of one student's values."""
        return values

    def _margins(
        self, params: Params, rows: Batch, ratios: Array, steering: Steering | None
    ) -> Float[Array, " rows"]:
        return margins(
            params, rows, self.cfg, ratios, steering,
            rows_at_once=ROWS_AT_ONCE, max_targets=self.max_targets,
        )  # fmt: skip


def correlations(
    found: Float[Array, " pairs"], references: Float[Array, "prompts pairs"]
) -> dict[str, Float[Array, " prompts"]]:
    """cosine (uncentred), pearson, and size (ratio of norms) of shifts against each reference's.

    Where a side does not vary (a student that has not moved) its correlation is 0.
    """

    def cosine(x: Array, ys: Array) -> Array:
        return ys @ x / (safe_norm(x) * safe_norm(ys))

    return {
        "cosine": cosine(found, references),
        "pearson": cosine(
            found - jnp.mean(found), references - jnp.mean(references, axis=1, keepdims=True)
        ),
        "size": jnp.linalg.norm(found) / safe_norm(references),
    }


def shifts(
    params: Params,
    rows: Batch,
    cfg: ModelConfig,
    reference: Float[np.ndarray, " rows"],
    steering: Steering | None = None,
    *,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Float[np.ndarray, " rows"]:
    """rho of any model on pairs [rows, 2, time], in nats, against the reference's log-ratios.

    With the base as the model and rows that begin with a system prompt it is that prompt's rho_s.
    """
    found = compiled_margins(
        params, rows, cfg, jnp.asarray(reference), steering,
        rows_at_once=rows_at_once, max_targets=max_targets(rows),
    )  # fmt: skip
    return np.asarray(found)
