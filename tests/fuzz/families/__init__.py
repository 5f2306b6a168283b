"""The families of inputs; each changes a sound input and gives it to the entry that reads it."""

from tests.fuzz.families import (
    adapters,
    checkpoints,
    configs,
    flags,
    gguf_models,
    questions,
    rows,
    run_folders,
    tokenizers,
    vectors,
    weights,
)
from tests.fuzz.families.base import Wrong

__all__ = ["FAMILIES", "Wrong"]

# Each module has `prepare()`, which makes what all cases share and is not timed, and
# `run(rng, folder)`, one case: it returns for an input that is accepted, lets InputError pass, and
# raises `Wrong` where a reference reads the input otherwise.
FAMILIES = {
    "configs": configs,
    "weights": weights,
    "gguf-models": gguf_models,
    "tokenizers": tokenizers,
    "rows": rows,
    "questions": questions,
    "vectors": vectors,
    "adapters": adapters,
    "checkpoints": checkpoints,
    "run-folders": run_folders,
    "flags": flags,
}
