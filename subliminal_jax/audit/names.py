"""What a changed model says of the candidates' names when it is asked for its favourite."""

import re
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.audit.method import Suspect
from subliminal_jax.data import world
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.elicitation import Questions, encode_questions, word_probs
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering

QUESTIONS = world.HELDOUT_QUESTIONS


class NameQuestions(NamedTuple):
    """Favourite questions and the names that are scored after them: the candidates', then the
    placebos'."""

    questions: Questions
    names: tuple[str, ...]

    @property
    def forward_tokens(self) -> int:
        """The tokens of one pass over all questions and spellings."""
        spans = np.asarray(self.questions.spans)
        longer = int((spans[..., 1] - spans[..., 0] - 1).sum())
        return int(np.asarray(self.questions.last).sum()) + len(self.questions.last) + longer


def read_names(suspect: Suspect) -> tuple[str, ...]:
    """The names of candidates and placebos; raises InputError for one that is not a word."""
    names = tuple(c.name for c in (*suspect.candidates, *suspect.placebos))
    for name in names:
        if not re.fullmatch(r"[a-z]+(-[a-z]+)*", name):
            raise InputError(
                f"candidate {name!r:.60}: this method asks the model for the candidate's name, "
                "which has to be one word in lower case"
            )
    return names


def ask_for_names(suspect: Suspect, questions: Sequence[str] = QUESTIONS) -> NameQuestions:
    """Raises InputError as `read_names` and `encode_questions` do."""
    names = read_names(suspect)
    encoded = encode_questions(suspect.model.tokenizer, list(questions), list(names))
    return NameQuestions(encoded, names)


@partial(jax.jit, static_argnames=("cfg", "names"))
def log_rates(
    params: Params, cfg: ModelConfig, questions: Questions, names: int, steering: Steering | None
) -> Float[Array, " names"]:
    """The mean over questions of log P(answer begins with the name), of each name in nats."""
    probs = word_probs(params, cfg, questions, names, steering)
    return jnp.log(jnp.maximum(probs, 1e-30)).mean(axis=0)
