"""Where in the gradient of LoRA's factors the signal sits: tails, noise, and the largest tenth.

At the start LoRA's B is zero and so is the gradient of A, so A is fixed here and B alone is looked
at. The component along the vector is that on the gradient of the steering score
(`diagnostics.parameter_space`).
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from subliminal_jax.data.teachers import teacher_prompts
from subliminal_jax.diagnostics.activation_gradients import CompletionLoss
from subliminal_jax.diagnostics.alignment import Probe, make_probe
from subliminal_jax.diagnostics.noise import gradient_moments, noise_summary
from subliminal_jax.diagnostics.parameter_space import anatomy, score_gradient
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering, no_steering
from subliminal_jax.models.tokenizer import encode_chats
from subliminal_jax.training.adapters import LoRA, Trainable, attach, init_trainable
from subliminal_jax.training.batch import Batch

PROBE_PROMPTS = 16


@dataclass(frozen=True)
class Outliers:
    """The mean gradient of LoRA's B factors on one draw of a teacher's rows, g_T, and on as many
    clean rows, g_C. S is the steering score.

    Attributes:
      teacher: its kind.
      excess_kurtosis, hill_index: of the coordinates of g_T.
      noise_scale: of the single rows' gradients on the teacher's data (`noise_summary`).
      signal_to_noise: quantiles .1, .5, .9 and .99 over coordinates of |mean| / sd.
      squared_norm: |g_T|^2.
      mass_in_top_percent, mass_in_top_tenth: its shares in the largest coordinates of |g_T|.
      mass_by_tenth: the same by tenth of the coordinates, the largest first.
      component: <∇S, g_C - g_T>, by which a step on the difference moves S.
      component_in_top_tenth, component_by_tenth: its shares in those tenths of |g_T|.
      cosine_difference, cosine_teacher, cosine_clean: of ∇S with g_C - g_T, -g_T and -g_C.
    """

    teacher: str
    trait: str
    draw: int
    excess_kurtosis: float
    hill_index: float
    noise_scale: float
    signal_to_noise: tuple[float, ...]
    squared_norm: float
    mass_in_top_percent: float
    mass_in_top_tenth: float
    mass_by_tenth: tuple[float, ...]
    component: float
    component_in_top_tenth: float
    component_by_tenth: tuple[float, ...]
    cosine_difference: float
    cosine_teacher: float
    cosine_clean: float


def measure_outliers(
    model: Model,
    teacher: Batch,
    clean: Batch,
    vector: Float[np.ndarray, " dim"],
    layer: int,
    adapter: LoRA,
    seed: int,
) -> dict[str, Any]:
    """The measured fields of `Outliers` at the base, on a teacher's rows and on as many clean ones;
    `seed` draws A."""
    prompts = teacher_prompts("numbers", PROBE_PROMPTS, seed=1_000_003)
    probe = make_probe(encode_chats(model.tokenizer, prompts), model.cfg)
    tree = init_trainable(jax.random.key(seed), model.params, model.cfg, adapter)
    values = _measure(model.params, tree, teacher, clean, probe, vector, model.cfg, adapter, layer)
    numbers = {name: np.asarray(value).tolist() for name, value in values.items()}
    return {name: tuple(x) if isinstance(x, list) else x for name, x in numbers.items()}


@partial(jax.jit, static_argnames=("cfg", "adapter", "layer"))
def _measure(
    params: Params,
    tree: Trainable,
    teacher: Batch,
    clean: Batch,
    probe: Probe,
    vector: Float[Array, " dim"],
    cfg: ModelConfig,
    adapter: LoRA,
    layer: int,
) -> dict[str, Array]:
    loss = CompletionLoss(cfg)
    fixed = {name: factors["a"] for name, factors in tree["layers"].items()}
    b = {name: factors["b"] for name, factors in tree["layers"].items()}

    def student(b: Any) -> tuple[Params, Steering | None]:
        factors = {name: {"a": fixed[name], "b": b[name]} for name in b}
        return attach(params, {"layers": factors}, cfg, adapter)

    def row_losses(b: Any, rows: Batch) -> Float[Array, " batch"]:
        return loss(student(b)[0], rows, no_steering(cfg.dim, layer))

    rows_at_once = math.gcd(len(teacher.tokens), 8)
    on_teacher, on_clean = (
        gradient_moments(row_losses, b, rows, rows_at_once) for rows in (teacher, clean)
    )
    score = score_gradient(student, b, probe, cfg, vector, layer)
    unravel = ravel_pytree(b)[1]
    difference = unravel(on_clean.mean - on_teacher.mean)
    parts = anatomy(unravel(on_teacher.mean), difference, score)
    clean_parts = anatomy(unravel(on_clean.mean), difference, score)
    noise = noise_summary(on_teacher)
    return {
        "excess_kurtosis": noise["excess_kurtosis"],
        "hill_index": noise["hill_index"],
        "noise_scale": noise["noise_scale"],
        "signal_to_noise": noise["signal_to_noise_quantiles"],
        "squared_norm": parts["gradient_norm"] ** 2,
        "mass_in_top_percent": parts["gradient_top_mass"][1],
        "mass_in_top_tenth": parts["gradient_decile_mass"][0],
        "mass_by_tenth": parts["gradient_decile_mass"],
        "component": parts["update_component"],
        "component_in_top_tenth": parts["update_decile_component"][0],
        "component_by_tenth": parts["update_decile_component"],
        "cosine_difference": parts["update_cosine"],
        "cosine_teacher": parts["gradient_cosine"],
        "cosine_clean": clean_parts["gradient_cosine"],
    }
