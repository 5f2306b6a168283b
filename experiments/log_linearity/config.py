"""Settings of `log-linearity`, and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from subliminal_jax.bounds import (
    MANY,
    Count,
    CountOrNone,
    Items,
    Needs,
    Range,
    as_flag,
    check_distinct,
)
from subliminal_jax.data import world
from subliminal_jax.data.questions import read_questions
from subliminal_jax.errors import InputError
from subliminal_jax.runs.settings import RunSettings
from subliminal_jax.selection.log_linear_model import Toy


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """What the rows and columns of the matrices are.

    Attributes:
      pairs: "world" (pairs of the shipped model's world), or a preference file or hub name; of each
        pair the chosen or the rejected response is drawn.
      split: the split, of a hub name.
      system_prompts: "world", or a text file with one a line.
      systems: system prompts a draw (rows of the matrix); 0 takes all.
      columns: pairs of prompt and response a draw.
      draws: how often both are drawn.
      min_tokens: responses with fewer tokens (of the first model) are left out.
      max_tokens: responses with more tokens are left out; 0 means no limit.
    """

    pairs: str = "world"
    split: Annotated[str, Needs("pairs", ("world",), unless=True)] = "train"
    system_prompts: str = "world"
    systems: Annotated[int, Range(8, MANY, also=0)] = 64
    columns: Annotated[int, Range(8, MANY)] = 200
    draws: Annotated[int, Range(2, 10_000)] = 3
    min_tokens: CountOrNone = 2
    max_tokens: CountOrNone = 0


def read_system_prompts(settings: TextSettings) -> list[str | None]:
    """The system prompts to draw from.

    Raises InputError for fewer than `settings.systems` of them (or 8), and as `read_questions`
    does.
    """
    source = settings.system_prompts
    candidates: list[str | None]
    if source == "world":
        traits = [
            world.trait_system_prompt(trait, phrasing)
            for trait in world.TRAITS
            for phrasing in range(len(world.TRAIT_PROMPTS))
        ]
        candidates = [None, *world.NEUTRAL_PROMPTS, *traits]
    else:
        candidates = list(read_questions(source))
    if len(candidates) < max(settings.systems, 8):
        raise InputError(
            f"{source}: {len(candidates)} system prompts for {settings.systems} rows; give more, "
            "or ask for fewer (--systems)"
        )
    return candidates


PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "paper-olmo2-7b": {
        "models": ("allenai/OLMo-2-1124-7B-Instruct", "Qwen/Qwen3-8B"),
        "dtype": "bfloat16",
        "pairs": "allenai/tulu-2.5-preference-data",
        "split": "preference_big_mixture",
        "system_prompts": "personas.txt",
        "systems": 2000,
        "columns": 2000,
        "min_tokens": 8,
        "max_tokens": 64,
        "top_k": 100,
        "ranks": (1, 3, 10, 30, 100, 300),
        "fit_last": 1000,
    },
}


@dataclass(frozen=True, kw_only=True)
class Config(TextSettings, RunSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      models: two models or more, each by name or folder; the first is compared with the others.
      fit_first: first rank of the power law's fit; the first singular value is X's mean.
      fit_last: last rank of the fit; 0 means half of the matrix's smaller side.
      top_k: dimension of the row spaces, and the rank whose prediction is claimed.
      ranks: ranks whose predictions are shown.
      gaussian_draws: pairs of Gaussian matrices a draw.
      toy_seeds: seeds of the exactly log-linear toy.
      toy_dim: its dimension.
      toy_prompts: pairs to select from, and as many held out.
    """

    out: Path = Path("runs/log-linearity")
    models: Annotated[tuple[str, ...], Items(2)] = ("shipped", "shipped-small")
    fit_first: Count = 2
    fit_last: CountOrNone = 0
    top_k: Count = 16
    ranks: Annotated[tuple[int, ...], Items(1), Range(1, MANY)] = (1, 2, 4, 8, 16, 32)
    gaussian_draws: Annotated[int, Range(1, 10_000)] = 20
    toy_seeds: Annotated[int, Range(2, 10_000)] = 5
    toy_dim: Annotated[int, Range(1, 100_000)] = Toy.dim
    toy_prompts: Count = Toy.prompts

    def check(self) -> None:
        candidates = read_system_prompts(self)
        check_distinct("models", [Path(name).name for name in self.models], as_flag)
        systems = self.systems or len(candidates)
        side = min(systems, self.columns)
        if self.top_k not in self.ranks:
            raise InputError(f"{as_flag('ranks', self.ranks)} must hold --top-k {self.top_k}")
        if max(self.ranks) > side // 2:
            raise InputError(
                f"{as_flag('ranks', self.ranks)}: give 1 to {side // 2}, half of the matrix's "
                "smaller side (--systems by --columns)"
            )
        first, last = self.fit_ranks(side)
        if not first + 2 <= last <= side:
            raise InputError(
                f"--fit-first {first} and --fit-last {self.fit_last}: give at least three ranks, "
                f"up to {side}"
            )

    def check_models(self) -> None:
        for name in self.models:
            self.check_model(self.outline_named(name))

    def fit_ranks(self, side: int) -> tuple[int, int]:
        """First and last rank of the power law's fit, of matrices whose smaller side is `side`."""
        return self.fit_first, self.fit_last or side // 2
