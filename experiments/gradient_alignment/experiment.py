"""Does the base's loss gradient on a teacher's data point along the teacher's vector?

    subliminal-jax gradient-alignment
    subliminal-jax gradient-alignment --preset paper-qwen2.5-7b --out runs/fig7a

"Subliminal Learning Is Steering Vector Distillation" (Blank et al. 2026), figure 7a. Nothing is
trained. The base reads number lists T of a teacher (steered, or with a trait's system prompt) and
clean ones C; its gradients with respect to the residual stream after each block are averaged over N
rows, and cos(g_C - g_T, v) is taken with v the mean difference that the system prompt makes. A
second clean data set in place of T is the control. Beside it, where in the gradient of LoRA's
factors the component along the vector sits: are the largest coordinates noise?

Signs: a gradient points to where the loss grows, so a step goes along -g_T, and the paper quotes
cos(g_clean - g_teacher, v), positive where the data teach the vector; its released code reports
cos(g_teacher - g_clean, v), the same number with the other sign. All cosines here have the paper's.

Toy preset: about four minutes on 2 CPU cores; the stored result is of eight traits (`--traits owl
wolf penguin lion cat dog tiger eagle`, twice the time). Expected: with the steered teacher the
cosine rises with N to several tenths at the steering layer; the control stays at zero.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax.data.teachers import (
    Teacher,
    prompted_teacher,
    trait_teacher,
    trait_vectors,
)
from subliminal_jax.data.traits import check_traits, names_of
from subliminal_jax.diagnostics.activation_gradients import (
    CompletionLoss,
    layer_gradients,
    predicting,
    prompt_ends,
)
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.statistics import mean_interval
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.reporting.tables import Column, format_cell
from subliminal_jax.runs.claims import claim, verdict
from subliminal_jax.runs.data_sets import DataSets, part, write_data_sets
from subliminal_jax.runs.presets import paper_preset
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.run_once import run_once
from subliminal_jax.runs.settings import (
    DataSettings,
    SteeredModelSettings,
    check_names,
)
from subliminal_jax.training.batch import Batch

from .analysis import Cosines, Gradients, crossed, matrix
from .outliers import Outliers, outliers
from .report import report

Kind = Literal["steered", "system-prompt"]
CLEAN = ("control", "control-again")


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
    traits: tuple[str, ...] = ("owl", "wolf", "penguin", "lion")
    teachers: tuple[Kind, ...] = ("steered", "system-prompt")
    scale: float = 1.0
    draws: int = 3
    rows: int = 3072
    heldout_rows: int = 0
    asked: float = 1.4
    max_new_tokens: int = 24
    row_batch: int = 8
    backward_rows: int = 32
    noise_rows: int = 96
    rank: int = 8
    alpha: float = 16.0


# N to 1024 as in figure 7a [N1], of three disjoint draws in place of one; single rows in batches of
# 8 [C], of which the code takes 10 and this all. The data are the system-prompted teacher's [C].
_PAPER: dict[str, Any] = {
    "students": False,
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
    "paper-qwen2.5-7b": paper_preset("qwen2.5-7b", **_PAPER),
    "paper-gemma3-4b": paper_preset("gemma3-4b", **_PAPER),
}


def main(config: Config) -> dict[str, Any]:
    """Measure, or read what was measured; returns what results.json holds."""
    check(config)
    return run_once(config, lambda run: measure(run, config.load(), config), report)


def check(config: Config) -> None:
    """Raises InputError for settings that leave nothing to measure."""
    check_names("traits", config.traits)
    check_names("teachers", config.teachers)
    check_traits(config.traits)
    if config.draws < 1 or config.rows // config.draws < max(config.row_batch, 2):
        raise InputError(
            f"{config.rows} rows in {config.draws} draws leave fewer than a batch of "
            f"{config.row_batch} to each: give more rows or fewer draws"
        )
    if not 2 <= config.noise_rows <= config.rows // config.draws:
        raise InputError(
            f"noise_rows={config.noise_rows} must be from 2 to the {config.rows // config.draws} "
            "rows of a draw"
        )


def measure(run: RunFolder, model: Model, config: Config) -> dict[str, Any]:
    """Data, gradients, cosines, outliers: all numbers of the report."""
    layer, layers = config.layer_of(model), range(model.cfg.layers)
    vectors = {t: np.asarray(trait_vectors(model, layers, t)) for t in config.traits}
    teachers: dict[str, Teacher] = dict.fromkeys(CLEAN, Teacher())
    for trait in config.traits:
        for kind in config.teachers:
            steered = kind == "steered"
            teachers[f"{trait}-{kind}"] = (
                trait_teacher(model, layer, trait, config.scale)
                if steered
                else prompted_teacher(trait)
            )
    words = {name: names_of(name.partition("-")[0]) for name in teachers if name not in CLEAN}
    data = write_data_sets(run.path, model, teachers, config, config.seed, forbidden=words)
    n = config.rows // config.draws
    table = Cosines(vectors, layer, config.row_batch)
    with track("gradients", len(teachers) * n * config.draws, "rows") as progress:
        for draw in range(config.draws):
            rows = {name: part(data.train[name], draw * n, (draw + 1) * n) for name in teachers}

            def of(name: str, rows: dict[str, Batch] = rows) -> Gradients:
                progress.advance(n, note=name)
                return gradients(model, rows[name], config.backward_rows)

            clean, again = (of(name) for name in CLEAN)
            for kind in config.teachers:
                for trait in config.traits:
                    table.add(kind, trait, draw, of(f"{trait}-{kind}"), clean, again)
    results = {
        "model": model.name,
        "layer": layer,
        "layers": len(layers),
        "largest_n": n,
        "chance_share": 1 / model.cfg.dim,
        "vector_norms": {t: np.linalg.norm(v, axis=-1).tolist() for t, v in vectors.items()},
        "data": data.reports,
        "pooled": table.pooled,
        "rows": table.single_rows(),
        "curves": table.curves(),
        "by_layer": table.by_layer(),
        "outliers": parameter_space(model, data, vectors, layer, config),
    }
    return {**results, "claims": claims(results, config)}


def gradients(model: Model, rows: Batch, at_once: int) -> Gradients:
    """Per-example gradients of the base's mean completion loss after every block: at the last
    prompt token, summed over the tokens that predict the completion, and over all tokens."""
    n = len(rows.tokens)
    pieces = []
    for start in range(0, n, at_once):
        at = np.arange(start, start + at_once) % n  # the last piece repeats rows that are cut off
        piece = _gradients(model.params, jax.tree.map(lambda x, at=at: x[at], rows), model.cfg)
        pieces.append(np.asarray(piece)[:, :, : n - start])
    return np.concatenate(pieces, axis=2)


@partial(jax.jit, static_argnames="cfg")
def _gradients(params: Params, rows: Batch, cfg: ModelConfig) -> jax.Array:
    masks = jnp.stack([prompt_ends(rows), predicting(rows), rows.positions[:, :-1] >= 0])
    return layer_gradients(CompletionLoss(cfg), params, rows, tuple(range(cfg.layers)), masks)


def parameter_space(
    model: Model,
    data: DataSets,
    vectors: dict[str, np.ndarray],
    layer: int,
    config: Config,
) -> list[Outliers]:
    """Tails and noise of the gradient of LoRA's factors, for each teacher and draw."""
    n = config.rows // config.draws
    table = []
    todo = len(config.teachers) * len(config.traits) * config.draws
    with track("parameter space", todo, "gradients") as progress:
        for kind in config.teachers:
            for trait in config.traits:
                for draw in range(config.draws):
                    own, clean = (
                        part(data.train[name], draw * n, draw * n + config.noise_rows)
                        for name in (f"{trait}-{kind}", "control")
                    )
                    found = outliers(
                        model, own, clean, vectors[trait][layer], layer,
                        rank=config.rank, alpha=config.alpha, seed=draw,
                    )  # fmt: skip
                    table.append({"teacher": kind, "trait": trait, "draw": draw, **found})
                    progress.advance(note=f"{trait}-{kind}")
    return table


