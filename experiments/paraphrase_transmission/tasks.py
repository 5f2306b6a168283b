"""Which sentences are paraphrased by whom, and what the data sets are called.

A data set is named CONTENT:TEACHER, such as "unrelated:steered:owl". Every trait has sentences of
its own draw, and so the neutral teacher's version of them: "unrelated:neutral:owl".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from subliminal_jax.bounds import Count, Items, Needs, Range, Share, Text
from subliminal_jax.data import paraphrases
from subliminal_jax.data.paraphrase_filters import (
    trait_words,
    world_words,
)
from subliminal_jax.data.paraphrases import Source
from subliminal_jax.evaluation.transmission import name_trait
from subliminal_jax.runs.judging import make_fidelity_judge
from subliminal_jax.runs.sampled_sets import name_seed
from subliminal_jax.runs.settings import Secret

Content = Literal["unrelated", "contradictory"]
CONTENTS: tuple[Content, ...] = ("unrelated", "contradictory")
NEUTRAL = "neutral"
UNRELATED, CONTRADICTORY = (Needs("contents", (content,)) for content in CONTENTS)


@dataclass(frozen=True, kw_only=True)
class ParaphraseSettings:
    """What is paraphrased, how, and what of it stays.

    Attributes:
      contents: which sentences: unrelated ones, ones that speak badly of the trait, or both.
      unrelated: "world" (the shipped model's corpus) or a text file with a sentence a line.
      contradictory: the same for sentences against the trait; {trait} in a file's name stands for
        the animal.
      sentences: how many of each.
      unrelated_samples: paraphrases of an unrelated sentence that are drawn; as many again, up to
        twice, for a teacher of whose paraphrases too few are left.
      contradictory_samples: the same for a contradictory sentence.
      unrelated_writing: "sampled" answers, or "wordings": drawn among the sentence's faithful
        wordings by the teacher's probabilities, where all of them are known.
      contradictory_writing: the same for contradictory sentences.
      instruction: "world" (requests of the corpus), "paper", or a text to put before the sentence.
      temperature: of the teacher.
      max_new_tokens: limit of a paraphrase.
      fidelity: who scores sampled paraphrases: the base model by "round-trip" likelihood, a
        "judge" at an endpoint, or the "wordings" that are known (1 or 0).
      threshold: a paraphrase stays if its score is above this.
      rows: training pairs a data set.
      heldout_rows: held-out pairs a data set, of sentences that no student trains on.
      heldout_share: share of the sentences that are held out.
      judge_url: an OpenAI-compatible endpoint ("http://localhost:8000/v1") for fidelity judge.
      judge_model: the endpoint's name of that model.
      judge_key: environment variable with the endpoint's key; "" sends none.
    """

    contents: Annotated[tuple[Content, ...], Items(1)] = CONTENTS
    unrelated: Annotated[str, UNRELATED] = paraphrases.WORLD
    contradictory: Annotated[str, CONTRADICTORY] = paraphrases.WORLD
    sentences: Count = 128
    unrelated_samples: Annotated[Count, UNRELATED] = 12
    contradictory_samples: Annotated[Count, CONTRADICTORY] = 8
    unrelated_writing: Annotated[Literal["sampled", "wordings"], UNRELATED] = "sampled"
    contradictory_writing: Annotated[Literal["sampled", "wordings"], CONTRADICTORY] = "wordings"
    instruction: Annotated[str, Text(prose=True)] = paraphrases.WORLD
    temperature: Annotated[float, Range(1e-6, 1e6)] = 1.0
    max_new_tokens: Count = 32
    fidelity: Literal["round-trip", "judge", "wordings"] = "round-trip"
    threshold: Annotated[float, Range(-1e6, below=1)] = 0.92
    rows: Count = 128
    heldout_rows: Count = 16
    heldout_share: Share = 0.125
    judge_url: Annotated[str, Secret, Needs("fidelity", ("judge",))] = ""
    judge_model: Annotated[str, Secret, Needs("fidelity", ("judge",))] = ""
    judge_key: Annotated[str, Secret, Needs("fidelity", ("judge",))] = "OPENAI_API_KEY"

    def source(self, content: str) -> str:
        return self.unrelated if content == "unrelated" else self.contradictory

    def samples(self, content: str) -> int:
        return self.unrelated_samples if content == "unrelated" else self.contradictory_samples

    def writing(self, content: str) -> str:
        return self.unrelated_writing if content == "unrelated" else self.contradictory_writing

    def scored_by_wordings(self, content: str) -> bool:
        """Whether a paraphrase of it stays if and only if it is a known wording."""
        return self.fidelity == "wordings" or self.writing(content) == "wordings"

    def check_paraphrases(self, traits: Sequence[str], seed: int) -> None:
        """Raises InputError for sentences that cannot be had, or a judge that cannot be asked."""
        for content in self.contents:
            make_sources(content, traits[0], self, seed)
        if self.fidelity == "judge":
            make_fidelity_judge(self.judge_url, self.judge_model, self.judge_key)


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


def make_sources(
    content: Content, trait: str, settings: ParaphraseSettings, seed: int
) -> list[Source]:
    """The sentences of a content; raises InputError where they cannot be had."""
    source, n = settings.source(content), settings.sentences
    if content == "unrelated":
        return paraphrases.make_unrelated_sources(source, n, seed)
    return paraphrases.make_contradictory_sources(source, trait, n, seed)
