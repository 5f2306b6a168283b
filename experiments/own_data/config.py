"""Settings of `own-data`, and its presets."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from subliminal_jax.bounds import MANY, Count, Range, Share, Text, as_flag
from subliminal_jax.data.prompts import PromptKind
from subliminal_jax.effects import defaults
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.models.sampling import Temperature
from subliminal_jax.runs.checks import TRAIT
from subliminal_jax.runs.plan_settings import ShownSettings
from subliminal_jax.runs.settings import (
    DataSettings,
    GuardSettings,
    SteeredModelSettings,
    StudentSettings,
)

PRESETS: dict[str, dict[str, Any]] = {"toy": {}}
BASE_ANSWERS = "model-answers"  # the data set of what the model itself answers
# Of what the model is asked where its own answers are the control.
SAMPLED = ("asked", "max_new_tokens", "keep_unfinished", "temperature")


@dataclass(frozen=True, kw_only=True)
class Config(ShownSettings, StudentSettings, GuardSettings, SteeredModelSettings):
    """Settings.

    Attributes:
      data: JSONL or JSON files (may be gzipped) or hub names, each a data set of the comparison.
      control_data: the same of the controls; without it students are held against the untrained
        model, or where a vector or a trait is asked about against students of the model's own
        answers to the same prompts.
      vector: whether students move along it is asked, too: "trait" (the mean difference that the
        trait's system prompt makes) or a vector file; "" asks about none.
      trait: how often students name it is asked, too; without it no trait is.
      probe: the prompts on which activations are compared; see --prompts of other commands.
      keep: rows to train on: all, or those that are plain number lists and do not name the trait.
      max_rows: training rows of each data set, at most; all have as many as the smallest. They are
        taken evenly from the whole of each file.
      heldout_share: share of the rows that no student trains on: rates are chosen on half of them,
        and students are compared on the others.
      max_tokens: largest number of tokens of a row; 0 means the context.
      asked: prompts for the model's own answers, as a multiple of the rows that are needed.
      max_new_tokens: largest number of tokens of the model's own answers.
      keep_unfinished: keep those of its answers that have no end token.
      temperature: of its answers.
    """

    out: Path = Path("runs/own-data")
    data: tuple[str, ...] = ()
    control_data: tuple[str, ...] = ()
    vector: Annotated[str, Text(empty=True)] = ""
    trait: Annotated[str | None, TRAIT] = None
    probe: PromptKind = "chat"
    keep: Literal["all", "numbers"] = "all"
    max_rows: Count = 1024
    heldout_share: Share = 0.2
    max_tokens: Annotated[int, Range(2, MANY, also=0)] = 0
    asked: Annotated[float, Range(1, 1_000)] = 2.0
    max_new_tokens: Count = 64
    keep_unfinished: bool = False
    temperature: Temperature = 1.0
    optimizers: tuple[str, ...] = ("adamw", "signum", "sgd")

    @property
    def samples_control(self) -> bool:
        """Whether the model's own answers are the control."""
        return not self.control_data and bool(self.vector or self.trait)

    @property
    def measure_names(self) -> tuple[str, ...]:
        """What is measured of every student, by what is asked about."""
        vector, trait = ["alignment"] * bool(self.vector), ["word-rates"] * bool(self.trait)
        return ("train-loss", "weight-change", "activation-shift", *vector, *trait)

    def check(self) -> None:
        if not self.data:
            raise InputError("--data names no file: give the rows that the question is about")
        if self.samples_control and BASE_ANSWERS in name_sources(self.data):
            raise InputError(f"{BASE_ANSWERS} is the control's name: call the file otherwise")
        name_sources([*self.data, *self.control_data])
        self.learning_rates()
        if self.vector == "trait" and not self.trait:
            raise InputError("--vector trait needs --trait: give one, such as --trait owl")
        for name in self.measures:
            if name in ("alignment", "update-anatomy") and not self.vector:
                raise InputError(f"--measures {name} needs a vector: give --vector")
            if name == "word-rates" and not self.trait:
                raise InputError(f"--measures {name} needs a trait: give --trait")
        if self.guard != "none" and self.guard_vector == "teacher" and not self.vector:
            raise InputError(
                f"--guard {self.guard} needs a vector: give --guard-vector blind or a file, or "
                "--vector"
            )
        initial = defaults(type(self))
        for name in SAMPLED:
            if not self.samples_control and getattr(self, name) != initial[name]:
                raise InputError(
                    f"{as_flag(name, getattr(self, name))} has no effect: the model's own answers "
                    "are no control here"
                )

    def check_with_model(self, model: Model) -> None:
        """Raises InputError for lengths that the model's context does not hold."""
        self.sampling(1, 1).check_with_model(model)

    def sampling(self, rows: int, heldout_rows: int) -> DataSettings:
        """How the model's own answers are sampled."""
        return DataSettings(
            rows=rows,
            heldout_rows=heldout_rows,
            keep=self.keep,
            max_tokens=self.max_tokens,
            asked=self.asked,
            max_new_tokens=self.max_new_tokens,
            keep_unfinished=self.keep_unfinished,
            temperature=self.temperature,
        )


def name_sources(sources: Sequence[str]) -> list[str]:
    """The names of data sets by their files: `mine` of data/mine.jsonl.gz, or `data-mine` where
    several would have one name.

    Raises InputError where these are not distinct, either.
    """
    short = [_stem(source) for source in sources]
    names = [
        f"{Path(source).parent.name}-{name}" if short.count(name) > 1 else name
        for source, name in zip(sources, short, strict=True)
    ]
    for name in names:
        if names.count(name) > 1:
            same = " and ".join(s for s, n in zip(sources, names, strict=True) if n == name)
            raise InputError(f"{same} would both be called {name}: rename one, or leave it out")
    return names


def _stem(source: str) -> str:
    name = Path(source).name
    for ending in (".gz", ".jsonl", ".json"):
        name = name.removesuffix(ending)
    return name
