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

Toy preset: about four minutes on 2 CPU cores; eight traits (`--traits cat dog tiger eagle fox bear
whale dolphin`) take twice the time. Expected: with the steered teacher the
cosine rises with N to several tenths at the steering layer; the control stays at zero.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax.data.teachers import Teacher, prompted_teacher, trait_teacher, trait_vectors
from subliminal_jax.data.traits import trait_names
from subliminal_jax.diagnostics.activation_gradients import (
    CompletionLoss,
    layer_gradients,
    predicting,
    prompt_ends,
)
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.runs.data_sets import DataSets, slice_rows, write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.training.adapters import LoRA
from subliminal_jax.training.batch import Batch

from .analysis import Measured, Results, analyse, make_claims
from .config import PRESETS, Config
from .cosines import Cosines, DrawGradients, Gradients
from .outliers import Outliers, measure_outliers
from .report import make_page

CLEAN = ("control", "control-again")


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher and two clean sets; take gradients of the base on all of them.

    Raises InputError where too few answers pass the filter.
    """
    model = config.load()
    layer = config.choose_layer(model)
    vectors = {
        t: np.asarray(trait_vectors(model, range(model.cfg.layers), t)) for t in config.traits
    }
    teachers = make_teachers(model, layer, config)
    forbidden = {
        name: trait_names(name.partition("-")[0]) for name in teachers if name not in CLEAN
    }
    data = write_data_sets(folder.path, model, teachers, config, config.seed, forbidden=forbidden)
    cosines = measure_cosines(model, data, vectors, layer, config)
    return Measured(
        model=model.name,
        layer=layer,
        layers=model.cfg.layers,
        traits=config.traits,
        teachers=config.teachers,
        carrier=f"{'filtered' if config.keep == 'numbers' else 'unfiltered'} {config.prompts}",
        draws=config.draws,
        largest_n=config.rows_per_draw,
        noise_rows=config.noise_rows,
        chance_share=1 / model.cfg.dim,
        vector_norms={t: tuple(np.linalg.norm(v, axis=-1).tolist()) for t, v in vectors.items()},
        data=data.reports,
        pooled=tuple(cosines.pooled),
        rows=cosines.single_rows(),
        curves=cosines.curves(),
        outliers=measure_parameter_space(model, data, vectors, layer, config),
    )


def make_teachers(model: Model, layer: int, config: Config) -> dict[str, Teacher]:
    """Teachers by the name of their data set: the two clean ones, and TRAIT-KIND."""
    teachers = dict.fromkeys(CLEAN, Teacher())
    for trait in config.traits:
        if "steered" in config.teachers:
            teachers[f"{trait}-steered"] = trait_teacher(model, layer, trait, config.scale)
        if "system-prompt" in config.teachers:
            teachers[f"{trait}-system-prompt"] = prompted_teacher(trait)
    return teachers


def measure_cosines(
    model: Model, data: DataSets, vectors: dict[str, np.ndarray], layer: int, config: Config
) -> Cosines:
    """Cosines of the base's gradients with the vectors, for each draw of every teacher's rows."""
    n = config.rows_per_draw
    cosines = Cosines(vectors, layer, config.row_batch)
    with track("gradients", len(data.train) * n * config.draws, "rows") as progress:

        def gradients(name: str, draw: int) -> Gradients:
            progress.advance(n, note=name)
            rows = slice_rows(data.train[name], draw * n, (draw + 1) * n)
            return base_gradients(model, rows, config.backward_rows)

        for draw in range(config.draws):
            clean, again = (gradients(name, draw) for name in CLEAN)
            for kind in config.teachers:
                for trait in config.traits:
                    teacher = gradients(f"{trait}-{kind}", draw)
                    cosines.add(kind, trait, draw, DrawGradients(teacher, clean, again))
    return cosines


def base_gradients(model: Model, rows: Batch, rows_at_once: int) -> Gradients:
    """Per-example gradients of the base's mean completion loss after every block: at the last
    prompt token, summed over the tokens that predict the completion, and over all tokens."""
    n = len(rows.tokens)
    pieces = []
    for start in range(0, n, rows_at_once):
        # The last piece repeats rows, which are cut off again: one shape, one compiled program.
        indices = np.arange(start, start + rows_at_once) % n
        piece = jax.tree.map(lambda x, indices=indices: x[indices], rows)
        gradients = np.asarray(_gradients(model.params, piece, model.cfg))
        pieces.append(gradients[:, :, : n - start])
    return np.concatenate(pieces, axis=2)


@partial(jax.jit, static_argnames="cfg")
def _gradients(params: Params, rows: Batch, cfg: ModelConfig) -> jax.Array:
    masks = jnp.stack([prompt_ends(rows), predicting(rows), rows.positions[:, :-1] >= 0])
    return layer_gradients(CompletionLoss(cfg), params, rows, tuple(range(cfg.layers)), masks)


def measure_parameter_space(
    model: Model, data: DataSets, vectors: dict[str, np.ndarray], layer: int, config: Config
) -> tuple[Outliers, ...]:
    """Tails and noise of the gradient of LoRA's factors, for each teacher and draw."""
    adapter = LoRA(config.rank, config.alpha)
    outliers = []
    total = len(config.teachers) * len(config.traits) * config.draws
    with track("parameter space", total, "gradients") as progress:
        for kind in config.teachers:
            for trait in config.traits:
                for draw in range(config.draws):
                    start = draw * config.rows_per_draw
                    teacher_rows, clean_rows = (
                        slice_rows(data.train[name], start, start + config.noise_rows)
                        for name in (f"{trait}-{kind}", "control")
                    )
                    vector = vectors[trait][layer]
                    values = measure_outliers(
                        model, teacher_rows, clean_rows, vector, layer, adapter, seed=draw
                    )
                    outliers.append(Outliers(kind, trait, draw, **values))
                    progress.advance(note=f"{trait}-{kind}")
    return tuple(outliers)


EXPERIMENT = Experiment(
    name="gradient-alignment",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
