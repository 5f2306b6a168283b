"""Which sentences are paraphrased by whom, and what the data sets are called.

A data set is named CONTENT:TEACHER, such as "unrelated:steered:owl". Every trait has sentences of
its own draw, and so the neutral teacher's version of them: "unrelated:neutral:owl".
"""

from collections.abc import Sequence
from typing import NamedTuple

from subliminal_jax.data import paraphrases
from subliminal_jax.data.paraphrase_filters import (
    trait_words,
    world_words,
)
from subliminal_jax.data.paraphrases import Source
from subliminal_jax.evaluation.transmission import name_trait
from subliminal_jax.runs.sampled_sets import name_seed

from .config import Content, ParaphraseSettings, make_sources

NEUTRAL = "neutral"


class Task(NamedTuple):
    """Sentences that some teachers paraphrase, and the words that must not occur.

    `requests[i]` asks for a paraphrase of `sources[i]`; `teachers` are those of each data set, and
    `seed` is that of sampling and choosing.
    """

    content: Content
    sources: list[Source]
    requests: list[str]
    teachers: dict[str, str]
    forbidden: tuple[str, ...]
    seed: int


def data_name(content: str, teacher: str) -> str:
    """The name of a teacher's data set."""
    return f"{content}:{teacher}"


def neutral_name(content: str, trait: str) -> str:
    """The name of the neutral teacher's data set to compare with a trait's."""
    return data_name(content, f"{NEUTRAL}:{trait}")


def make_tasks(
    settings: ParaphraseSettings,
    traits: Sequence[str],
    teachers: Sequence[str],
    seed: int,
    tuning: Sequence[str] = (),
) -> list[Task]:
    """What is to be written: of each content and trait, by its teachers (of those named KIND:TRAIT)
    and the neutral one; of the traits `tuning` by their teachers alone.

    Unrelated data of all teachers are kept free of the words of all traits, so that the filter is
    the same for both data sets of every comparison.
    """
    all_traits = (*traits, *tuning)
    words = [word for trait in all_traits for word in trait_words(trait)]
    if settings.unrelated == paraphrases.WORLD:
        words += [word for trait in all_traits for word in world_words(trait)]
    tasks = []
    for content in settings.contents:
        for trait in all_traits:
            names = {
                data_name(content, teacher): teacher
                for teacher in teachers
                if name_trait(teacher) == trait
            }
            if trait in traits:
                names[neutral_name(content, trait)] = NEUTRAL
            own_seed = name_seed(seed, f"{content}:{trait}")
            sources = make_sources(content, trait, settings, own_seed)
            requests = paraphrases.make_requests(sources, settings.instruction, own_seed)
            forbidden = dict.fromkeys(words if content == "unrelated" else ())
            tasks.append(Task(content, sources, requests, names, tuple(forbidden), own_seed))
    return tasks
