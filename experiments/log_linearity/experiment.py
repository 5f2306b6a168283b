"""Are language models approximately log-linear, and do two of them share a row space?

    subliminal-jax log-linearity --preset toy

For each model a matrix X of log P(response | system prompt, prompt): a row for each system prompt,
a column for each pair of prompt and response. Reported: its singular values with the slope of a
power law fitted over stated ranks; how well factors of rank k predict entries of system prompts and
pairs that they were not fitted to; the principal angles between the top row spaces of the models,
against random weights and against Gaussian matrices. All of that for X, and for X without each
pair's mean, on which log-ratios between system prompts do not depend. Beside it an exactly
log-linear toy, on which the theorem on logit-linear selection has to hold.

Intervals are over draws of system prompts and pairs. Nothing here was tuned. In the toy, system
prompts are eight phrasings for each of the world's 16 animals and a few neutral ones. The paper
(Aden-Ali et al. 2026, arXiv 2602.04863) took 2000 personas and 2000 responses of 8 to 64 tokens
from Tulu 2.5; its persona prompts are not public, so give a file with one a line. Of its models
only that they are several is known: the paper preset takes two that it trains elsewhere.

About five minutes on 2 CPU cores. Expected: no power law (slopes of -1.5 and -1.7, with a cliff
behind rank 16, the number of the world's personas); factors of rank 16 predict 92% of the variance
of held-out entries with errors of 0.8 nats, 10 at most, so that the entrywise bound of the theory
does not hold at a useful size (random weights are as low in rank, with a variance near zero); a
mean cosine of 0.72 between the two models, against 0.40 for random weights and 0.24 for Gaussian
matrices; on the exact toy 0.996 for selected pairs, -0.997 for the bottom, about zero for random.
"""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import init_params
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.selection.log_linear_model import Toy, ToyResult, run_toy
from subliminal_jax.selection.log_linearity import log_prob_matrix

from .analysis import GAUSSIAN, Matrix, Measured, Results, analyse, random_twin
from .claims import make_claims
from .config import PRESETS, Config, read_system_prompts
from .report import make_page
from .texts import Texts, check_texts, draw_texts, read_pairs


def run(config: Config, folder: RunFolder) -> Measured:
    """Measure every model's matrices, and the toy's correlations.

    Raises InputError for too few texts, for texts that a model's chat template does not render, and
    for a model whose log-probabilities are not finite.
    """
    candidates = read_system_prompts(config)
    pairs = read_pairs(config, config.seed)
    outlines = [config.outline_named(name) for name in config.models]
    texts = draw_texts(candidates, pairs.rows, outlines[0].tokenizer, config, config.seed)
    for outline in outlines:
        check_texts(outline, texts)
    matrices: dict[str, list[Matrix]] = {}
    names = []
    for i, name in enumerate(config.models):
        model = config.load_named(name)  # one model at a time is in memory
        weights = init_params(jax.random.key(config.seed), model.cfg, model.params["embed"].dtype)
        twin = replace(model, params=weights, name=random_twin(model.name))
        matrices[model.name] = measure_matrices(model, texts, folder.path / f"matrices/{i}")
        matrices[twin.name] = measure_matrices(twin, texts, folder.path / f"matrices/{i}-random")
        names.append(model.name)
    shape = len(texts[0].system_prompts), len(texts[0].prompts)
    rng = np.random.default_rng([config.seed, 0x6A])
    matrices[GAUSSIAN] = [rng.normal(size=shape) for _ in range(config.draws)]
    return Measured(
        models=tuple(names),
        shape=shape,
        draws=config.draws,
        k=config.top_k,
        matrices=matrices,
        toy=run_toys(Toy(dim=config.toy_dim, prompts=config.toy_prompts), config.toy_seeds),
        fit_ranks=config.fit_ranks(min(shape)),
        ranks=config.ranks,
        gaussian_draws=config.gaussian_draws,
        dropped_rows=dict(pairs.dropped),
    )


def measure_matrices(model: Model, texts: list[Texts], folder: Path) -> list[Matrix]:
    """X of the model, one a draw; they are kept in `folder`.

    Raises InputError where it is not finite.
    """
    total = sum(len(draw.system_prompts) * len(draw.prompts) for draw in texts)
    matrices = []
    with track(model.name, total, "log-probabilities") as progress:
        for i, draw in enumerate(texts):
            path = folder / f"draw-{i}"
            matrices.append(log_prob_matrix(model, *draw, folder=path, progress=progress.advance))
    if not all(np.isfinite(matrix).all() for matrix in matrices):
        raise InputError(
            f"{model.name} gives log-probabilities that are not finite; try --dtype float32"
        )
    return matrices


def run_toys(toy: Toy, seeds: int) -> list[list[ToyResult]]:
    """The students of the exactly log-linear toy, by seed."""
    students = []
    with track("exact toy", seeds, "seeds") as progress:
        for seed in range(seeds):
            students.append(run_toy(toy, seed))
            progress.advance(1)
    return students


EXPERIMENT = Experiment(
    name="log-linearity",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
