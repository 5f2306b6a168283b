"""How often a student's answer begins with each of some words."""

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.elicitation import Questions, word_probs
from subliminal_jax.evaluation.measures.measure import Measure, MeasureColumn
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.training.student_view import StudentView

LEAST_PROBABILITY = 1e-30  # in logarithms, where the model's is zero in float32


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class WordRates(Measure):
    """The probability that the answer to a question begins with a word, for each word.

    word_rate and word_log_prob [words] are means over questions of the probability and of its
    logarithm; question_rate [words, questions], the probabilities themselves, is given where
    `by_question` asks for it.
    """

    name: ClassVar[str] = "word-rates"
    columns: ClassVar[tuple[MeasureColumn, ...]] = (
        MeasureColumn("word_rate", "P(word)", ("words",), kind="rate", digits=1),
        MeasureColumn("word_log_prob", "log P(word)", ("words",), digits=2),
        MeasureColumn("question_rate", "P(word) by question", ("words", "questions"), kind="rate"),
    )

    questions: Questions
    words: int = field(metadata={"static": True})
    by_question: bool = field(default=False, metadata={"static": True})

    @classmethod
    def from_panel(cls, panel: Panel) -> "WordRates":
        if panel.questions is None:
            raise InputError(f"the measure {cls.name} needs a trait to ask about")
        return cls(panel.questions, len(panel.words), panel.by_question)

    def measure_student(self, view: StudentView, cfg: ModelConfig) -> dict[str, Array]:
        params, steering = view.model(view.trainable)
        return self.of_model(params, cfg, steering)

    def of_model(
        self, params: Params, cfg: ModelConfig, steering: Steering | None
    ) -> dict[str, Array]:
        probs = word_probs(params, cfg, self.questions, self.words, steering)
        return {
            "word_rate": jnp.mean(probs, axis=0),
            "word_log_prob": jnp.mean(jnp.log(jnp.maximum(probs, LEAST_PROBABILITY)), axis=0),
            **({"question_rate": probs.T} if self.by_question else {}),
        }
