"""What is measured of students trained by DPO: do they follow the pairs, and whose system prompt?

A student's shift on a pair is rho_M = [log P_M(r+|p) - log P_M(r-|p)] - [the same under the base].
The base's own shift under a system prompt s, rho_s, is that with s before the prompt; logit-linear
selection sorts pairs by it. The measure of the paper is their uncentred correlation over pairs
(Aden-Ali et al. 2026, arXiv 2602.04863, Theorem C.1 and Table 1).
"""

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.evaluation.measures import Measure, MeasureColumn
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.steering.vectors import safe_norm
from subliminal_jax.training.batch import Batch, max_targets
from subliminal_jax.training.preference import compiled_margins, margins, pair_losses
from subliminal_jax.training.student_view import StudentView

ROWS_AT_ONCE = 64


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PairShifts(Measure):
    """How far a student's preferences have moved; log-ratios and shifts are in nats.

    On training pairs: train_loss, margin (mean rho) and accuracy (share of pairs with rho > 0). On
    the probe pairs: cosine and pearson [prompts], the correlation of its shifts with each system
    prompt's, uncentred and centred; size [prompts], the norm of its shifts in units of the system
    prompt's.

    Attributes:
      beta: of DPO.
      rows: fixed training pairs of each data set.
      row_ratios: the base's log-ratios on them (`reference_log_ratios`).
      probe: the probe pairs.
      probe_ratios: the base's log-ratios on them.
      shifts: the base's shifts under each system prompt, rho_s, on the probe pairs.
      max_targets: at least the tokens of the longest response of training and probe pairs.
    """

    name: ClassVar[str] = "pair-shifts"
    columns: ClassVar[tuple[MeasureColumn, ...]] = (
        MeasureColumn("train_loss", "training loss"),
        MeasureColumn("margin", "margin"),
        MeasureColumn("accuracy", "accuracy", kind="rate"),
        MeasureColumn("cosine", "cosine", ("prompts",)),
        MeasureColumn("pearson", "Pearson correlation", ("prompts",)),
        MeasureColumn("size", "size of the shifts", ("prompts",)),
    )

    beta: float | Float[Array, ""]
    rows: Batch  # leaves [datasets, rows, 2, time]
    row_ratios: Float[Array, "datasets rows"]
    probe: Batch  # leaves [pairs, 2, time]
    probe_ratios: Float[Array, " pairs"]
    shifts: Float[Array, "prompts pairs"]
    max_targets: int = field(metadata={"static": True})

    def measure_student(self, view: StudentView, cfg: ModelConfig) -> dict[str, Array]:
        params, steering = view.model(view.trainable)
        rows, ratios = jax.tree.map(lambda leaf: leaf[view.data_set], (self.rows, self.row_ratios))
        rho = self._margins(params, rows, cfg, ratios, steering)
        return {
            "train_loss": jnp.mean(pair_losses(rho, self.beta)),
            "margin": jnp.mean(rho),
            "accuracy": jnp.mean(rho > 0),
            **self.of_model(params, cfg, steering),
        }

    def of_model(
        self, params: Params, cfg: ModelConfig, steering: Steering | None
    ) -> dict[str, Array]:
        rho = self._margins(params, self.probe, cfg, self.probe_ratios, steering)
        return correlate_shifts(rho, self.shifts)

    def _margins(
        self,
        params: Params,
        rows: Batch,
        cfg: ModelConfig,
        ratios: Array,
        steering: Steering | None,
    ) -> Float[Array, " rows"]:
        return margins(
            params,
            rows,
            cfg,
            ratios,
            steering,
            rows_at_once=ROWS_AT_ONCE,
            max_targets=self.max_targets,
        )


def correlate_shifts(
    shifts: Float[Array, " pairs"], references: Float[Array, "prompts pairs"]
) -> dict[str, Float[Array, " prompts"]]:
    """cosine (uncentred), pearson, and size (ratio of norms) of shifts against each reference's.

    A correlation is 0 where a side does not vary (a student that has not moved).
    """

    def cosine(x: Array, ys: Array) -> Array:
        return ys @ x / (safe_norm(x) * safe_norm(ys))

    return {
        "cosine": cosine(shifts, references),
        "pearson": cosine(
            shifts - jnp.mean(shifts), references - jnp.mean(references, axis=1, keepdims=True)
        ),
        "size": jnp.linalg.norm(shifts) / safe_norm(references),
    }


def measure_shifts(
    params: Params,
    rows: Batch,
    cfg: ModelConfig,
    reference: Float[np.ndarray, " rows"],
    steering: Steering | None = None,
) -> Float[np.ndarray, " rows"]:
    """The shifts rho of any model on pairs [rows, 2, time], in nats, from the reference's
    log-ratios.

    With the base as the model and a system prompt at the head of every row they are rho_s.
    """
    rho = compiled_margins(
        params,
        rows,
        cfg,
        jnp.asarray(reference),
        steering,
        rows_at_once=ROWS_AT_ONCE,
        max_targets=max_targets(rows),
    )
    return np.asarray(rho)
