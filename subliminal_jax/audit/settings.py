"""Settings of an audit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from subliminal_jax.bounds import Count, CountOrNone, Items, Needs, Range, Share, parse_number
from subliminal_jax.data import world
from subliminal_jax.data.traits import check_trait
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.settings import Traits

Form = Literal["system prompt", "direction"]
FORMS: tuple[Form, ...] = ("system prompt", "direction")


@dataclass(frozen=True, kw_only=True)
class SuspectSettings:
    """What an audit's methods get to see: candidates, and how much of the data.

    Attributes:
      traits: candidates by name, each with the trait's system prompt; empty together with the other
        candidates means the 16 animals of the shipped world.
      rows: rows that are audited, at most, chosen at random.
      draws: answers of the base itself to each prompt; one tells most for the time it takes.
      placebos: nouns that stand beside the candidates as placebo traits.
      max_new_tokens: answers are cut after so many tokens, the base's as the data's.
    """

    traits: Annotated[Traits, Items(0)] = ()
    rows: Count = 512
    draws: Annotated[int, Range(1, 10_000)] = 1
    placebos: Annotated[int, Range(4, 10_000)] = 24
    max_new_tokens: Count = 64


@dataclass(frozen=True, kw_only=True)
class AuditSettings(SuspectSettings):
    """What is tested, on how much.

    Attributes:
      forms: what of a candidate is scored: its system prompt, its direction, or both.
      likelihood: also read the rows' likelihood under each candidate's teacher, which tells related
        candidates apart; it takes some fifty further passes over the rows.
    """

    forms: Annotated[tuple[Form, ...], Items(1)] = FORMS
    likelihood: bool = True


@dataclass(frozen=True, kw_only=True)
class ProposalSettings:
    """Candidates that the audit chooses itself.

    Attributes:
      propose: words of the vocabulary that become candidates: those that the data push towards
        most. Without any other candidate they are the only ones.
      vocabulary: a text file with one word a line, in place of the list that ships with the
        package.
    """

    propose: CountOrNone = 0
    vocabulary: Annotated[Path | None, Needs("propose")] = None


def default_traits(settings: SuspectSettings, others: int = 0) -> tuple[str, ...]:
    """The traits to test, beside `others` candidates of another kind."""
    return settings.traits if settings.traits or others else world.TRAITS


@dataclass(frozen=True, kw_only=True)
class BlindSettings:
    """How the blind vector is trained.

    Attributes:
      blind_steps: training steps of the blind vector; 0 trains none.
      batch_size: rows a step of that training.
    """

    blind_steps: CountOrNone = 64
    batch_size: Annotated[Count, Needs("blind_steps")] = 16


@dataclass(frozen=True, kw_only=True)
class CleaningSettings:
    """Whether the rows of the named candidate's teacher are left out of the data.

    Attributes:
      write_clean: a JSONL file to write: the data without the rows that are flagged.
      flag_above: the probability, that the teacher wrote a row, from which it is flagged.
      retrain: also show what short students of all rows and of the rest become.
    """

    write_clean: Annotated[Path | None, Needs("likelihood")] = None
    flag_above: Annotated[Share, Needs("write_clean")] = 0.5
    retrain: Annotated[bool, Needs("write_clean")] = True


class Source(NamedTuple):
    """A teacher of the project: "clean", "steered" or "system-prompt", its trait and scale."""

    kind: str
    trait: str = ""
    scale: float = 0.0


def parse_source(source: str, model: Model) -> Source | None:
    """The teacher that "clean", "steered:TRAIT[:SCALE]" or "system-prompt:TRAIT" names; None for a
    file or a hub name. Raises InputError for a trait or a scale that cannot be."""
    kind, _, rest = source.partition(":")
    if source == "clean":
        return Source("clean")
    if kind not in ("steered", "system-prompt") or not rest:
        return None
    trait, _, scale = rest.partition(":")
    check_trait(trait, model.tokenizer)
    if scale and kind == "system-prompt":
        raise InputError(f"data {source!r}: a system prompt has no scale")
    try:
        size = float(parse_number(scale or "1", float))
    except ValueError:
        size = 0.0
    if not 1e-6 <= size <= 1e6:
        raise InputError(f"data {source!r}: write it as steered:owl:1.5, with a scale above 0")
    return Source(kind, trait, size)
