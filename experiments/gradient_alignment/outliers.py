"""Where in the gradient of LoRA's factors the signal sits: tails, noise, and the largest tenth.

At the start LoRA's B is zero and so is the gradient of A, so A is fixed here and B alone is looked
at. The component along the vector is that on the gradient of the steering score
(`diagnostics.parameter_space`).
"""

import math
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
from subliminal_jax.models.tokenizer import encode_chat
from subliminal_jax.training.adapters import LoRA, Trainable, attach, init_trainable
from subliminal_jax.training.batch import Batch

Outliers = dict[str, Any]
PROBE_PROMPTS = 16


def outliers(
    model: Model,
    teacher: Batch,
    clean: Batch,
    vector: Float[np.ndarray, " dim"],
    layer: int,
    *,
    rank: int,
    alpha: float,
    seed: int,
) -> Outliers:
    """The gradients of the base on a teacher's rows and on as many clean ones; `seed` draws A.

    excess_kurtosis, hill_index, noise_scale, signal_to_noise (quantiles .1, .5, .9, .99): of the
      teacher's mean gradient g_T over its coordinates.
    squared, top_mass, decile_mass: |g_T|², and the shares of it in the largest 1% and tenth of its
      coordinates.
    component, decile_component: <∇S, g_C - g_T>, what a step on the difference moves the steering
      score by, and the share of it in the coordinates of that same tenth of g_T.
    cosine_difference, cosine_own, cosine_clean: cosines of ∇S with g_C - g_T, -g_T and -g_C.
    """
    asked = teacher_prompts("numbers", PROBE_PROMPTS, seed=1_000_003)
    probe = make_probe([encode_chat(model.tokenizer, p) for p in asked], model.cfg)
    adapter = LoRA(rank, alpha)
    tree = init_trainable(jax.random.key(seed), model.params, model.cfg, adapter)
    values = _anatomies(
        model.params, tree, teacher, clean, probe, vector, model.cfg, adapter, layer
    )
    return jax.tree.map(lambda x: np.asarray(x).tolist(), values)


@partial(jax.jit, static_argnames=("cfg", "adapter", "layer"))
def _anatomies(
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

    at_once = math.gcd(len(teacher.tokens), 8)
    own, other = (gradient_moments(row_losses, b, rows, at_once) for rows in (teacher, clean))
    score = score_gradient(student, b, probe, cfg, vector, layer)
    like = ravel_pytree(b)[1]
    difference = like(other.mean - own.mean)
    found = anatomy(like(own.mean), difference, score)
    summary = noise_summary(own)
    clean_cosine = anatomy(like(other.mean), difference, score)["gradient_cosine"]
    return {
        "excess_kurtosis": summary["excess_kurtosis"],
        "hill_index": summary["hill_index"],
        "noise_scale": summary["noise_scale"],
        "signal_to_noise": summary["signal_to_noise_quantiles"],
        "squared": found["gradient_norm"] ** 2,
        "top_mass": found["gradient_top_mass"][1],
        "decile_mass": found["gradient_decile_mass"][0],
        "decile_masses": found["gradient_decile_mass"],
        "component": found["update_component"],
        "decile_component": found["update_decile_component"][0],
        "decile_components": found["update_decile_component"],
        "cosine_difference": found["update_cosine"],
        "cosine_own": found["gradient_cosine"],
        "cosine_clean": clean_cosine,
    }
