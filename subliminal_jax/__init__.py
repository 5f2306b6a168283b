"""Subliminal learning in JAX: steering vectors, students, and the mechanics of optimizers."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# What the package offers to Python, and where it is defined. Imported when first asked for: the
# command line and `import subliminal_jax` itself need no JAX.
_PUBLIC = {
    "load_model": "models.hub",
    "forward": "models.forward",
    "Capture": "models.forward",
    "to_nnx": "models.nnx",
    "from_nnx": "models.nnx",
    "steer": "models.steered",
    "Teacher": "steering.teacher",
    "trait_vector": "api",
    "sample_pairs": "api",
    "grid": "api",
    "sweep": "api",
    "Alignment": "api",
    "LoRA": "training.adapters",
    "Full": "training.adapters",
    "Vector": "training.adapters",
    "CrossEntropy": "training.objectives",
    "KL": "training.objectives",
    "DPO": "training.preference",
    "register_optimizer": "training.optimizers",
    "Interval": "evaluation.statistics",
    "InputError": "errors",
}
__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from subliminal_jax.api import Alignment, grid, sample_pairs, sweep, trait_vector
    from subliminal_jax.errors import InputError
    from subliminal_jax.evaluation.statistics import Interval
    from subliminal_jax.models.forward import Capture, forward
    from subliminal_jax.models.hub import load_model
    from subliminal_jax.models.nnx import from_nnx, to_nnx
    from subliminal_jax.models.steered import steer
    from subliminal_jax.steering.teacher import Teacher
    from subliminal_jax.training.adapters import Full, LoRA, Vector
    from subliminal_jax.training.objectives import KL, CrossEntropy
    from subliminal_jax.training.optimizers import register_optimizer
    from subliminal_jax.training.preference import DPO


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
