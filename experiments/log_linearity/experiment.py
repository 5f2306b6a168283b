"""Are language models approximately log-linear, and do two of them share a row space?

    subliminal-jax log-linearity --preset toy

For each model a matrix X of log P(response | system prompt, prompt): a row for each system prompt,
a column for each pair of prompt and response. Reported: its singular values with the slope of a
power law fitted over stated ranks; how well factors of rank k predict entries of system prompts and
pairs that they were not fitted to; the principal angles between the top row spaces of the models,
against random weights and against Gaussian matrices. All of that for X, and for X without each
pair's mean, which is all that log-ratios between system prompts depend on. Beside it an exactly
log-linear toy, on which the theorem on logit-linear selection has to hold.

Intervals are over draws of system prompts and pairs. Nothing here was tuned. In the toy, system
prompts are eight phrasings for each of the world's 16 animals and a few neutral ones. The paper
(Aden-Ali et al. 2026, arXiv 2602.04863) took 2000 personas and 2000 responses of 8 to 64 tokens
from Tulu 2.5; its persona prompts are not public, so give a file with one a line. It also took
OLMo 2 models, whose family is not supported here: the paper preset is on Qwen3-8B and
Llama-3.2-1B-Instruct.

About five minutes on 2 CPU cores. Expected: no power law (slopes of -1.5 and -1.7, with a cliff
behind rank 16, the number of the world's personas); factors of rank 16 predict 92% of the variance
of held-out entries with errors of 0.8 nats, 10 at most, so that the entrywise bound of the theory
does not hold at a useful size (random weights are as low in rank, with a variance near zero); a
mean cosine of 0.72 between the two models, against 0.40 for random weights and 0.24 for Gaussian
matrices; on the exact toy 0.996 for selected pairs, -0.997 for the bottom, about zero for random.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from subliminal_jax.data import world
from subliminal_jax.data.preferences import read_preferences, world_preferences
from subliminal_jax.data.questions import read_questions
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import init_params
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.run_once import run_once
from subliminal_jax.runs.settings import RunSettings
from subliminal_jax.selection.log_linear_model import Toy, run_toy
from subliminal_jax.selection.log_linearity import log_prob_matrix
from subliminal_jax.selection.rendering import ScoringOptions, text_tokens

from .analysis import (
    GAUSSIAN,
    Matrix,
    angles,
    claims,
    random_twin,
    residuals,
    spectra,
    toy_rows,
)
from .report import report

PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "paper-qwen3-8b": {
        "models": ("Qwen/Qwen3-8B", "meta-llama/Llama-3.2-1B-Instruct"),
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
class Config(RunSettings):
    """Settings; the defaults are the toy's. `--models` stands in place of `--model`.

    Attributes:
      models: two models or more, each by name or folder; the first is compared with the others.
      pairs: "world" (pairs of the shipped model's world), or a preference file or hub name; chance
        says whether a pair's chosen or its rejected response is taken.
      split: the split, of a hub name.
      system_prompts: "world", or a text file with one a line.
      systems: system prompts a draw (rows of the matrix); 0 takes all.
      columns: pairs of prompt and response a draw.
      draws: how often both are drawn.
      min_tokens: responses with fewer tokens (of the first model) are left out.
      max_tokens: responses with more tokens are left out; 0 means no limit.
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
    models: tuple[str, ...] = ("shipped", "shipped-small")
    pairs: str = "world"
    split: str = "train"
    system_prompts: str = "world"
    systems: int = 64
    columns: int = 200
    draws: int = 3
    min_tokens: int = 2
    max_tokens: int = 0
    fit_first: int = 2
    fit_last: int = 0
    top_k: int = 16
    ranks: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    gaussian_draws: int = 20
    toy_seeds: int = 5
    toy_dim: int = Toy.dim
    toy_prompts: int = Toy.prompts


class Draw(NamedTuple):
    """The rows and columns of one matrix, as texts."""

    systems: list[str | None]
    prompts: list[str]
    responses: list[str]


def main(config: Config) -> dict[str, Any]:
    """Run, or go on; returns what results.json holds."""
    candidates = system_prompts(config)
    check(config, len(candidates))
    return run_once(config, lambda run: measure(run, candidates, config), report)


def check(config: Config, candidates: int) -> None:
    """Raises InputError for settings that cannot be with so many system prompts to choose from."""
    if len({Path(name).name for name in config.models}) < max(2, len(config.models)):
        raise InputError(f"models {' '.join(config.models)}: name at least two, each once")
    if config.draws < 2 or config.toy_seeds < 2:
        raise InputError("an interval needs at least 2 draws and 2 toy_seeds")
    systems = config.systems or candidates
    side = min(systems, config.columns)
    if side < 8:
        raise InputError(f"{systems} x {config.columns}: give at least 8 of both")
    if not config.ranks or config.top_k not in config.ranks:
        raise InputError(f"ranks {config.ranks} must hold top_k, {config.top_k}")
    if min(config.ranks) < 1 or max(config.ranks) > side // 2:
        raise InputError(f"ranks {config.ranks}: give 1 to {side // 2}, half of the matrix")
    if config.fit_first < 1 or not config.fit_first + 2 <= fit_last(config, side) <= side:
        raise InputError(
            f"fit_first {config.fit_first} and fit_last {config.fit_last}: at least three ranks, "
            f"at most {side}"
        )


def fit_last(config: Config, side: int) -> int:
    return config.fit_last or side // 2


def system_prompts(config: Config) -> list[str | None]:
    """The candidates for rows; None is "no system prompt"."""
    if config.system_prompts == "world":
        traits = [
            world.trait_system_prompt(trait, phrasing)
            for trait in world.TRAITS
            for phrasing in range(len(world.TRAIT_PROMPTS))
        ]
        found: list[str | None] = [None, *world.NEUTRAL_PROMPTS, *traits]
    else:
        found = list(read_questions(config.system_prompts))
    if len(found) < max(config.systems, 8):
        raise InputError(
            f"{config.system_prompts}: {len(found)} system prompts for {config.systems} rows; "
            "give more, or ask for fewer (--systems)"
        )
    return found


def draw_texts(candidates: list[str | None], first: Model, config: Config) -> list[Draw]:
    """The texts of every draw. Those of the world are drawn anew; a source is divided among the
    draws. Raises InputError for a source with too few pairs."""
    made = []
    wanted = config.draws * config.columns
    if config.pairs == "world":
        pairs = world_preferences(3 * wanted, config.seed)
    else:
        pairs = read_preferences(config.pairs, config.split)
    rng = np.random.default_rng([config.seed, 0x106])
    order = rng.permutation(len(pairs))
    sides = rng.integers(2, size=len(pairs))
    kept: list[tuple[str, str]] = []
    for i in order:
        row = pairs[int(i)]
        response = row[("chosen", "rejected")[sides[i]]]
        tokens = len(text_tokens(first.tokenizer, [response])[0])
        if config.min_tokens <= tokens <= (config.max_tokens or tokens):
            pair = (row["prompt"], response)
            if pair not in kept:
                kept.append(pair)
        if len(kept) == wanted:
            break
    if len(kept) < wanted:
        raise InputError(
            f"{config.pairs}: {len(kept)} different responses of the asked length, {wanted} are "
            "needed; give fewer columns or draws"
        )
    for draw in range(config.draws):
        size = config.systems or len(candidates)
        some = [candidates[i] for i in sorted(rng.permutation(len(candidates))[:size])]
        texts = kept[draw * config.columns : (draw + 1) * config.columns]
        made.append(Draw(some, [p for p, _ in texts], [r for _, r in texts]))
    return made


def measure(run: RunFolder, candidates: list[str | None], config: Config) -> dict[str, Any]:
    """All numbers of the report."""
    matrices, shape = all_matrices(run, candidates, config)
    rng = np.random.default_rng([config.seed, 0x6A])
    gauss = {GAUSSIAN: [rng.normal(size=shape) for _ in range(config.draws)]}
    toy = Toy(dim=config.toy_dim, prompts=config.toy_prompts)
    with track("exact toy", config.toy_seeds, "seeds") as progress:
        runs = []
        for seed in range(config.toy_seeds):
            runs.append(run_toy(toy, seed))
            progress.advance(1)
    last = fit_last(config, min(shape))
    results: dict[str, Any] = {
        "models": [name for name in matrices if name not in map(random_twin, matrices)],
        "shape": list(shape),
        "draws": config.draws,
        "k": config.top_k,
        "spectra": spectra({**matrices, **gauss}, config.fit_first, last),
        "residuals": residuals({**matrices, **gauss}, config.ranks),
        "angles": [],
        "toy": toy_rows(runs),
    }
    results["angles"] = angles(matrices, results["models"], config.top_k, config.gaussian_draws)
    return results | {"claims": claims(results, config.draws)}


def all_matrices(
    run: RunFolder, candidates: list[str | None], config: Config
) -> tuple[dict[str, list[Matrix]], tuple[int, int]]:
    """X of every model and of its random weights, a matrix a draw; one model at a time is in
    memory."""
    found: dict[str, list[Matrix]] = {}
    draws: list[Draw] = []
    options = ScoringOptions()
    for i, name in enumerate(config.models):
        model = config.load_named(name)
        draws = draws or draw_texts(candidates, model, config)
        weights = init_params(jax.random.key(config.seed), model.cfg, model.params["embed"].dtype)
        twin = replace(model, params=weights, name=random_twin(model.name))
        for one in (model, twin):
            total = sum(len(d.systems) * len(d.prompts) for d in draws)
            folder = run.path / "matrices" / (f"{i}" if one is model else f"{i}-random")
            with track(one.name, total, "log-probabilities") as progress:
                found[one.name] = [
                    _matrix(one, draw, folder / f"draw-{number}", options, progress.advance)
                    for number, draw in enumerate(draws)
                ]
    return found, (len(draws[0].systems), len(draws[0].prompts))


def _matrix(
    model: Model, draw: Draw, folder: Path, options: ScoringOptions, advance: Callable[[int], Any]
) -> Matrix:
    found = log_prob_matrix(model, *draw, options, folder=folder, progress=advance)
    if not np.isfinite(found).all():
        raise InputError(f"{model.name} gives log-probabilities that are not finite; try float32")
    return found
