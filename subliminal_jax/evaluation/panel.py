"""What is measured of students of many teachers at once: every word's rate, every shift's cosine.

Each student is held against each reference, so that the students of one trait, those of another
and the controls can all be compared along the same direction.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from subliminal_jax.diagnostics.alignment import (
    At,
    Probe,
    activation_shift,
    eas,
    relative_component,
    relative_size,
)
from subliminal_jax.evaluation.elicitation import Questions, word_probs
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.training.fixed_rows import FixedRows
from subliminal_jax.training.sweep import StudentView


class PanelContext(NamedTuple):
    """The arrays that the measurements of a sweep share.

    `references` are shifts of the teachers from the base on the probe, after every layer. `rows`
    are training rows of each data set, on which `train_loss` is taken.
    """

    probe: Probe
    base_mean: Float[Array, "layers dim"]
    references: Float[Array, "references layers dim"]
    questions: Questions
    rows: FixedRows


class PanelMeasure:
    """`measure` of a `Sweep` whose context is a `PanelContext`; of each student:

    train_loss []; word_rate and word_log_prob [words] (mean over questions of the probability that
    the answer begins with the word, and of its logarithm); eas, shift_size and shift_component
    [references, layers], the last two in units of the reference. `by_question` adds question_rate
    [words, questions], the probabilities whose mean word_rate is.
    """

    kept: tuple[str, ...] = (
        "train_loss",
        "word_rate",
        "word_log_prob",
        "eas",
        "shift_size",
        "shift_component",
    )

    def __init__(
        self,
        cfg: ModelConfig,
        words: int,
        at: At = "last",
        by_question: bool = False,
    ):
        self.cfg, self.words, self.at = cfg, words, at
        self.by_question = by_question
        if by_question:
            self.kept = (*self.kept, "question_rate")

    def __call__(self, context: PanelContext, view: StudentView) -> dict[str, Array]:
        params, steering = view.model(view.trainable)
        loss = context.rows.loss(params, self.cfg, view.which, steering)
        return {"train_loss": loss, **self.of_model(context, params, steering)}

    def of_model(
        self, context: PanelContext, params: Params, steering: Steering | None
    ) -> dict[str, Array]:
        """The part that needs no training: of any model, steered or not."""
        layers = tuple(range(self.cfg.layers))
        shift = activation_shift(
            params, context.probe, context.base_mean, self.cfg, layers, steering, self.at
        )
        probs = word_probs(params, self.cfg, context.questions, self.words, steering)

        def against(f: Any) -> Float[Array, "references layers"]:
            return jax.vmap(lambda reference: f(shift, reference))(context.references)

        return {
            **({"question_rate": probs.T} if self.by_question else {}),
            "word_rate": jnp.mean(probs, axis=0),
            "word_log_prob": jnp.mean(jnp.log(jnp.maximum(probs, 1e-30)), axis=0),
            "eas": against(eas),
            "shift_size": against(relative_size),
            "shift_component": against(relative_component),
        }

    def row(self, values: dict[str, Any]) -> dict[str, Any]:
        """What the journal holds of one student's values."""
        return values
