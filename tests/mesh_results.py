"""What training, sampling, scoring and diagnostics give on a mesh: run by tests/test_mesh.py.

python -m tests.mesh_results FOLDER MESH... writes FOLDER/MESH.npz for each MESH, "alone" (one
device, no mesh) or "2x4" (data x model).
"""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.diagnostics.activation_gradients import (
    CompletionLoss,
    example_components,
    gradient_table,
)
from subliminal_jax.diagnostics.alignment import make_probe, mean_activation
from subliminal_jax.diagnostics.parameter_space import anatomy, score_gradient
from subliminal_jax.models.hub import Model
from subliminal_jax.models.mesh import make_mesh, place_params
from subliminal_jax.models.sampling import SamplingConfig, generate
from subliminal_jax.models.steered import steer
from subliminal_jax.training.adapters import Full, LoRA, Vector
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.log_probs import response_log_probs
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.sweep import StudentView, Sweep
from tests.models.families import LLAMA, noisy_params

# Four heads, hidden units and vocabulary are cut in four; two key-value heads are not.
CFG = replace(LLAMA, vocab=64, layers=2, context=32)
LAYER = 0
VECTOR = np.linspace(-1, 1, CFG.dim, dtype=np.float32)


def pairs(n: int, seed: int = 0) -> tuple[list[list[int]], list[list[int]]]:
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(CFG.vocab, size=rng.integers(2, 5)).tolist() for _ in range(n)]
    completions = [rng.integers(CFG.vocab, size=rng.integers(2, 7)).tolist() for _ in range(n)]
    return prompts, completions


def rows(n: int, seed: int = 0) -> Batch:
    return pad_pairs(*pairs(n, seed), 10)


@contextlib.contextmanager
def devices(name: str) -> Iterator[None]:
    if name == "alone":
        yield
        return
    data, model = map(int, name.split("x"))
    with jax.set_mesh(make_mesh(data, model)):
        yield


def sampled(model: Model) -> dict[str, Any]:
    prompts, _ = pairs(11)
    sampling = SamplingConfig(5, temperature=0.7, top_p=0.9, stop_tokens=(3,))
    out = generate(
        model.params, prompts, model.cfg, 0, sampling, steer(jnp.asarray(VECTOR), LAYER),
        batch_size=6,
    )  # fmt: skip
    return out._asdict()


def scored(model: Model) -> dict[str, Any]:
    prompts, completions = pairs(11)
    responses = [[c, c[::-1]] for c in completions]
    return {
        cache: response_log_probs(model, prompts, responses, prompt_cache=cache)
        for cache in ("always", "never")
    }


def measure(context: Any, view: StudentView) -> dict[str, Any]:
    """The update's anatomy along the steering score, and where the student stands."""
    probe, vector = context
    gradient = score_gradient(view.model, view.before, probe, CFG, vector, LAYER)
    params, steering = view.model(view.trainable)
    parts = anatomy(view.gradient, view.update, gradient)
    return {
        "mean": mean_activation(params, probe, CFG, (0, 1), steering),
        **{name: parts[name] for name in ("update_component", "gradient_cosine", "update_norm")},
    }


def trained(
    model: Model,
    students: int,
    adapter: Any,
    optimizers: tuple[str, ...],
    folder: Path | None = None,
) -> dict[str, Any]:
    arms = [
        Arm(OptimizerSpec.parse(optimizers[i % len(optimizers)]), 1e-2, seed=i, data="ab"[i % 2])
        for i in range(students)
    ]
    plan = TrainConfig(steps=4, batch_size=8, adapter=adapter, log_every=2, clip=1.0)
    context = make_probe(pairs(4)[0], CFG), jnp.asarray(VECTOR)
    data = {"a": rows(16), "b": rows(16, seed=1)}
    sweep = Sweep(model.params, CFG, arms, data, plan, measure=measure, context=context)
    state = sweep.init()
    found: dict[str, Any] = {}
    for step in (2, 4):
        state, metrics = sweep.advance(state)
        found |= {f"{step}.{name}": value for name, value in metrics.items()}
    found["heldout"] = sweep.evaluate(state, {"a": rows(6, seed=2), "b": rows(6, seed=3)})
    for path, leaf in jax.tree_util.tree_leaves_with_path(sweep.students(state)):
        found[jax.tree_util.keystr(path)] = leaf
    return found


def diagnosed(model: Model) -> dict[str, Any]:
    loss, data = CompletionLoss(CFG), rows(6)
    table = gradient_table(loss, model.params, data, jnp.asarray(VECTOR), LAYER, batch_size=4)
    along = jax.jit(partial(example_components, loss), static_argnums=3)
    return {
        **table._asdict(),
        "components": along(model.params, data, jnp.asarray(VECTOR), LAYER),
    }


def results() -> dict[str, np.ndarray]:
    params = place_params(noisy_params(CFG), CFG)
    model = Model(params, CFG, None, "tiny", Path(), (), 0)
    found = {
        "sampled": sampled(model),
        "scored": scored(model),
        "diagnosed": diagnosed(model),
        "lora": trained(
            model, 9, LoRA(rank=2, targets=("q", "o", "up")), ("momentum", "adamw:eps=1e-4")
        ),
        "full": trained(model, 1, Full(), ("muon",)),
    }
    return {
        f"{part}.{name}": np.asarray(value)
        for part, values in found.items()
        for name, value in values.items()
    }


def main(folder: str, *meshes: str) -> None:
    for name in meshes:
        with devices(name):
            np.savez(Path(folder) / f"{name}.npz", **results())


if __name__ == "__main__":
    main(*sys.argv[1:])
