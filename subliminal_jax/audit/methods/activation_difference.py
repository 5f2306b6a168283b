"""Activation difference lens: what a short student's shift on unrelated text says in words."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from subliminal_jax.audit.method import Method, Scored, Suspect
from subliminal_jax.audit.names import read_names
from subliminal_jax.audit.nulls import compare_with_others, make_scored
from subliminal_jax.audit.short_students import ShortStudents, train_students
from subliminal_jax.data.questions import GENERAL, OFF_TOPIC
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.forward import Capture, hidden_states, unembed
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.models.tokenizer import Tokenizer
from subliminal_jax.models.tokenwise import norm

UNRELATED = (*GENERAL, *OFF_TOPIC)  # read as plain texts
FIRST_TOKENS = 5  # of each text, as in the paper


def score(suspect: Suspect) -> Scored:
    """The logit of each candidate's name under the mean difference of the two students."""
    model = suspect.model
    names = read_names(suspect)
    students = train_students(suspect)
    texts = encode_beginnings(model.tokenizer)
    logits = read_difference(model, suspect.layer, students, texts)
    spellings = [find_spellings(model.tokenizer, name) for name in names]
    values = np.array([max(float(logits[ids].mean()) for ids in own) for own in spellings])
    n = len(suspect.candidates)
    return make_scored(
        values[:n],
        [compare_with_others(values[:n], values[n:])],
        students.forward_tokens + 2 * texts.size,
    )


def encode_beginnings(tokenizer: Tokenizer) -> Int[np.ndarray, "texts tokens"]:
    """The first tokens of each text that has as many."""
    encoded = tokenizer(list(UNRELATED), add_special_tokens=False)["input_ids"]
    return np.array([ids[:FIRST_TOKENS] for ids in encoded if len(ids) >= FIRST_TOKENS], np.int32)


def read_difference(
    model: Model, layer: int, students: ShortStudents, texts: Int[np.ndarray, "texts tokens"]
) -> Float[np.ndarray, " vocab"]:
    """The logit lens of the mean activation difference after `layer`: final norm and unembedding of
    the base. The paper reads after the middle block."""
    treated, control = (
        _mean_activation(params, jnp.asarray(texts), model.cfg, layer)
        for params in (students.treated, students.control)
    )
    return np.asarray(_read_logits(model.params, treated - control, model.cfg), float)


def find_spellings(tokenizer: Tokenizer, name: str) -> list[list[int]]:
    """The spellings of a name that are the fewest tokens."""
    texts = [name, " " + name, name.capitalize(), " " + name.capitalize()]
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    fewest = min(map(len, encoded))
    return [ids for ids in encoded if len(ids) == fewest]


@partial(jax.jit, static_argnames=("cfg", "layer"))
def _mean_activation(
    params: Params, texts: Int[Array, "texts tokens"], cfg: ModelConfig, layer: int
) -> Float[Array, " dim"]:
    h = hidden_states(params, texts, cfg, capture=Capture((layer,))).activations
    assert h is not None
    return h[0].astype(jnp.float32).mean(axis=(0, 1))


@partial(jax.jit, static_argnames="cfg")
def _read_logits(
    params: Params, difference: Float[Array, " dim"], cfg: ModelConfig
) -> Float[Array, " vocab"]:
    return unembed(params, norm(difference, params, "final_norm", cfg), cfg)


METHOD = Method(
    name="activation-difference",
    what="logit of each name under the students' mean difference on unrelated text",
    source="activation difference lens (arXiv 2510.13900)",
    score=score,
)
