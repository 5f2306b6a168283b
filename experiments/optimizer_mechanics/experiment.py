"""Why does AdamW pass a steering vector on, and SGD less? Competing explanations, arm by arm.

    subliminal-jax optimizer-mechanics --preset toy
    subliminal-jax optimizer-mechanics --preset toy --model shipped

One teacher with a vector, its data and a control's; on them students of some fifty arms: the rules
of Blank et al. 2026 (AdamW, RMSprop, SGD, momentum, signs; frozen maps of Adam's scales; rotations;
LoRA against full weights; clipping) and tests that tell the explanations apart (the largest
coordinates masked or clipped, normalised steps, rates of their own for LoRA's A and B, a living
against a frozen statistic, batch sizes at equal steps, rare tokens out or weighted up). Each arm
has a grid of five rates; the best is chosen on held-out loss; all arms are compared at their best
rates and, each with its AdamW, at one training loss. The report ends with a table: explanation,
what it predicts, what was measured, verdict.

`--preset toy`, on shipped-small, takes some 8 minutes on 2 CPU cores, on shipped twice that; `full`
(every rate with every seed, more steps, full batches) is meant for a GPU. Expected on the shipped
model: AdamW's EAS ahead of SGD's by more than 0.3, and a tuned SGD on masked or clipped
coordinates, or on steps normalised tensor by tensor, in between.

The setting (a random vector after the last block, ordinary chat) is that of the demonstration and
was chosen there because LoRA students pick the vector up within few steps; the learning rates'
centres were found by held-out loss.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax.bounds import Needs, Positive
from subliminal_jax.data import world
from subliminal_jax.data.token_weights import token_weights
from subliminal_jax.data.traits import trait_names
from subliminal_jax.errors import InputError
from subliminal_jax.runs.checks import TRAIT
from subliminal_jax.runs.data_sets import write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import DataSettings, SteeredModelSettings
from subliminal_jax.runs.students import make_panel, measure_teacher
from subliminal_jax.runs.vector_teacher import make_vector_teacher
from subliminal_jax.steering.teacher import Teacher

from .analysis import Measured, ReferenceRates, Results, analyse
from .arms import MechanicsSettings
from .claims import make_claims
from .presets import PRESETS
from .report import make_page
from .students import ArmTrainer


@dataclass(frozen=True, kw_only=True)
class Config(MechanicsSettings, DataSettings, SteeredModelSettings):
    """Settings of the dispute, at toy scale by default.

    Attributes:
      vector: a random one, or a trait's (mean difference of its system prompt).
      trait: an animal. With a random vector, "auto" takes the one that the vector favours most.
      norm: norm of a random vector, in units of the residual stream's norm at the layer.
      scale: factor on a trait's vector.
    """

    out: Path = Path("runs/optimizer-mechanics")
    model: str = "shipped-small"
    layer: int = 3
    vector: Literal["random", "trait"] = "random"
    trait: Annotated[str, TRAIT] = "auto"
    norm: Annotated[Positive, Needs("vector", ("random",))] = 1.4
    scale: Annotated[Positive, Needs("vector", ("trait",))] = 1.0
    prompts: Literal["numbers", "cloud-numbers", "chat"] = "chat"
    keep: Literal["numbers", "all"] = "all"
    rows: int = 256
    heldout_rows: int = 64
    max_tokens: int = 28
    steps: int = 24
    batch_size: int = 16
    log_every: int = 12

    def check(self) -> None:
        arms = self.choose_arms()
        for tail in (self.no_rare, self.rare_weighted):
            token_weights(np.zeros(1, int), tail)
        sizes = {arm.setting for arm in arms} & {f"batch-{n}" for n in self.batch_sizes if n}
        if too_large := [s for s in sizes if int(s.removeprefix("batch-")) > self.rows]:
            raise InputError(f"the arms of {min(too_large)} need more than --rows {self.rows}")


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample teacher and base, train every arm.

    Raises InputError for a trait without a word, too few answers that pass the filter, or maps of
    an AdamW that diverged at every rate.
    """
    model = config.load()
    layer = config.choose_layer(model)
    teacher, trait = make_vector_teacher(
        model,
        layer,
        config.vector,
        config.trait,
        norm=config.norm,
        scale=config.scale,
        seed=config.seed,
    )
    teachers = {"steered": teacher, "control": Teacher()}
    forbidden = dict.fromkeys(teachers, trait_names(trait))
    data = write_data_sets(folder.path, model, teachers, config, config.seed, forbidden=forbidden)
    panel = make_panel(
        model,
        {"steered": teacher},
        data,
        config,
        layer=layer,
        words=[trait],
        questions=world.HELDOUT_QUESTIONS,
    )
    arms = ArmTrainer(folder, panel, data, config)
    arms.train_all()
    base, steered = (measure_teacher(panel, each)["word_rate"][0] for each in (Teacher(), teacher))
    return Measured(
        model=model.name,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(model.params)),
        layer=layer,
        trait=trait,
        vector=config.vector,
        vector_norm=float(jnp.linalg.norm(panel.vectors()["steered"])),
        rows=config.rows,
        steps=config.steps,
        batch_size=config.batch_size,
        seeds=config.seeds,
        grid_points=config.grid_points,
        grid_seeds=config.grid_seeds,
        data=data.reports,
        reference=ReferenceRates(base=base, teacher=steered),
        plans=tuple(arms.grids),
        rates=arms.best,
        students=tuple(arms.rows),
        histories=arms.histories(),
    )


EXPERIMENT = Experiment(
    name="optimizer-mechanics",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
