"""Settings of `train-shipped-model`, and the model that they ask for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from subliminal_jax.bounds import Count, Positive, Range, Seed
from subliminal_jax.errors import InputError
from subliminal_jax.memory import check_fits, device_bytes, host_bytes
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import parameter_count
from subliminal_jax.training.optimizers import OptimizerSpec

CONTEXT = 512
HEAD_DIM, QUERY_HEADS = 16, 2  # width of a head; heads that share keys and values


@dataclass(frozen=True)
class Config:
    """Settings of the training run.

    Attributes:
      out: output folder.
      steps: optimizer steps.
      batch_rows: packed rows a step.
      row_tokens: tokens a row.
      optimizer: one of the registry, with hyper-parameters.
      learning_rate: peak rate, after 4% warm-up and before a cosine to zero.
      init_std: standard deviation of the initial matrices.
      seed: of initialisation and of the order of the rows; the corpus has seed 1.
      log_every: steps between two lines and two checkpoints.
      dim: width of the residual stream.
      depth: number of blocks.
    """

    out: Path = Path("runs/shipped")
    steps: Count = 2000
    batch_rows: Count = 32
    row_tokens: Annotated[int, Range(2, CONTEXT)] = 128
    optimizer: str = "adamw:weight_decay=0.01"
    learning_rate: Positive = 3e-3
    init_std: Positive = 0.02
    seed: Seed = 0
    log_every: Count = 50
    dim: Annotated[int, Range(32, 65_536)] = 128
    depth: Annotated[int, Range(1, 1_000)] = 4


def check(config: Config) -> None:
    """Raises InputError for settings that do not go together, and for more than fits in memory."""
    OptimizerSpec.parse(config.optimizer)
    if config.steps % config.log_every:
        raise InputError(
            f"--steps {config.steps} must be a multiple of --log-every {config.log_every}: change "
            "one of them"
        )
    if config.dim % (QUERY_HEADS * HEAD_DIM):
        raise InputError(f"--dim {config.dim} must be a multiple of {QUERY_HEADS * HEAD_DIM}")
    check_fits(
        f"a corpus of --steps {config.steps} x --batch-rows {config.batch_rows} x --row-tokens "
        f"{config.row_tokens}",
        16 * config.steps * config.batch_rows * config.row_tokens,  # ids, positions, mask, segments
        host_bytes(),
        "ask for less",
    )
    weights = parameter_count(model_config(config, vocab=2**12))
    check_fits(
        f"training {weights:,} weights (--dim {config.dim}, --depth {config.depth})",
        8 * weights,  # float32, with gradients
        device_bytes(),
        "take a smaller model",
    )


def model_config(config: Config, vocab: int) -> ModelConfig:
    """A Llama with grouped-query attention and tied embeddings."""
    return ModelConfig(
        family="llama",
        vocab=vocab,
        dim=config.dim,
        layers=config.depth,
        heads=config.dim // HEAD_DIM,
        kv_heads=config.dim // (QUERY_HEADS * HEAD_DIM),
        head_dim=HEAD_DIM,
        mlp_dim=3 * config.dim,
        context=CONTEXT,
        tied=True,
    )