def claims(results: dict[str, Any], config: Config) -> list[dict[str, Any]]:
    """The paper's statements against the numbers, at the steering layer and the last prompt token.

    Effects are held against zero by a two-way t over draws and traits: the component along v at
    the largest N minus the control's (not the cosines: that of pure noise does not shrink with N),
    the cosine at the largest N minus that of one row, and for the outliers the share of the squared
    gradient in its largest tenth minus their share of the component.
    """
    layer, n = results["layer"], results["largest_n"]
    stated = []
    for kind in config.teachers:
        setting = f"{results['model']}, {kind} teacher, last prompt token, block {layer}"
        of = {
            (r["data"], r["n"]): np.array(r["values"], float)
            for r in results["curves"]
            if (r["teacher"], r["position"]) == (kind, "tag")
        }
        most, one, none = of["difference", n], of["difference", 1], of["control", n]
        along, noise = (
            matrix(results["pooled"], key, kind, "tag", layer, config.traits)
            for key in ("along", "control_along")
        )
        aligned, rise = crossed(along - noise), crossed(most - one)
        stated.append(
            claim(
                f"gradient-alignment/aligned-{kind}",
                "cos(g_clean - g_teacher, v_teacher) is positive, above that of clean data",
                "figure 7a",
                setting,
                f"{_text(crossed(most))} at N = {n}, clean {_text(crossed(none))}; component "
                f"in units of one row's gradient, less that of clean data {_text(aligned)}",
                config.draws,
                verdict(aligned["low"], aligned["high"]),
            )
        )
        stated.append(
            claim(
                f"gradient-alignment/rises-with-n-{kind}",
                "the cosine rises with the number N of gradients that are averaged",
                "figure 7a",
                setting,
                f"{_text(crossed(one))} at N = 1, {_text(crossed(most))} at N = {n}; "
                f"rise {_text(rise)}",
                config.draws,
                verdict(rise["low"], rise["high"]),
            )
        )
        own = [r for r in results["outliers"] if r["teacher"] == kind]
        mass, signal = (
            np.array([_ratio(own, key, draw) for draw in range(config.draws)])
            for key in ("decile_mass", "decile_component")
        )
        gap = mean_interval(list(mass - signal)).to_dict()
        stated.append(
            claim(
                f"gradient-alignment/outliers-{kind}",
                "the largest coordinates of the parameter gradient hold most of its size, but not "
                "the signal",
                "section 6",
                f"{results['model']}, {kind} teacher, LoRA factors B at the start, largest tenth",
                f"{mass.mean():.0%} of the squared gradient, {signal.mean():.0%} of the component "
                f"of g_clean - g_teacher; difference {_text(gap)}",
                config.draws,
                verdict(gap["low"], gap["high"]),
            )
        )
    return stated


def _ratio(rows: list[Outliers], key: str, draw: int) -> float:
    """The share in the largest tenth over all traits of one draw: a ratio of sums, since the
    component of one trait may be next to nothing."""
    mine = [r for r in rows if r["draw"] == draw]
    whole = "squared" if key == "decile_mass" else "component"
    return float(sum(r[key] * r[whole] for r in mine) / sum(r[whole] for r in mine))


def _text(interval: dict[str, Any]) -> str:
    return format_cell(interval, Column("", "", "number", digits=3))
