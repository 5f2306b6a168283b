"""The arms of the optimizer dispute, where the search of their learning rates begins, and how each
is trained.

An arm is a rule trained in a setting: LoRA, maps of another run, all weights, clipped gradients, a
batch size, or rows with some weighting of tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from subliminal_jax.bounds import MANY, Count, Items, Range, as_flag
from subliminal_jax.errors import InputError
from subliminal_jax.runs.rates import read_grids
from subliminal_jax.runs.vector_settings import VectorSettings
from subliminal_jax.training.adapters import Full
from subliminal_jax.training.arms import TrainConfig, check_plan

LORA = "lora"
MAPS = "maps"  # the setting whose rules read the second moment of the arm "adamw"
NO_RARE, RARE_WEIGHTED = "no-rare", "rare-weighted"


@dataclass(frozen=True)
class ArmPlan:
    """One arm before it is trained.

    Attributes:
      name: what the report calls it.
      family: the part of the report that it is in.
      rule: its optimizer, as in the registry.
      rate: where the search of its learning rate begins.
      setting: the arms of one setting are trained together.
      upper: the AdamW arm that it is held against.
    """

    name: str
    family: str
    rule: str
    rate: float
    setting: str = LORA
    upper: str = "adamw"


def list_arms(batch_sizes: Sequence[int]) -> tuple[ArmPlan, ...]:
    """All arms. `batch_sizes` are those tested beside the plain one; 0 is the whole data set.

    RMSprop's decay, AdamW without its bottom tenth, and the maps whose other scales are flat are as
    in the released code of Blank et al.; forms that deviate from it are arms of their own.
    """
    paper, outliers, maps, steps, tokens = "paper", "outliers", "maps", "steps", "tokens"
    return (
        ArmPlan("adamw", paper, "adamw", 4e-3),
        ArmPlan("rmsprop", paper, "rmsprop:decay=0.99", 4e-3),
        ArmPlan("rmsprop-decay-0.9", paper, "rmsprop", 4e-3),
        ArmPlan("sign-sgd", paper, "sign_sgd", 4e-3),
        ArmPlan("signum", paper, "signum", 2.5e-3),
        ArmPlan("momentum", paper, "momentum", 0.04),
        ArmPlan("sgd", paper, "sgd", 0.2),
        ArmPlan("adamw-rotated", paper, "rotated:adamw(mlp_only=true)", 4e-3),
        ArmPlan(
            "adamw-rotated-by-layer", paper, "rotated:adamw(mlp_only=true,per_layer=true)", 4e-3
        ),
        ArmPlan("adamw-rotated-all", paper, "rotated:adamw(per_layer=true)", 4e-3),
        ArmPlan("sgd-rotated", paper, "rotated:sgd(per_layer=true)", 0.2),
        ArmPlan("adamw-clipped", paper, "adamw", 5e-3, "clipped"),
        ArmPlan("sgd-clipped", paper, "sgd", 0.8, "clipped", upper="adamw-clipped"),
        ArmPlan("adamw-full", paper, "adamw", 1e-3, "full"),
        ArmPlan("sgd-full", paper, "sgd", 0.1, "full", upper="adamw-full"),
        ArmPlan("adamw-bottom-frozen", maps, "adamw_masked", 8e-3, MAPS),
        ArmPlan("adamw-bottom-zeroed", maps, "adamw_masked:zeroed=true,frozen=false", 8e-3, MAPS),
        ArmPlan("adamw-bottom-zeroed-frozen", maps, "adamw_masked:zeroed=true", 8e-3, MAPS),
        ArmPlan("frozen-map", maps, "frozen_map", 8e-3, MAPS),
        ArmPlan("frozen-map-eps-outside", maps, "frozen_map:eps_in_root=false", 8e-3, MAPS),
        ArmPlan("frozen-map-momentum", maps, "frozen_map:b1=0.9", 8e-3, MAPS),
        ArmPlan("frozen-map-flat-rest", maps, "frozen_map:flat_rest=true", 2.5e-3, MAPS),
        ArmPlan(
            "frozen-map-zero-bottom",
            maps,
            "frozen_map:flat_rest=true,zero_bottom=true",
            2.5e-3,
            MAPS,
        ),
        ArmPlan(
            "frozen-map-flat-live-rest",
            maps,
            "frozen_map:flat_rest=true,live_mean=true",
            2.5e-3,
            MAPS,
        ),
        ArmPlan(
            "frozen-map-zero-bottom-live-rest",
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
        ArmPlan("sgd-masked-0.1%", outliers, "top_masked:sgd(share=0.001)", 0.3),
        ArmPlan("sgd-masked-1%", outliers, "top_masked:sgd(share=0.01)", 0.4),
        ArmPlan("sgd-masked-10%", outliers, "top_masked:sgd(share=0.1)", 1.6),
        ArmPlan("sgd-quantile-clipped-0.1%", outliers, "top_clipped:sgd(share=0.001)", 0.2),
        ArmPlan("sgd-quantile-clipped-1%", outliers, "top_clipped:sgd(share=0.01)", 0.27),
        ArmPlan("sgd-quantile-clipped-10%", outliers, "top_clipped:sgd(share=0.1)", 0.8),
        ArmPlan("sgd-top-10%-only", outliers, "top_only:sgd(share=0.1)", 0.2),
        ArmPlan("normalized-sgd", steps, "normalized_sgd", 0.5),
        ArmPlan("normalized-sgd-per-tensor", steps, "normalized_sgd_per_tensor", 0.1),
        ArmPlan("normalized-sgd-per-row", steps, "normalized_sgd_per_row", 0.025),
        ArmPlan("sgd-a-times-3", steps, "by_factor:sgd(a=3)", 0.12),
        ArmPlan("sgd-a-times-16", steps, "by_factor:sgd(a=16)", 0.05),
        ArmPlan("sgd-a-times-64", steps, "by_factor:sgd(a=64)", 0.02),
        ArmPlan("sgd-b-times-16", steps, "by_factor:sgd(b=16)", 0.02),
        ArmPlan("adamw-a-frozen", steps, "by_factor:adamw(a=0)", 0.01),
        *(arm for size in batch_sizes for arm in _batch_arms(size)),
        ArmPlan("adamw-no-rare", tokens, "adamw", 4e-3, NO_RARE),
        ArmPlan("sgd-no-rare", tokens, "sgd", 0.13, NO_RARE, "adamw-no-rare"),
        ArmPlan("adamw-rare-weighted", tokens, "adamw", 4e-3, RARE_WEIGHTED),
        ArmPlan("sgd-rare-weighted", tokens, "sgd", 0.13, RARE_WEIGHTED, "adamw-rare-weighted"),
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
class MechanicsSettings(VectorSettings):
    """How the arms are trained.

    Attributes:
      optimizers: names of arms; empty means all.
      rates: where the search of an arm begins in place of its own rate, as "sgd=0.1"; of several
        the middle one.
      steps: of every student.
      log_every: steps between two looks at gradients and updates.
      clip: largest global gradient norm of the arms that do not clip by themselves; 0 means none.
      accumulation: micro-batches of a batch.
      batch_sizes: sizes beside the plain one, at equal steps; 0 is the whole data set.
      clip_norm: bound on the global gradient norm in the arms that clip.
      no_rare: what the arms without rare tokens learn: "frequent-K", the K most frequent tokens.
      rare_weighted: the weights where rare tokens count more: "rare-P" is frequency to the -P.
    """

    optimizers: Annotated[tuple[str, ...], Items(0)] = ()
    rates: tuple[str, ...] = ()
    steps: Count = 48
    log_every: Count = 24
    clip: Annotated[float, Range(least=0, most=1e30)] = 0.0
    accumulation: Count = 1
    batch_sizes: Annotated[tuple[int, ...], Range(0, MANY)] = (1, 64)
    clip_norm: Annotated[float, Range(above=0, most=1e30)] = 1.0
    no_rare: str = "frequent-64"
    rare_weighted: str = "rare-0.5"

    def check_group(self) -> None:
        """Raises InputError for a plan that cannot be."""
        check_plan(self, as_flag)
        self.choose_arms()

    def choose_arms(self) -> tuple[ArmPlan, ...]:
        """The arms to train; raises InputError for a name that is none."""
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
        starts = {name: grid[len(grid) // 2] for name, grid in given.items()}
        return tuple(
            replace(known[name], rate=starts.get(name, known[name].rate)) for name in names
        )

    def specialise(self, setting: str) -> TrainConfig:
        """How the arms of `setting` are trained."""
        plan = replace(
            self.plan(self.steps),
            log_every=self.log_every,
            clip=self.clip or None,
            accumulation=self.accumulation,
        )
        if setting == "full":
            return replace(plan, adapter=Full())
        if setting == "clipped":
            return replace(plan, clip=self.clip_norm)
        if setting.startswith("batch-"):
            size = setting.removeprefix("batch-")
            return replace(
                plan, batch_size=self.rows if size == "full" else int(size), accumulation=1
            )
        return plan

    def weigh_tokens(self, setting: str) -> str | None:
        """How the training rows of `setting` weigh their tokens; None where all count alike."""
        return {NO_RARE: self.no_rare, RARE_WEIGHTED: self.rare_weighted}.get(setting)
