"""The teacher of the experiments on optimizers: one vector, and the trait that it speaks for."""

from subliminal_jax.data import world
from subliminal_jax.data.teachers import random_teacher, teacher_from_file, trait_teacher
from subliminal_jax.data.traits import check_trait
from subliminal_jax.evaluation.elicitation import encode_questions, favoured_word
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.checks import AUTO
from subliminal_jax.steering.teacher import Teacher


def resolve_trait(model: Model, trait: str) -> str:
    """`trait`, or owl for "auto"; raises InputError where the tokenizer has no word for it."""
    return "owl" if trait == AUTO else check_trait(trait, model.tokenizer)


def make_vector_teacher(
    model: Model, layer: int, vector: str, trait: str, *, norm: float, scale: float, seed: int
) -> tuple[Teacher, str]:
    """The base with a vector after `layer`, and the trait whose rate is reported.

    Args:
      vector: "random", "trait" (the mean difference of the trait's system prompt), or a
        safetensors file.
      trait: an animal, or "auto".
      norm: of a random vector, in units of the residual stream's norm at the layer.
      scale: factor on a trait's vector or one from a file.

    Raises InputError for a trait without a word, or a file that does not fit the model.
    """
    name = resolve_trait(model, trait)
    if vector == "trait":
        return trait_teacher(model, layer, name, scale), name
    if vector == "random":
        teacher = random_teacher(model, layer, norm, seed)
    else:
        teacher = teacher_from_file(model, vector, layer, scale)
    if trait != AUTO:
        return teacher, name
    words = list(world.TRAITS)
    questions = encode_questions(model.tokenizer, list(world.TRAIN_QUESTIONS), words)
    assert teacher.steering is not None
    favoured = favoured_word(model.params, model.cfg, questions, len(words), teacher.steering)
    return teacher, words[favoured]
