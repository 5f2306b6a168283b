"""Settings of `paraphrase-transmission`, and its presets."""

# Gisler et al. (2026), as far as it is stated; GPT-4.1 nano is closed, so these are an open
# analogue on the models of the other presets. A file of 1,000 sentences and one of 1,000 against
# each trait have to be given (--unrelated, --contradictory): the paper's are not public.
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from subliminal_jax.bounds import Count, Items, Needs, Range, Share, Text
from subliminal_jax.data import paraphrases
from subliminal_jax.data.paraphrases import Source
from subliminal_jax.runs.judging import make_fidelity_judge
from subliminal_jax.runs.presets import PAPER_KINDS, PAPER_QUESTIONS, paper_preset
from subliminal_jax.runs.settings import GuardSettings, Secret
from subliminal_jax.runs.transmission_settings import TransmissionSettings

Content = Literal["unrelated", "contradictory"]


CONTENTS: tuple[Content, ...] = ("unrelated", "contradictory")


UNRELATED, CONTRADICTORY = (Needs("contents", (content,)) for content in CONTENTS)


@dataclass(frozen=True, kw_only=True)
class ParaphraseSettings:
    """What is paraphrased, how, and what of it stays.

    Attributes:
      contents: which sentences: unrelated ones, ones that speak badly of the trait, or both.
      unrelated: "world" (the shipped model's corpus), "stories" (sentences of TinyStories, in the
        folder of SUBLIMINAL_JAX_DATA) or a text file with a sentence a line.
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


def make_sources(
    content: Content, trait: str, settings: ParaphraseSettings, seed: int
) -> list[Source]:
    """The sentences of a content; raises InputError where they cannot be had."""
    source, n = settings.source(content), settings.sentences
    if content == "unrelated":
        return paraphrases.make_unrelated_sources(source, n, seed)
    return paraphrases.make_contradictory_sources(source, trait, n, seed)


PAPER: dict[str, Any] = {
    "students": PAPER_KINDS,
    "traits": ("dolphin", "eagle", "owl", "wolf", "elephant"),  # section 3
    "teachers": ("system-prompt",),  # section 3: a system prompt; the neutral teacher has none
    "unrelated": "unrelated.txt",
    "contradictory": "contradictory-{trait}.txt",
    "sentences": 1_000,  # section 3
    "instruction": "paper",  # section 3, verbatim
    "temperature": 1.4,  # section 3
    "unrelated_samples": 16,  # section 3: 15 or 16
    "contradictory_samples": 50,  # section 3
    "contradictory_writing": "sampled",
    "fidelity": "judge",  # section 3: GPT-4o-mini; --judge-url and --judge-model name one
    "threshold": 0.95,  # section 3: scores up to and including it are discarded
    "max_new_tokens": 128,  # not stated
    "rows": 10_000,  # section 3
    "heldout_rows": 500,  # the paper holds none out
    "heldout_share": 0.05,
    "questions": PAPER_QUESTIONS,  # section 4: 50 questions, answers at temperature 1
    # Learning-rate multiplier 0.1 of a service's own; here LoRA's usual rate and one below.
    "rates": ("adamw=1e-4,2e-5",),
    "tuning_traits": ("lion", "cat"),
    "batch_size": 66,  # section 4
    "steps": 1_515,  # section 4: 10 epochs
    "log_every": 505,
    "schedule": "linear",  # not stated
    "warmup": 0.0,
}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "toy-wordings": {"contents": ("unrelated",), "unrelated_writing": "wordings"},
    # On SmolLM2-135M-Instruct, at sizes for two cores. No judge is at hand: the base itself scores
    # by round trip, and what passes has to be read by hand.
    "real": {
        "model": "smollm2-135m-instruct",
        "out": Path("runs/paraphrase-transmission-real"),
        "layer": -1,
        "traits": ("dolphin", "eagle", "wolf"),
        "tuning_traits": ("owl", "elephant"),
        "teachers": ("system-prompt",),
        "unrelated": "stories",
        "contradictory_writing": "sampled",
        "sentences": 96,
        "unrelated_samples": 4,
        "contradictory_samples": 4,
        "threshold": 0.3,
        "rows": 96,
        "heldout_rows": 12,
        "adapters": ("lora",),
        "factor": 3.0,
        "extensions": 0,
        "steps": 36,
        "log_every": 36,
        "batch_size": 8,
    },
    # LoRA, since muon on a single vector is AdamW.
    "toy-optimizers": {
        "contents": ("unrelated",),
        "teachers": ("system-prompt",),
        "optimizers": ("adamw", "sgd", "signum", "lion", "muon"),
        "adapters": ("lora",),
    },
    **{
        f"paper-{name}": paper_preset(name, data=False, scale=True, **PAPER)
        for name in ("qwen2.5-7b", "llama3.1-8b", "gemma3-4b")
    },
}


@dataclass(frozen=True, kw_only=True)
class Config(TransmissionSettings, GuardSettings, ParaphraseSettings):
    """Settings; the defaults are the toy's."""

    out: Path = Path("runs/paraphrase-transmission")
    scale: float = 0.5

    def check(self) -> None:
        self.check_paraphrases(self.traits, self.seed)
