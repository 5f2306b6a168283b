"""Checks of settings before anything is computed: alone, with each other, and with a model."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from subliminal_jax.bounds import (
    Blocks,
    Items,
    Rule,
    Text,
    as_flag,
    check_fields,
    check_value,
    field_rules,
)
from subliminal_jax.data.traits import (
    WordSplitter,
    check_word,
    make_word_splitter,
    read_word_splitter,
)
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model, Outline
from subliminal_jax.steering.vector_files import read_steering

TRAIT = Text(r"[a-z]+(-[a-z]+)*", "one word in lower case, such as owl")
AUTO = "auto"  # in place of a trait: the one that a random vector favours most; else owl


@dataclass(frozen=True)
class VectorSource(Text):
    """A file of a steering vector, or one of `words`, which stand for others."""

    words: tuple[str, ...] = ()


def check_names(
    field: str, names: Sequence[str], allowed: Collection[str] = (), minimum: int = 1
) -> None:
    """Raises InputError, naming the flag of `field`, for repeated names, for fewer than `minimum`,
    and for names that are not `allowed` (empty allows all)."""
    rule = Rule(tuple[str, ...], items=Items(minimum), text=Text(choices=tuple(allowed)))
    check_value(field, tuple(names), rule, as_flag)


def check_at_most(settings: Any, field: str, most: int, what: str) -> None:
    """Raises InputError for a number of `field` above `most`, the number of what there is
    (in words: `what`). The default may be above: it then takes all."""
    value = getattr(settings, field)
    if value > most and value != getattr(type(settings), field):
        raise InputError(f"{as_flag(field, value)} is more than {what}: give at most {most}")


def check_settings(settings: Any) -> None:
    """Raises InputError for values out of their bounds (`bounds.check_fields`), and for values that
    do not go together: within a group of settings (its `check_group`) or in the experiment
    (`check`)."""
    check_fields(settings, as_flag)
    for group in reversed(type(settings).__mro__):
        if "check_group" in vars(group):
            vars(group)["check_group"](settings)
    settings.check()


def check_fits_model(settings: Any, model: Model) -> None:
    """Raises InputError for settings that do not fit the model: blocks that it does not have,
    traits that its tokenizer has no word for, files of vectors that do not fit it, and what a
    group's `check_with_model` refuses.

    Of an outline (`models.hub.sketch_model`) the tokenizer is read last, and with it checked, since
    that takes seconds: words are looked up in its file before.
    """
    kind: Any = type(settings)
    words: list[tuple[str, str]] = []
    for field, rule in field_rules(kind).items():
        value = getattr(settings, field)
        values = value if isinstance(value, tuple) else (value,)
        if isinstance(rule.range, Blocks):
            for block in values:
                check_block(field, value, block, model)
        elif isinstance(rule.text, VectorSource) and value not in rule.text.words:
            check_vector_file(field, value, settings.choose_layer(model), model)
        elif rule.text == TRAIT:
            words += [(field, trait) for trait in values if trait not in (AUTO, None)]
    if isinstance(model, Outline) and (split := read_word_splitter(model.folder)) is not None:
        check_words(words, model, split)
    for group in reversed(type(settings).__mro__):
        if "check_with_model" in vars(group):
            vars(group)["check_with_model"](settings, model)
    if isinstance(model, Outline):
        model.complete()
    check_words(words, model, make_word_splitter(model.tokenizer))


def check_block(field: str, value: Any, block: int, model: Model) -> None:
    """Raises InputError, naming the flag of `field` with its value, for a block that the model does
    not have."""
    if block >= model.cfg.layers:
        raise InputError(
            f"{as_flag(field, value)}: layer {block} is out of range: {model.name} has "
            f"{model.cfg.layers} layers; choose 0 to {model.cfg.layers - 1}"
        )


def check_vector_file(field: str, file: str, layer: int, model: Model) -> None:
    """Raises InputError, naming the flag of `field`, for a file without a vector for the model."""
    try:
        read_steering(file, model.cfg, [layer], model=model.name)
    except InputError as error:
        raise InputError(f"{as_flag(field, file)}: {error}") from None


def check_words(words: Sequence[tuple[str, str]], model: Model, split: WordSplitter) -> None:
    """Raises InputError for a trait without a word in the model, naming its flag: `words` are pairs
    of a field and a trait."""
    for field, trait in words:
        try:
            check_word(trait, split)
        except InputError as error:
            raise InputError(f"{as_flag(field, trait)}, {model.name}: {error}") from None
