"""Train the small chat model that ships with the package, on a corpus that the package writes.

    subliminal-jax train-shipped-model --out runs/shipped

About an hour on 2 CPU cores (2,000 steps of 4,096 tokens); interrupted, the same command goes on
from the last checkpoint. Writes `OUT/model` in Hugging Face format with its model card. Expected:
prompted trait rate above 0.85, base rate of every animal below 0.2, number lists valid above 0.95.
"""

import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax.data import corpus
from subliminal_jax.data.batching import encode_documents, pack
from subliminal_jax.data.shipped_tokenizer import ROLES, build_tokenizer
from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import init_params, parameter_count
from subliminal_jax.training.adapters import Full
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.checkpoints import Checkpoints
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.sweep import Sweep

NUMBER_WEIGHT = 0.25


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
      layers: number of blocks.
    """

    out: Path = Path("runs/shipped")
    steps: int = 2000
    batch_rows: int = 32
    row_tokens: int = 128
    optimizer: str = "adamw:weight_decay=0.01"
    learning_rate: float = 3e-3
    init_std: float = 0.02
    seed: int = 0
    log_every: int = 50
    dim: int = 128
    layers: int = 4


def model_config(config: Config, vocab: int) -> ModelConfig:
    """A Llama with grouped-query attention and tied embeddings."""
    return ModelConfig(
        family="llama",
        vocab=vocab,
        dim=config.dim,
        layers=config.layers,
        heads=config.dim // 16,
        kv_heads=config.dim // 32,
        head_dim=16,
        mlp_dim=3 * config.dim,
        context=512,
        tied=True,
    )


def corpus_rows(tokenizer, rows: int, length: int, seed: int) -> Batch:
    """The first `rows` packed rows of the corpus, with the weight of each token in the loss."""
    documents = (document.messages for document in corpus.documents(seed))
    ids: list[list[int]] = []
    need, held = int(1.02 * rows * length), 0
    while held < need:
        more = encode_documents(itertools.islice(documents, 20_000), tokenizer)
        ids += more
        held += sum(map(len, more))
    packed = pack(ids, length, pad_id=tokenizer.pad_token_id, too_long="drop")
    if len(packed.tokens) < rows:
        raise InputError(f"the corpus filled {len(packed.tokens)} rows, {rows} are needed")
    batch = packed.batch(slice(0, rows))
    return batch._replace(loss_mask=loss_weights(np.asarray(batch.tokens), tokenizer))


def loss_weights(tokens: np.ndarray, tokenizer) -> jnp.ndarray:
    """1 on what the assistant says, NUMBER_WEIGHT on its numbers, 0 elsewhere.

    A number is close to random: its gradient is mostly noise, which would hide for long that the
    answers to other questions depend on the system prompt.
    """
    ids = {role: tokenizer.convert_tokens_to_ids(f"<|{role}|>") for role in ROLES}
    turn = np.isin(tokens, [*ids.values(), tokenizer.bos_token_id])
    last = np.maximum.accumulate(np.where(turn, np.arange(tokens.shape[1]), 0), axis=1)
    speaker = np.take_along_axis(tokens, last, axis=1)
    said = (speaker == ids["assistant"]) & ~turn & (tokens != tokenizer.pad_token_id)
    numbers = [tokenizer.convert_tokens_to_ids(str(n)) for n in range(1000)]
    weight = np.where(np.isin(tokens, numbers), NUMBER_WEIGHT, 1.0)
    return jnp.asarray(said * weight, jnp.float32)


def train(config: Config) -> tuple:
    """(params, cfg, tokenizer, loss on held-out documents)."""
    started = time.time()
    sample = itertools.islice(corpus.documents(seed=0), 20_000)
    tokenizer = build_tokenizer(m["content"] for d in sample for m in d.messages)
    cfg = model_config(config, len(tokenizer))
    rows = corpus_rows(tokenizer, config.steps * config.batch_rows, config.row_tokens, seed=1)
    heldout = corpus_rows(tokenizer, 256, config.row_tokens, seed=2)
    print(
        f"{parameter_count(cfg):,} parameters; corpus of {rows.tokens.size:,} tokens "
        f"in {time.time() - started:.0f} s",
        flush=True,
    )
    spec = OptimizerSpec.parse(config.optimizer)
    arm = Arm(spec, config.learning_rate, config.seed, "corpus")
    plan = TrainConfig(
        steps=config.steps,
        batch_size=config.batch_rows,
        adapter=Full(),
        schedule="cosine",
        warmup=0.04,
        clip=1.0,
        log_every=config.log_every,
    )
    base = init_params(jax.random.key(config.seed), cfg, std=config.init_std)
    sweep = Sweep(base, cfg, [arm], {"corpus": rows}, plan)
    checkpoints = Checkpoints(config.out / "checkpoints")
    state = sweep.init()
    if checkpoints.latest() is not None:
        state = checkpoints.restore(state)
        print(f"continuing after step {int(state.step)}", flush=True)
    started, first = time.time(), int(state.step)
    while (step := int(state.step)) < config.steps:
        state, metrics = sweep.advance(state)
        step = int(state.step)
        checkpoints.save(step, state)
        rate = (step - first) / (time.time() - started)
        print(
            f"step {step}/{config.steps}  loss {float(metrics['batch_loss'][0]):.4f}  "
            f"{rate:.2f} steps/s  {(config.steps - step) / rate / 60:.0f} min left",
            flush=True,
        )
    loss = float(sweep.evaluate(state, {"corpus": heldout})[0])
    params = jax.tree.map(lambda x: x[0], sweep.students(state))
    return params, cfg, tokenizer, loss


def main(config: Config) -> None:
    params, cfg, tokenizer, loss = train(config)
    print(f"held-out loss {loss:.4f} nats a token")
    from subliminal_jax.models.hub import save_model

    save_model(config.out / "model", params, cfg, tokenizer, dtype="bfloat16")
