"""Settings of `teacher-choice`, and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from subliminal_jax.bounds import Count, Items, Positive, Range, Share, Text
from subliminal_jax.data.carriers import CARRIERS, FROM_FILES
from subliminal_jax.data.prompts import Extraction, PromptKind
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.checks import TRAIT
from subliminal_jax.runs.settings import ModelSettings, Traits

CARRIERS_AT_HAND: tuple[PromptKind, ...] = ("numbers", "cloud-numbers", "few-shot-numbers")
_REAL: dict[str, Any] = {
    "carriers": (*CARRIERS_AT_HAND, *FROM_FILES),
    "extractions": ("numbers", "favorites", "instructions"),
    "scales": (1.0, 2.0, 4.0, 8.0),
}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "real": {"model": "smollm2-135m-instruct", **_REAL},
    "real-gemma": {
        "model": "gemma-3-270m",
        "out": Path("runs/teacher-choice-gemma"),
        **_REAL,
    },
}


@dataclass(frozen=True, kw_only=True)
class Config(ModelSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      carriers: kinds of prompts that are tried.
      answers: that the base, and the chosen teacher of each selection trait, write on each carrier.
      max_new_tokens: largest number of tokens of an answer.
      selection_traits: traits that block, extraction and scale are chosen on; they are not for
        reporting.
      traits: others, on which it is shown what each measure sees.
      blocks: after which vectors are tried (0-based); empty takes four, evenly spaced (more
        than four are slow to compile).
      extractions: what is asked where a vector is taken.
      scales: factors on the vectors.
      most_damage: largest KL of the steered model from the base on the base's own answers, in nats
        a token.
      gate: nats by which the log-odds of the selection traits have to rise.
      least_valid: share of the teacher's answers that have to be valid on a carrier.
      questions: favourite questions: a set, or a file.
      stem: what answers begin with before the trait, where its log-probability is taken.
      rivals: animals that a trait is to be preferred to, in forced choices.
      samples: sampled answers to each question; `answer_tokens` of them at most.
    """

    out: Path = Path("runs/teacher-choice")
    carriers: Annotated[tuple[PromptKind, ...], Items(1)] = (*CARRIERS_AT_HAND[:2], "chat")
    answers: Count = 32
    max_new_tokens: Count = 40
    selection_traits: Traits = ("owl", "lion")
    traits: Traits = ("cat", "dog", "tiger", "eagle", "fox", "wolf", "dolphin", "penguin")
    blocks: Annotated[tuple[int, ...], Range(0, 9_999)] = ()
    extractions: Annotated[tuple[Extraction, ...], Items(1)] = ("numbers", "favorites")
    scales: Annotated[tuple[float, ...], Items(1), Range(above=0, most=1e6)] = (1.0, 2.0, 4.0)
    most_damage: Positive = 0.5
    gate: Positive = 1.0
    least_valid: Share = 0.5
    questions: str = "heldout"
    stem: Annotated[str, Text(prose=True)] = "My favorite animal is the"
    rivals: Annotated[tuple[str, ...], Items(1), TRAIT] = ("rabbit", "bear", "whale", "elephant")
    samples: Count = 4
    answer_tokens: Count = 32

    @property
    def words(self) -> tuple[str, ...]:
        """The words whose probabilities are taken."""
        return tuple(dict.fromkeys((*self.selection_traits, *self.traits, *self.rivals)))

    def check(self) -> None:
        """Raises InputError for traits of two uses, and for a carrier without enough prompts."""
        for name, others in (("traits", self.traits), ("rivals", self.rivals)):
            if both := set(others) & set(self.selection_traits):
                raise InputError(f"--{name} {min(both)} is also one of --selection-traits")
        if both := set(self.rivals) & set(self.traits):
            raise InputError(f"--rivals {min(both)} is also one of --traits")
        for kind in self.carriers:
            CARRIERS[kind].compose(self.answers, self.seed)

    def choose_blocks(self, model: Model) -> tuple[int, ...]:
        """The blocks after which vectors are tried.

        Raises InputError for one that the model does not have.
        """
        layers = model.cfg.layers
        spaced = dict.fromkeys(round(layers * share) for share in (0.2, 0.4, 0.6, 0.8))
        blocks = self.blocks or tuple(min(block, layers - 1) for block in spaced)
        return tuple(dict.fromkeys(model.cfg.check_layer(block) for block in blocks))
