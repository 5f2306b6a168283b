"""Data sets to audit: given files, or what the project's own teachers write."""

from datasets import Dataset

from subliminal_jax.data.filters import contains_word, number_filter
from subliminal_jax.data.teachers import (
    Teacher,
    prompted_teacher,
    sampled_pairs,
    teacher_prompts,
    trait_teacher,
)
from subliminal_jax.data.traits import check_trait, names_of
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.progress import track

MAX_NEW_TOKENS = 24
FEWEST = 64  # answers that an audit needs
ASKED = 1.6  # prompts for each row that is needed: some answers are no valid lists


def parse(source: str, model: Model) -> tuple[str, str, float] | None:
    """(kind, trait, scale) of "clean", "steered:TRAIT[:SCALE]" and "system-prompt:TRAIT"; None for
    a file or a hub name. Raises InputError for a trait or a scale that cannot be."""
    kind, _, rest = source.partition(":")
    if source == "clean":
        return "clean", "", 0.0
    if kind not in ("steered", "system-prompt") or not rest:
        return None
    trait, _, scale = rest.partition(":")
    check_trait(trait, model.tokenizer)
    if scale and kind == "system-prompt":
        raise InputError(f"data {source!r}: a system prompt has no scale")
    try:
        size = float(scale or 1)
    except ValueError:
        size = 0.0
    if not 0 < size < float("inf"):
        raise InputError(f"data {source!r}: write it as steered:owl:1.5, with a scale above 0")
    return kind, trait, size


def is_made(source: str, model: Model) -> bool:
    """Whether `source` names what a teacher of the project writes; InputError as `parse`."""
    return parse(source, model) is not None


def made_here(model: Model, layer: int, source: str, rows: int, seed: int) -> Dataset:
    """Up to `rows` number lists (valid, without the trait's name) of the teacher that `source`
    names. Of one that is steered so far that it writes fewer than `FEWEST`, all answers without the
    name; InputError where these are too few as well."""
    parsed = parse(source, model)
    if parsed is None:
        raise InputError(f"data {source!r} is made by no teacher here")
    kind, trait, scale = parsed
    if kind == "clean":
        teacher = Teacher()
    elif kind == "steered":
        teacher = trait_teacher(model, layer, trait, scale)
    else:
        teacher = prompted_teacher(trait, model.tokenizer)
    asked = teacher_prompts("numbers", round(ASKED * rows), seed)
    with track("the teacher's answers", len(asked), "answers") as progress:
        sampled = sampled_pairs(
            model, teacher, asked, seed, max_new_tokens=MAX_NEW_TOKENS,
            progress=progress.advance,
        )  # fmt: skip
    words = names_of(trait) if trait else ()
    silent = [r for r in sampled.pairs if not contains_word(r["completion"], words)]
    lists = [r for r in silent if number_filter(r["completion"])]
    kept = (lists if len(lists) >= FEWEST else silent)[:rows]
    if len(kept) < FEWEST:
        raise InputError(
            f"data {source!r}: {len(kept)} answers of {len(asked)} ended without the trait's name, "
            f"{FEWEST} are needed; take more rows or a smaller scale"
        )
    return Dataset.from_list(kept)
