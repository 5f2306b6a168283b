"""What training, sampling, scoring and diagnostics give on a mesh: run by tests/test_mesh.py.

python -m tests.mesh_results FOLDER MESH... writes FOLDER/MESH.npz for each MESH, "alone" (one
device, no mesh) or "2x4" (data x model), one after the other; each also goes on from the checkpoint
that the one before left at half of its training.
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

from subliminal_jax.compilation import count_compilations
from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.diagnostics.activation_gradients import (
    CompletionLoss,
    example_components,
    gradient_table,
)
from subliminal_jax.diagnostics.alignment import make_probe, mean_activation
from subliminal_jax.diagnostics.parameter_space import anatomy, score_gradient
from subliminal_jax.files import atomic_path
from subliminal_jax.models.hub import Model
from subliminal_jax.models.mesh import gather_to_host, make_mesh, place_params
from subliminal_jax.models.sampling import SamplingConfig, generate
from subliminal_jax.models.steered import steer
from subliminal_jax.training.adapters import Full, LoRA
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.checkpoints import Checkpoints
from subliminal_jax.training.log_probs import response_log_probs
from subliminal_jax.training.loop import from_stored, to_stored
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.student_view import StudentView
from subliminal_jax.training.sweep import Sweep
from tests.models.families import LLAMA, noisy_params
from tests.training.tiny import Recorded

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
    """Longer than any of them, so that a batch's rows are packed where the mesh lets them."""
    return pad_pairs(*pairs(n, seed), 16)


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
        model.params,
        prompts,
        model.cfg,
        0,
        sampling,
        steer(jnp.asarray(VECTOR), LAYER),
        batch_size=6,
    )
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
    live: bool = True,
    here: Path | None = None,
    before: Path | None = None,
) -> dict[str, Any]:
    """Two times two steps, `live` with diagnostics. The state between is saved `here`; what one
    saved in `before` comes to with the other two is `resumed`."""
    arms = [
        Arm(OptimizerSpec.parse(optimizers[i % len(optimizers)]), 1e-2, seed=i, data="ab"[i % 2])
        for i in range(students)
    ]
    plan = TrainConfig(steps=4, batch_size=8, adapter=adapter, log_every=2, clip=1.0)
    context = make_probe(pairs(4)[0], CFG), jnp.asarray(VECTOR)
    data = {"a": rows(16), "b": rows(16, seed=1)}
    sweep = Sweep(
        model.params, CFG, arms, data, plan, measures=[Recorded(measure, context)] if live else []
    )
    state = sweep.init()
    numbers: dict[str, Any] = {"padding": sweep.padding_share}
    with count_compilations() as compiled:
        for step in (2, 4):
            state, metrics = sweep.advance(state)
            numbers |= {f"{step}.{name}": value for name, value in metrics.items()}
            if step == 2 and here is not None:
                Checkpoints(here).save(step, to_stored(sweep, state))
    numbers["programs"] = compiled.count("_advance_fn")  # one, if the state stays where it was
    numbers["diverged_at"] = sweep.diverged_at(state)
    numbers["heldout"] = sweep.evaluate(state, {"a": rows(8, seed=2), "b": rows(8, seed=3)})
    numbers |= named(sweep.students(state))
    if before is not None:
        stored = Checkpoints(before).restore(to_stored(sweep, sweep.init()))
        state, _ = sweep.advance(from_stored(sweep, stored))
        numbers |= {f"resumed.{name}": leaf for name, leaf in named(sweep.students(state)).items()}
    return numbers


def named(tree: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path): gather_to_host(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def diagnosed(model: Model) -> dict[str, Any]:
    loss, data = CompletionLoss(CFG), rows(6)
    table = gradient_table(loss, model.params, data, jnp.asarray(VECTOR), LAYER, batch_size=4)
    along = jax.jit(partial(example_components, loss), static_argnums=3)
    return {
        **table._asdict(),
        "components": along(model.params, data, jnp.asarray(VECTOR), LAYER),
    }


def results(here: Path, before: Path | None, training_alone: bool) -> dict[str, np.ndarray]:
    params = place_params(noisy_params(CFG), CFG)
    model = Model(params, CFG, None, "tiny", Path(), (), 0)
    lora, optimizers = LoRA(rank=2, targets=("q", "o", "up")), ("momentum", "adamw:eps=1e-4")
    numbers: dict[str, dict[str, Any]] = {}
    if not training_alone:
        numbers = {
            "sampling": sampled(model),
            "scoring": scored(model),
            "diagnostics": diagnosed(model),
        }
    numbers |= {
        "students": trained(model, 9, lora, optimizers, here=here, before=before),
        "rows": trained(model, 1, Full(), ("momentum",), live=False),
    }
    return {
        f"{part}.{name}": np.asarray(value)
        for part, values in numbers.items()
        for name, value in values.items()
    }


def write(file: Path, numbers: dict[str, np.ndarray]) -> None:
    with atomic_path(file) as temporary, temporary.open("wb") as opened:
        np.savez(opened, **numbers)


def main(folder: Path, *meshes: str) -> None:
    before = None
    for name in meshes:
        here = folder / f"checkpoints-{name}"
        with devices(name):
            # Rows that are shared out alone: other parts are shown on meshes that share both.
            write(folder / f"{name}.npz", results(here, before, training_alone=name == "8x1"))
        before = here


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
