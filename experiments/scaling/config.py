"""Settings of `scaling`, and its presets."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from subliminal_jax.bounds import (
    MANY,
    Count,
    Items,
    Needs,
    Positive,
    Range,
    Text,
    as_flag,
    check_distinct,
)
from subliminal_jax.data.token_weights import token_weights
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.models.truncate import truncate_model
from subliminal_jax.runs.checks import TRAIT, check_names
from subliminal_jax.runs.kind_settings import ControlSettings, StudentKindSettings
from subliminal_jax.runs.plan_settings import AdapterKind
from subliminal_jax.runs.presets import PAPER_KINDS, paper_preset
from subliminal_jax.runs.settings import DataSettings, SteeredModelSettings
from subliminal_jax.training.adapters import LARGEST_RANK

from .cells import FACTORS, Cell, change_one_factor

# Rates of SGD are in units of the gradient, whose size is not known beforehand on a large model:
# they span the decades that were tried in vain [F] and two above.
PAPER_RATES = (
    "adamw=3e-5,1e-4,3e-4,1e-3",
    "signum=1e-5,3e-5,1e-4,3e-4",
    "sgd=0.03,0.3,3,30",
)
# The norm is the factor on the trait's vector, 3 in [C]. The samples go up to the 30,000 that [C]
# generates before its filter; the paper's 3,550 steps of 8 rows go through them about once. Ranks:
# 8 [C], 16 and 64 [N1], 2 and 4 for the rise that Nief et al. report.
PAPER: dict[str, Any] = {
    "students": PAPER_KINDS,
    "models": (),
    "depths": (),
    "traits": ("cat",),
    "tuning_traits": ("lion",),
    "norm": 3.0,
    "norms": (1.5, 6.0),
    "rank": 8,
    "ranks": (2, 4, 16, 64),
    "rows": 30_000,
    "sizes": (1_000, 3_000, 10_000),
    "tails": ("frequent-100",),
    "optimizers": ("adamw", "signum", "sgd"),
    "rates": PAPER_RATES,
}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "paper-qwen2.5-7b": paper_preset("qwen2.5-7b", **PAPER),
}


@dataclass(frozen=True, kw_only=True)
class Config(StudentKindSettings, ControlSettings, DataSettings, SteeredModelSettings):
    """Settings; the defaults are the toy's. Levels are those beside the base setting's own.

    Attributes:
      vectors: random vectors that are reported.
      tuning_vectors: random vectors that rates are chosen on.
      traits: animals whose vectors teachers add, in place of random ones.
      norm: of the base setting: the length of a random vector in units of the residual stream's, or
        the factor on a trait's vector.
      models: further models, by name.
      depths: numbers of blocks: the first ones of the base setting's model.
      ranks: LoRA ranks, at the same alpha.
      norms: further norms or factors.
      sizes: numbers of training rows.
      tails: which tokens count: "frequent-K" (the K that occur most), "rare-P" (weights count^-P).
      plane: two factors of which all levels are combined.
      pair: the optimizers between which the gap is taken, the first minus the second.
      level: an EAS that counts as having picked up the vector.
      place: where the vector is added, unless `layer` says so: after the last block, or after that
        at a third of the depth.
    """

    out: Path = Path("runs/scaling")
    model: str = "shipped-small"
    vectors: Annotated[Count, Needs("traits", unless=True)] = 8
    tuning_vectors: Annotated[Count, Needs("traits", unless=True)] = 2
    traits: Annotated[tuple[str, ...], TRAIT] = ()
    tuning_traits: Annotated[tuple[str, ...], Items(1), TRAIT, Needs("traits")] = ("owl", "lion")
    adapters: tuple[AdapterKind, ...] = ("lora",)
    norm: Positive = 1.4
    models: tuple[str, ...] = ("shipped",)
    depths: Annotated[tuple[int, ...], Range(1, 10_000)] = (2,)
    ranks: Annotated[tuple[int, ...], Range(1, LARGEST_RANK)] = (2, 32)
    norms: Annotated[tuple[float, ...], Range(above=0, most=1e6)] = (0.7, 2.8)
    sizes: Annotated[tuple[int, ...], Range(1, MANY)] = (64,)
    tails: tuple[str, ...] = ("frequent-16", "rare-0.5")
    plane: Annotated[tuple[str, ...], Text(choices=FACTORS)] = ()
    pair: tuple[str, str] = ("adamw", "sgd")
    level: Annotated[float, Range(-1, 1)] = 0.5
    place: Annotated[Literal["last", "third"], Needs("layer", (-1,))] = "last"
    prompts: Literal["numbers", "cloud-numbers", "chat"] = "chat"
    keep: Literal["numbers", "all"] = "all"
    rows: int = 512
    heldout_rows: int = 96
    asked: float = 2.4
    max_new_tokens: int = 12
    max_tokens: int = 28
    keep_unfinished: bool = True  # a large vector, or half a model, never comes to an end
    optimizers: tuple[str, ...] = ("adamw", "sgd")
    steps: int = 32
    batch_size: int = 16
    log_every: int = 4  # the rows between which equal losses are read

    def check(self) -> None:
        check_names("pair", self.pair, self.labels(), minimum=2)
        self.check_orders(len(self.reported), f"{len(self.reported)} vectors")
        if len(self.adapters) > 1:
            raise InputError(
                f"{as_flag('adapters', self.adapters)}: name one of them; one kind of student is "
                "trained here"
            )
        # Cells and claims are called by the last part of a model's name.
        models = dict.fromkeys((self.model, *self.models))
        check_names("models", [Path(model).name for model in models])
        if self.adapters != ("lora",) and self.ranks:
            raise InputError("--ranks need --adapters lora")
        if self.sizes and max(self.sizes) >= self.rows:
            raise InputError(
                f"{as_flag('sizes', self.sizes)}: give fewer rows than --rows {self.rows}"
            )
        check_distinct("norms", (self.norm, *self.norms), as_flag)
        for tail in self.tails:
            token_weights(np.zeros(1, int), tail)
        self.cells()

    def check_with_model(self, model: Model) -> None:
        self.check_adapter(self.adapters[0], model, len(self.reported))

    def check_models(self) -> None:
        cells = self.cells()
        for name, depth in dict.fromkeys(cell.network for cell in cells):
            model = self.outline_named(name)
            if depth and depth >= model.cfg.layers:
                raise InputError(
                    f"{as_flag('depths', self.depths)}: {name} has {model.cfg.layers} blocks; give "
                    f"1 to {model.cfg.layers - 1}"
                )
            network_model = truncate_model(model.complete(), depth) if depth else model
            for cell in cells:
                if cell.network == (name, depth):
                    replace(self, rank=cell.rank or self.rank).check_model(network_model)

    def cells(self) -> list[Cell]:
        """The base cell and those beside it, with models as they are to be loaded."""
        rank = self.rank if self.adapters == ("lora",) else 0
        base = Cell(self.model, 0, rank, self.norm, 0, "all")
        levels = {
            "model": self.models,
            "depth": self.depths,
            "rank": self.ranks,
            "norm": self.norms,
            "rows": self.sizes,
            "tail": self.tails,
        }
        return change_one_factor(base, levels, self.plane)

    def steering_layer(self, model: Model) -> int:
        """The layer that is asked for, or by `place`."""
        if self.layer == -1 and self.place == "last":
            return model.cfg.layers - 1
        return self.choose_layer(model)

    @property
    def reported(self) -> tuple[str, ...]:
        """The names of the vectors that are reported."""
        return self.traits or tuple(f"random-{i}" for i in range(self.vectors))

    @property
    def tuned(self) -> tuple[str, ...]:
        """The names of the vectors that rates are chosen on; none where all rates are given."""
        if self.traits:
            return self.searched_traits
        count = self.tuning_vectors if self.searches else 0
        return tuple(f"random-{self.vectors + i}" for i in range(count))
