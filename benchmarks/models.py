"""Models of chosen shapes with random weights, in a folder that both sides load."""

import json
from pathlib import Path
from typing import Any

import subliminal_jax
from benchmarks.machine import cores
from benchmarks.workers import call
from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig, config_from_hf

# Every shape of a decoder-only Llama; "shipped" is the model of the package, with its weights.
SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"vocab": 256, "dim": 32, "layers": 2, "heads": 2, "kv_heads": 1, "head_dim": 16,
             "mlp_dim": 64},
    "512x8": {"vocab": 8192, "dim": 512, "layers": 8, "heads": 8, "kv_heads": 4, "head_dim": 64,
              "mlp_dim": 1536},
    "0.5B": {"vocab": 151_936, "dim": 896, "layers": 24, "heads": 14, "kv_heads": 2, "head_dim": 64,
             "mlp_dim": 4864},
    "0.5B/4": {"vocab": 151_936, "dim": 896, "layers": 6, "heads": 14, "kv_heads": 2,
               "head_dim": 64, "mlp_dim": 4864},
    "7B": {"vocab": 152_064, "dim": 3584, "layers": 28, "heads": 28, "kv_heads": 4,
           "head_dim": 128, "mlp_dim": 18_944},
}  # fmt: skip


# Up to this width a device a core pays; above it each would pack the same weights for its products.
NARROW = 256
SHIPPED = Path(subliminal_jax.__file__).parent / "models" / "shipped"


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


def config_of(folder: str | Path) -> ModelConfig:
    """The configuration of the model in `folder`."""
    return config_from_hf(json.loads((Path(folder) / "config.json").read_text()))


def write(folder: str, shape: dict[str, int]) -> None:
    """Draw weights of this shape, and save them in bfloat16, which both sides widen alike."""
    import jax
    import jax.numpy as jnp

    from subliminal_jax.models.hub import save_model
    from subliminal_jax.models.spec import init_params

    cfg = ModelConfig(family="llama", context=4096, **shape)  # type: ignore[arg-type]
    params = init_params(jax.random.key(0), cfg, jnp.bfloat16)
    save_model(folder, params, cfg)


def load_peer(folder: str, dtype: str = "float32") -> Any:
    """transformers' model of `folder`, on the accelerator where torch has one."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(cores())
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    return model.to(peer_device())


def peer_device() -> str:
    """ "cuda" where torch has it, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load_ours(folder: str, dtype: str = "float32") -> tuple[Any, ModelConfig]:
    """(params, cfg) of `folder`; its tokenizer, which random weights lack, is not read."""
    from subliminal_jax.models.weights import load_params

    cfg = config_of(folder)
    return load_params(folder, cfg, dtype=dtype), cfg


def use_cores(folder: str, rows: int) -> dict[str, int]:
    """On a CPU, a device a core for our side: what any run gets by `JAX_NUM_CPU_DEVICES`
    (docs/many_devices.md). One device for all where the cores do not divide the rows of a batch, or
    the model is wide. Before anything of JAX; gives the side's notes."""
    import jax

    from subliminal_jax.models.mesh import use_devices

    n = cores() if rows % cores() == 0 and config_of(folder).dim <= NARROW else 1
    jax.config.update("jax_num_cpu_devices", n)
    if jax.default_backend() == "cpu":
        use_devices(n)
    return {"devices": jax.device_count()}


def block_parameters(cfg: ModelConfig) -> int:
    """Entries of the projections of all blocks: two FLOPs each, a token."""
    attention = 2 * cfg.heads + 2 * cfg.kv_heads
    return cfg.layers * cfg.dim * (attention * cfg.head_dim + 3 * cfg.mlp_dim)


def attention_flops(cfg: ModelConfig, rows: int, time: int) -> float:
    """Of one forward pass: both products with what a causal mask leaves of them."""
    return 2.0 * cfg.layers * rows * time * (time + 1) * cfg.heads * cfg.head_dim
