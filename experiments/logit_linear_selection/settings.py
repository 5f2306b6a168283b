"""Flags of the experiments on logit-linear selection."""

from dataclasses import dataclass
from pathlib import Path

from subliminal_jax.data.targets import TargetKind
from subliminal_jax.runs.settings import SteeredModelSettings, StudentSettings
from subliminal_jax.selection.rendering import ScoringOptions


@dataclass(frozen=True, kw_only=True)
class SelectionSettings(StudentSettings, SteeredModelSettings):
    """How pairs are selected, and what their students are asked; the defaults are the toy's.

    Attributes:
      student: the model that is trained; "" trains the one that scores (`--model`).
      kind: what the targets are; animals of the shipped world have its own system prompt.
      hidden: the targets; each is a system prompt with students of its own.
      pairs: "world" for answers of the shipped model's corpus, else a file or a hub name.
      split: of a hub name; several are joined as "one+other".
      pool: most pairs that are read, the first ones of a file or a split.
      probe: pairs set aside, on which correlations are taken.
      heldout: selected pairs that no student trains on; their loss chooses the rate.
      gamma: share of the pairs with a positive score that is kept.
      truncate: tokens that are kept of a response; 0 keeps all.
      base_system: score the base with an empty system turn, as the released code does, instead of
        with none.
      max_prompt_tokens: longest prompt that stays; 0 means any.
      min_response_tokens: shortest response that stays.
      max_response_tokens: longest response that stays; 0 means any.
      beta: DPO's.
      bottom: train students on the lowest scores, too.
      requests: what students are asked to write ("stories", "general", "rulers", or a file).
      samples: answers to each request.
      max_new_tokens: their longest.
      questions: a set of favourite-animal questions, or a file.
      judge_url: an OpenAI-compatible endpoint that tells personas; "" leaves their rates out.
      judge_model: the endpoint's name of that model.
      judge_key: environment variable with the endpoint's key.
    """

    out: Path = Path("runs/logit-linear-selection")
    student: str = ""
    kind: TargetKind = "world-animals"
    hidden: tuple[str, ...] = ("cat", "tiger", "eagle")
    pairs: str = "world"
    split: str = "train"
    pool: int = 20_000
    probe: int = 400
    heldout: int = 32
    gamma: float = 0.4
    truncate: int = 32
    base_system: bool = False
    max_prompt_tokens: int = 0
    min_response_tokens: int = 0
    max_response_tokens: int = 0
    beta: float = 0.1
    bottom: bool = True
    requests: str = "stories"
    samples: int = 128
    max_new_tokens: int = 48
    questions: str = "heldout"
    judge_url: str = ""
    judge_model: str = ""
    judge_key: str = "OPENAI_API_KEY"
    seed: int = 1
    rates: tuple[str, ...] = ("adamw=3e-5,1e-4,3e-4",)
    steps: int = 48
    batch_size: int = 16
    log_every: int = 24

    @property
    def options(self) -> ScoringOptions:
        return ScoringOptions(
            truncate=self.truncate or None,
            base_system="" if self.base_system else None,
            max_prompt_tokens=self.max_prompt_tokens or None,
            min_response_tokens=self.min_response_tokens,
            max_response_tokens=self.max_response_tokens or None,
        )
