"""Models of chosen shapes with random weights, in a folder that both sides load."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import subliminal_jax
from benchmarks.machine import cores
from benchmarks.workers import BenchmarkError, Setting, call
from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig, config_from_hf

# Shapes of decoder-only Llamas; "shipped" is the model of the package, with its weights.
DIMENSIONS = ("vocab", "dim", "layers", "heads", "kv_heads", "head_dim", "mlp_dim")
SHAPES: dict[str, dict[str, int]] = {
    name: dict(zip(DIMENSIONS, sizes, strict=True))
    for name, sizes in {
        "tiny": (256, 32, 2, 2, 1, 16, 64),
        "512x8": (8192, 512, 8, 8, 4, 64, 1536),
        "135M": (49_152, 576, 30, 9, 3, 64, 1536),  # SmolLM2's
        "0.5B": (151_936, 896, 24, 14, 2, 64, 4864),
        "0.5B/4": (151_936, 896, 6, 14, 2, 64, 4864),
        "7B": (152_064, 3584, 28, 28, 4, 128, 18_944),
    }.items()
}

# Widest model for which one device per core is faster; wider ones pack the same weights on each.
NARROW = 256
SHIPPED = Path(subliminal_jax.__file__).parent / "models" / "shipped"


# Environment variable with a folder of models that several benchmarks share: 7B weights take 15 GB
# and a minute to write.
CACHE = "SUBLIMINAL_JAX_BENCHMARK_MODELS"


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """The folder named by the variable `CACHE`, or one that is removed afterwards."""
    if folder := os.environ.get(CACHE):
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def model_folder(shape: str, cache: Path) -> str:
    """The folder of a model of this shape, written into `cache` unless it is there already.

    Raises InputError for a shape that is none of `SHAPES`.
    """
    if shape == "shipped":
        return str(SHIPPED)
    if shape not in SHAPES:
        raise InputError(f"there is no shape {shape!r}; choose shipped or {', '.join(SHAPES)}")
    folder = cache / shape.replace("/", "-")
    if not (folder / "config.json").is_file():
        call(f"{__name__}:write", str(folder), SHAPES[shape])
    return str(folder)


def make_config(dimensions: dict[str, int]) -> ModelConfig:
    """The configuration of one of `SHAPES`."""
    return ModelConfig(family="llama", context=4096, **dimensions)  # type: ignore[arg-type]


def config_of(folder: str | Path) -> ModelConfig:
    """The configuration of the model in `folder`."""
    return config_from_hf(json.loads((Path(folder) / "config.json").read_text()))


def write(folder: str, shape: dict[str, int]) -> None:
    """Draw weights of this shape, and save them in bfloat16, which both sides widen alike.

    Of a 7B model the accelerator, which is empty then, holds the weights (14 GB) and the widest
    stack in float32 twice while it is drawn (15 GB); the host holds a file of 2 GB at a time.
    """
    import jax
    import jax.numpy as jnp

    from subliminal_jax.models.hub import save_model
    from subliminal_jax.models.spec import init_params

    cfg = make_config(shape)
    params = init_params(jax.random.key(0), cfg, jnp.bfloat16)
    save_model(folder, params, cfg)


def load_peer(folder: str, dtype: str = "float32", device: str = "cpu") -> Any:
    """transformers' model of `folder` on `device`, with its own choice of attention."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(cores())
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    return model.to(device)


def peer_device(setting: Setting) -> str:
    """Where the peer computes: "cuda" where our side has an accelerator, else "cpu".

    Raises BenchmarkError where torch cannot compute there: no ratio is of two kinds of machines.
    """
    import torch

    if setting.get("platform", "cpu") == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        raise BenchmarkError(
            f"JAX computes on a {setting['platform']} but torch {torch.__version__} sees no CUDA "
            "device: install torch for CUDA, or compare on the CPU by JAX_PLATFORMS=cpu"
        )
    return "cuda"


def load_ours(folder: str, dtype: str = "float32") -> tuple[Any, ModelConfig]:
    """(params, cfg) of `folder`; its tokenizer, which random weights lack, is not read."""
    from subliminal_jax.models.weights import load_params

    cfg = config_of(folder)
    return load_params(folder, cfg, dtype=dtype), cfg


def use_cores(folder: str, rows: int) -> dict[str, int]:
    """On a CPU, a device a core for our side: what any run gets by `JAX_NUM_CPU_DEVICES`
    (docs/many_devices.md). One device for all where the cores do not divide the rows of a batch, or
    the model is wide. On an accelerator nothing. Before anything of JAX; gives the side's notes."""
    import jax

    from subliminal_jax.models.mesh import use_devices

    n = cores() if rows % cores() == 0 and config_of(folder).dim <= NARROW else 1
    jax.config.update("jax_num_cpu_devices", n)
    if jax.default_backend() != "cpu":
        return {"devices": 1}
    use_devices(n)
    return {"devices": n}
