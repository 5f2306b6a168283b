"""The arms of the optimizer dispute, their learning rates, and how each is trained.

An arm is a rule with a centre of its learning rates, trained in a setting (LoRA, maps of another
run, all weights, clipped gradients, a batch size) on rows with some weighting of tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from subliminal_jax.bounds import MANY, Items, Range
from subliminal_jax.errors import InputError
from subliminal_jax.runs.rates import read_grids
from subliminal_jax.runs.settings import StudentSettings

MAPS = "maps"  # the setting whose rules read the second moment of the arm "adamw"
NO_RARE, RARE_WEIGHTED = "no-rare", "rare-weighted"


@dataclass(frozen=True)
class ArmPlan:
    """One arm before it is trained.

    Attributes:
      name: what the report calls it.
      family: the part of the report that it is in.
      rule: its optimizer, as in the registry.
      rate: the centre of its learning rates.
      setting: the arms of one setting are one sweep.
      tokens: the weighting of its training rows; "" for none.
      upper: the AdamW arm that it is held against.
    """

    name: str
    family: str
    rule: str
    rate: float
    setting: str = "lora"
    tokens: str = ""
    upper: str = "adamw"


def list_arms(batch_sizes: Sequence[int]) -> tuple[ArmPlan, ...]:
    """All arms. `batch_sizes` are those tested beside the plain one; 0 is the whole data set.

    The centres of the rates were found by held-out loss on the models that ship (LoRA rank 8).
    """
    paper, outliers, maps, steps = "paper", "outliers", "maps", "steps"
    return (
        ArmPlan("adamw", paper, "adamw", 4e-3),
        ArmPlan("rmsprop", paper, "rmsprop", 4e-3),
        ArmPlan("sign-sgd", paper, "sign_sgd", 4e-3),
        ArmPlan("signum", paper, "signum", 2.5e-3),
        ArmPlan("momentum", paper, "momentum", 0.04),
        ArmPlan("sgd", paper, "sgd", 0.2),
        ArmPlan("adamw-rotated", paper, "adamw_rotated:mlp_only=true", 4e-3),
        ArmPlan(
            "adamw-rotated-by-layer", paper, "adamw_rotated:mlp_only=true,per_layer=true", 4e-3
        ),
        ArmPlan("adamw-rotated-all", paper, "adamw_rotated:per_layer=true", 4e-3),
        ArmPlan("sgd-rotated", paper, "sgd_rotated:per_layer=true", 0.2),
        ArmPlan("adamw-clipped", paper, "adamw", 5e-3, "clipped"),
        ArmPlan("sgd-clipped", paper, "sgd", 0.8, "clipped", upper="adamw-clipped"),
        ArmPlan("adamw-full", paper, "adamw", 1e-3, "full"),
        ArmPlan("sgd-full", paper, "sgd", 0.1, "full", upper="adamw-full"),
        ArmPlan("adamw-bottom-frozen", maps, "adamw_masked", 8e-3, MAPS),
        ArmPlan("adamw-bottom-zeroed", maps, "adamw_masked:zeroed=true", 8e-3, MAPS),
        ArmPlan("frozen-map", maps, "frozen_map", 8e-3, MAPS),
        ArmPlan("frozen-map-eps-outside", maps, "frozen_map:eps_in_root=false", 8e-3, MAPS),
        ArmPlan("frozen-map-momentum", maps, "frozen_map:b1=0.9", 8e-3, MAPS),
        ArmPlan(
            "frozen-map-flat-rest", maps, "frozen_map:flat_rest=true,live_mean=true", 2.5e-3, MAPS
        ),
        ArmPlan(
            "frozen-map-zero-bottom",
            maps,
            "frozen_map:flat_rest=true,zero_bottom=true,live_mean=true",
            2.5e-3,
            MAPS,
        ),
        ArmPlan(
            "frozen-map-two-levels",
            maps,
            "frozen_map:flat_rest=true,flat_bottom=true,live_mean=true,b1=0.9",
            4e-3,
            MAPS,
        ),
        ArmPlan(
            "living-map-two-levels",
            maps,
            "living_map:flat_rest=true,flat_bottom=true,live_mean=true",
            3e-3,
        ),
        ArmPlan("sgd-masked-0.1%", outliers, "sgd_top_masked:share=0.001", 0.3),
        ArmPlan("sgd-masked-1%", outliers, "sgd_top_masked:share=0.01", 0.4),
        ArmPlan("sgd-masked-10%", outliers, "sgd_top_masked:share=0.1", 1.6),
        ArmPlan("sgd-quantile-clipped-0.1%", outliers, "sgd_top_clipped:share=0.001", 0.2),
        ArmPlan("sgd-quantile-clipped-1%", outliers, "sgd_top_clipped:share=0.01", 0.27),
        ArmPlan("sgd-quantile-clipped-10%", outliers, "sgd_top_clipped:share=0.1", 0.8),
        ArmPlan("sgd-top-10%-only", outliers, "sgd_top_only:share=0.1", 0.2),
        ArmPlan("normalized-sgd", steps, "normalized_sgd", 0.5),
        ArmPlan("normalized-sgd-per-tensor", steps, "normalized_sgd_per_tensor", 0.1),
        ArmPlan("normalized-sgd-per-row", steps, "normalized_sgd_per_row", 0.025),
        ArmPlan("sgd-a-times-3", steps, "sgd_by_factor:a=3", 0.12),
        ArmPlan("sgd-a-times-16", steps, "sgd_by_factor:a=16", 0.05),
        ArmPlan("sgd-a-times-64", steps, "sgd_by_factor:a=64", 0.02),
        ArmPlan("sgd-b-times-16", steps, "sgd_by_factor:b=16", 0.02),
        ArmPlan("adamw-a-frozen", steps, "adamw_by_factor:a=0", 0.01),
        *(arm for size in batch_sizes for arm in _batch_arms(size)),
        ArmPlan("adamw-no-rare", "tokens", "adamw", 4e-3, tokens=NO_RARE),
        ArmPlan("sgd-no-rare", "tokens", "sgd", 0.13, tokens=NO_RARE, upper="adamw-no-rare"),
        ArmPlan("adamw-rare-weighted", "tokens", "adamw", 4e-3, tokens=RARE_WEIGHTED),
        ArmPlan(
            "sgd-rare-weighted",
            "tokens",
            "sgd",
            0.13,
            tokens=RARE_WEIGHTED,
            upper="adamw-rare-weighted",
        ),
    )


def _batch_arms(size: int) -> tuple[ArmPlan, ArmPlan]:
    name = f"batch-{size or 'full'}"
    # The fewer rows, the noisier the step and the shorter it has to be.
    upper, lower = (4e-3, 0.035) if size == 1 else (5e-3, 0.35)
    return (
        ArmPlan(f"adamw-{name}", "batch", "adamw", upper, name),
        ArmPlan(f"sgd-{name}", "batch", "sgd", lower, name, upper=f"adamw-{name}"),
    )


@dataclass(frozen=True, kw_only=True)
class MechanicsSettings(StudentSettings):
    """How the arms are trained.

    Attributes:
      optimizers: names of arms; empty means all.
      rates: grids of arms in place of their own, as "sgd=0.1,0.3".
      grid_points: rates an arm.
      grid_factor: between neighbouring rates of an arm's grid.
      grid_seeds: seeds that each rate is tried with; the chosen one gets all seeds.
      batch_sizes: sizes beside the plain one, at equal steps; 0 is the whole data set.
      clip_norm: bound on the global gradient norm in the arms that clip; others follow `clip`.
      no_rare: what the arms without rare tokens learn: "frequent-K", the K most frequent tokens.
      rare_weighted: the weights where rare tokens count more: "rare-P" is frequency to the -P.
    """

    optimizers: Annotated[tuple[str, ...], Items(0)] = ()
    grid_points: int = 5
    grid_factor: Annotated[float, Range(above=1, most=1_000)] = 1.7
    grid_seeds: Annotated[int, Range(1, 10_000)] = 1
    batch_sizes: Annotated[tuple[int, ...], Range(0, MANY)] = (1, 64)
    clip_norm: Annotated[float, Range(above=0, most=1e30)] = 1.0
    no_rare: str = "frequent-64"
    rare_weighted: str = "rare-0.5"

    def choose_arms(self) -> dict[ArmPlan, tuple[float, ...]]:
        """The arms to train with their learning rates; raises InputError for a name that is
        none."""
        if self.grid_seeds > self.seeds:
            raise InputError(f"--grid-seeds {self.grid_seeds} are more than --seeds {self.seeds}")
        known = {arm.name: arm for arm in list_arms(self.batch_sizes)}
        names = self.optimizers or tuple(known)
        given = read_grids("rates", self.rates)
        for name in (*names, *given):
            if name not in known:
                raise InputError(
                    f"--optimizers or --rates: unknown arm {name!r}; there are {', '.join(known)}"
                )
        if any(known[name].setting == MAPS for name in names) and "adamw" not in names:
            raise InputError("--optimizers: the maps are made from the arm adamw: train it too")
        half = (self.grid_points - 1) / 2
        powers = [self.grid_factor ** (i - half) for i in range(self.grid_points)]
        grids = {
            name: tuple(float(f"{known[name].rate * power:.3g}") for power in powers)
            for name in names
        }
        return {known[name]: given.get(name, grid) for name, grid in grids.items()}

    def specialise(self, setting: str, rows: int) -> "MechanicsSettings":
        """These settings as the arms of `setting` are trained, on `rows` rows."""
        if setting == "full":
            return replace(self, adapter="full")
        if setting == "clipped":
            return replace(self, clip=self.clip_norm)
        if setting.startswith("batch-"):
            size = setting.removeprefix("batch-")
            return replace(self, batch_size=rows if size == "full" else int(size), accumulation=1)
        return self
