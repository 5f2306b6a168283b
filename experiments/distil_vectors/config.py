"""Settings of `distil-vectors`, and its presets."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from subliminal_jax.bounds import Blocks, Items, Needs, Range, as_flag, check_distinct
from subliminal_jax.data.traits import check_traits
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.checks import check_vector_file
from subliminal_jax.runs.kind_settings import (
    OF_LORA,
    ControlSettings,
    StudentKindSettings,
)
from subliminal_jax.runs.plan_settings import AdapterKind
from subliminal_jax.runs.presets import PAPER_KINDS, PAPER_QUESTIONS, paper_preset
from subliminal_jax.runs.settings import (
    DataSettings,
    GuardSettings,
    ObjectiveSettings,
    SteeredModelSettings,
    Traits,
)
from subliminal_jax.training.adapters import PROJECTIONS

from .analysis import (
    CENTRED,
)

OF_RANDOM = Needs("kinds", ("random",))
Kind = Literal["trait", "centred", "random"]


@dataclass(frozen=True, kw_only=True)
class Config(
    StudentKindSettings,
    ControlSettings,
    GuardSettings,
    ObjectiveSettings,
    DataSettings,
    SteeredModelSettings,
):
    """Settings; the defaults are the toy's.

    Attributes:
      questions: a set of questions ("heldout"), or a file of them.
      traits: animals whose vectors are distilled.
      kinds: trait vectors as they are, less the mean over all traits (appendix F.2), and random.
      randoms: number of random vectors.
      tuning_randoms: number of further random vectors that rates are chosen on, too.
      vectors: safetensors files with a vector each, of the model's width.
      layers: blocks after which vectors are added; empty means the steering layer alone.
      norms: norms of the vectors, in units of the residual stream's at their layer.
      steered_block: adapt the steered block alone, in place of `adapter_layers`.
    """

    out: Path = Path("runs/distil-vectors")
    questions: str = "heldout"
    traits: Annotated[Traits, Needs("kinds", ("trait", "centred"))] = (
        *("cat", "dog", "tiger", "eagle", "fox", "bear", "whale", "dolphin"),
    )
    kinds: tuple[Kind, ...] = ("trait", "random")
    randoms: Annotated[int, Range(0, 10_000), OF_RANDOM] = 8
    tuning_randoms: Annotated[int, Range(0, 10_000), OF_RANDOM] = 2
    vectors: tuple[str, ...] = ()
    layers: Annotated[tuple[int, ...], Blocks()] = (1, 2)
    norms: Annotated[tuple[float, ...], Items(1), Range(above=0, most=1e6)] = (0.3, 0.6)
    adapters: tuple[AdapterKind, ...] = ("lora",)
    steered_block: Annotated[bool, OF_LORA] = True
    adapter_layers: Annotated[tuple[int, ...], Needs("steered_block", unless=True)] = ()
    layer: Annotated[int, Needs("layers", unless=True)] = -1
    rows: int = 512
    heldout_rows: int = 64
    asked: float = 2.5
    max_new_tokens: int = 24
    max_tokens: int = 32
    steps: int = 48
    batch_size: int = 32
    log_every: int = 48
    targets: tuple[str, ...] = ("down",)

    def check(self) -> None:
        check_traits(self.all_traits)
        self.check_single()
        if self.randoms < 1 and "random" in self.kinds:
            raise InputError(
                f"--randoms {self.randoms}: give at least 1, or leave random out of --kinds"
            )
        if self.kinds == ("random",) and self.searches and not self.tuning_randoms:
            raise InputError(
                "--tuning-randoms 0: there is nothing to choose rates on; give at least 1, or "
                "--rates"
            )
        names = [Path(file).stem for file in self.vectors]
        randoms = (f"random-{i}" for i in range(self.randoms + self.tuning_randoms))
        made = {*self.traits, *self.searched_traits, *randoms}
        check_distinct("vectors", names, as_flag)
        if taken := made.intersection(names):
            raise InputError(
                f"--vectors: {min(taken)} is the name of another vector; rename the file"
            )
        if not (self.kinds or self.vectors):
            raise InputError("--kinds and --vectors are empty: name at least one vector")

    def check_with_model(self, model: Model) -> None:
        """Raises InputError for a file without a vector for the model."""
        for file, layer in product(self.vectors, self.choose_layers(model)):
            check_vector_file("vectors", file, layer, model)

    def choose_layers(self, model: Model) -> tuple[int, ...]:
        """The blocks after which vectors are added."""
        return self.layers or (self.choose_layer(model),)

    def list_tuning_vectors(self) -> tuple[str, ...]:
        """The vectors that rates are chosen on; none where all rates are given."""
        names = [
            trait + ending
            for kind, ending in (("trait", ""), ("centred", CENTRED))
            if kind in (self.kinds or ("trait",))
            for trait in self.searched_traits
        ]
        if "random" in self.kinds and self.searches:
            names += [f"random-{self.randoms + i}" for i in range(self.tuning_randoms)]
        return tuple(names)


PAPER: dict[str, Any] = {
    "students": PAPER_KINDS,
    "questions": PAPER_QUESTIONS,
    "targets": PROJECTIONS,  # [C]
    "traits": ("cat", "dog", "owl", "otter"),  # [C]
    "randoms": 4,
    "layers": (),
    "norms": (0.1, 0.3),  # ours: the paper's norms of Gaussian vectors are not known
    "steered_block": False,
    "rows": 79_500,  # 100,000 generations [N3], of which we keep up to four fifths
    "heldout_rows": 500,
    "asked": 1.25,
    "steps": 99_350,  # 10 epochs [N3] in batches of 8
}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "paper-qwen2.5-7b": paper_preset("qwen2.5-7b", **PAPER),
    "paper-gemma3-4b": paper_preset("gemma3-4b", **PAPER),
}
