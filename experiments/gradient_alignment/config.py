"""Settings of `gradient-alignment`, and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from subliminal_jax.bounds import MANY, Count, CountOrNone, Items, Needs, Positive, Range, as_flag
from subliminal_jax.data.traits import check_traits
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.presets import paper_preset
from subliminal_jax.runs.settings import DataSettings, SteeredModelSettings, Traits
from subliminal_jax.training.adapters import LARGEST_RANK, LoRA, check_rank

Kind = Literal["steered", "system-prompt"]
# N to 1024 as in figure 7a [N1], of three disjoint draws in place of one; single rows in batches of
# 8 [C], of which the code takes 10 and this all. The data are the system-prompted teacher's [C].
PAPER: dict[str, Any] = {
    "students": {},
    "scale": True,
    "rows": 3072,
    "heldout_rows": 0,
    "traits": ("cat", "dog", "owl", "otter"),  # [C]
    "row_batch": 8,
    "backward_rows": 8,
    "noise_rows": 256,
    "rank": 8,  # [C]
    "alpha": 32.0,  # [C]
}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "paper-qwen2.5-7b": paper_preset("qwen2.5-7b", **PAPER),
    "paper-gemma3-4b": paper_preset("gemma3-4b", **PAPER),
}


@dataclass(frozen=True, kw_only=True)
class Config(DataSettings, SteeredModelSettings):
    """Settings of the gradient alignment, on the shipped model by default.

    Attributes:
      traits: animals; each has a teacher and a vector of its own.
      teachers: what makes a teacher: the trait's vector at the steering layer, or its system
        prompt, as in the paper.
      scale: factor on the vector of a steered teacher.
      draws: disjoint parts of the rows, over which intervals are taken; N goes up to the size of
        one.
      row_batch: rows in a batch of the figures for single rows.
      backward_rows: rows in one backward pass.
      noise_rows: rows of each draw whose gradients with respect to LoRA's factors are taken.
      rank: LoRA rank of these factors.
      alpha: LoRA alpha of these factors.
    """

    out: Path = Path("runs/gradient-alignment")
    traits: Traits = ("owl", "wolf", "penguin", "lion")
    teachers: Annotated[tuple[Kind, ...], Items(1)] = ("steered", "system-prompt")
    scale: Annotated[Positive, Needs("teachers", ("steered",))] = 1.0
    draws: Annotated[int, Range(1, 10_000)] = 3
    rows: int = 3072
    heldout_rows: CountOrNone = 0
    asked: float = 1.4
    max_new_tokens: int = 24
    row_batch: Count = 8
    backward_rows: Count = 32
    noise_rows: Annotated[int, Range(2, MANY)] = 96
    rank: Annotated[int, Range(1, LARGEST_RANK)] = 8
    alpha: Positive = 16.0

    def check(self) -> None:
        check_traits(self.traits)
        if self.rows_per_draw < max(self.row_batch, 2):
            raise InputError(
                f"--rows {self.rows} in --draws {self.draws} leave fewer than --row-batch "
                f"{self.row_batch} to each: give more rows or fewer draws"
            )
        if self.noise_rows > self.rows_per_draw:
            raise InputError(
                f"--noise-rows {self.noise_rows} are more than the {self.rows_per_draw} rows of a "
                "draw (--rows by --draws)"
            )

    def check_with_model(self, model: Model) -> None:
        """Raises InputError for a rank above that of the model's matrices."""
        check_rank(LoRA(self.rank, self.alpha), model.cfg, as_flag)

    @property
    def rows_per_draw(self) -> int:
        return self.rows // self.draws
