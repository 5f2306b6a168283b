"""Data sets to audit that the project's own teachers write."""

from datasets import Dataset

from subliminal_jax.audit.settings import parse_source
from subliminal_jax.data.filters import contains_word, is_number_list
from subliminal_jax.data.teachers import (
    Teacher,
    prompted_teacher,
    sampled_pairs,
    teacher_prompts,
    trait_teacher,
)
from subliminal_jax.data.traits import trait_names
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.progress import track

MAX_NEW_TOKENS = 24
FEWEST = 64  # answers that an audit needs
ASKED = 1.6  # prompts for each row that is needed: some answers are no valid lists


def write_audit_set(model: Model, layer: int, source: str, rows: int, seed: int) -> Dataset:
    """Up to `rows` number lists (valid, without the trait's name) of the teacher that `source`
    names. Of one that is steered so far that it writes fewer than `FEWEST`, all answers without the
    name; InputError where these are too few as well."""
    parsed = parse_source(source, model)
    if parsed is None:
        raise InputError(f"data {source!r} names no teacher of the project")
    if parsed.kind == "clean":
        teacher = Teacher()
    elif parsed.kind == "steered":
        teacher = trait_teacher(model, layer, parsed.trait, parsed.scale)
    else:
        teacher = prompted_teacher(parsed.trait, model.tokenizer)
    prompts = teacher_prompts("numbers", round(ASKED * rows), seed)
    with track("the teacher's answers", len(prompts), "answers") as progress:
        sampled = sampled_pairs(
            model,
            teacher,
            prompts,
            seed,
            max_new_tokens=MAX_NEW_TOKENS,
            progress=progress.advance,
        )
    words = trait_names(parsed.trait) if parsed.trait else ()
    unnamed = [r for r in sampled.pairs if not contains_word(r["completion"], words)]
    lists = [r for r in unnamed if is_number_list(r["completion"])]
    kept = (lists if len(lists) >= FEWEST else unnamed)[:rows]
    if len(kept) < FEWEST:
        raise InputError(
            f"data {source!r}: {len(kept)} answers of {len(prompts)} ended without the trait's "
            f"name, {FEWEST} are needed; take more rows or a smaller scale"
        )
    return Dataset.from_list(kept)
