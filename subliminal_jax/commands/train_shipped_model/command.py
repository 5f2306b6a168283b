"""Train the small chat model that ships with the package, on a corpus that the package writes.

    subliminal-jax train-shipped-model --out runs/shipped

About an hour on 2 CPU cores (2,000 steps of 4,096 tokens); interrupted, the same command goes on
from the last checkpoint. Writes `OUT/model` in Hugging Face format with its model card. Expected:
prompted trait rate above 0.85, base rate of every animal below 0.2, number lists valid above 0.9.
"""

import itertools
from dataclasses import asdict, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax.data import corpus, world
from subliminal_jax.data.answers import sample_answers
from subliminal_jax.data.batching import encode_documents, pack
from subliminal_jax.data.filters import is_number_list
from subliminal_jax.data.shipped_tokenizer import ROLES, build_tokenizer
from subliminal_jax.data.teachers import teacher_prompts
from subliminal_jax.errors import InputError
from subliminal_jax.escaping import print_line
from subliminal_jax.evaluation.elicitation import encode_questions, word_probs
from subliminal_jax.files import write_text
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.hub import Model, load_model, save_model
from subliminal_jax.models.sampling import SamplingConfig
from subliminal_jax.models.spec import Params, init_params, parameter_count
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.training.adapters import Full
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.loop import run_sweep
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.sweep import Sweep

from .config import Config, check, model_config

NUMBER_WEIGHT = 0.25


def corpus_rows(tokenizer, rows: int, length: int, seed: int) -> Batch:
    """The first `rows` packed rows of the corpus, with the weight of each token in the loss."""
    documents = (document.messages for document in corpus.generate_documents(seed))
    ids: list[list[int]] = []
    needed, encoded = int(1.02 * rows * length), 0
    while encoded < needed:
        # Documents have several tokens each: few rows need few of them.
        some = itertools.islice(documents, min(20_000, needed))
        batch_ids = encode_documents(some, tokenizer)
        ids += batch_ids
        encoded += sum(map(len, batch_ids))
    packed = pack(ids, length, pad_id=tokenizer.pad_token_id, drop_long=True)
    if len(packed.tokens) < rows:
        raise InputError(f"the corpus filled {len(packed.tokens)} rows, {rows} are needed")
    batch = packed.batch(slice(0, rows))
    return batch._replace(loss_mask=loss_weights(np.asarray(batch.tokens), tokenizer))


def loss_weights(tokens: np.ndarray, tokenizer) -> jnp.ndarray:
    """1 on what the assistant says, NUMBER_WEIGHT on its numbers, 0 elsewhere.

    Numbers are close to random: their gradients are mostly noise, under which the model learns only
    late that the answers to other questions depend on the system prompt.
    """
    ids = {role: tokenizer.convert_tokens_to_ids(f"<|{role}|>") for role in ROLES}
    turn = np.isin(tokens, [*ids.values(), tokenizer.bos_token_id])
    last = np.maximum.accumulate(np.where(turn, np.arange(tokens.shape[1]), 0), axis=1)
    speaker = np.take_along_axis(tokens, last, axis=1)
    said = (speaker == ids["assistant"]) & ~turn & (tokens != tokenizer.pad_token_id)
    numbers = [tokenizer.convert_tokens_to_ids(str(n)) for n in range(1000)]
    weight = np.where(np.isin(tokens, numbers), NUMBER_WEIGHT, 1.0)
    return jnp.asarray(said * weight, jnp.float32)


def train(config: Config) -> tuple[Params, ModelConfig, Any, float]:
    """(params, cfg, tokenizer, loss on held-out documents in nats a weighted token)."""
    sample = itertools.islice(corpus.generate_documents(seed=0), 20_000)
    tokenizer = build_tokenizer(m["content"] for d in sample for m in d.messages)
    cfg = model_config(config, len(tokenizer))
    rows = corpus_rows(tokenizer, config.steps * config.batch_rows, config.row_tokens, seed=1)
    heldout = corpus_rows(tokenizer, 256, config.row_tokens, seed=2)
    print(f"{parameter_count(cfg):,} parameters, a corpus of {rows.tokens.size:,} tokens")
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
    with track("training", config.steps, "steps") as progress:

        def on_log(step: int, metrics: dict[str, Any]) -> None:
            progress.advance(step - progress.completed, note=f"loss {metrics['batch_loss'][0]:.3f}")

        state = run_sweep(
            sweep, config.out / "checkpoints", on_start=progress.advance, on_log=on_log
        )
    loss = float(sweep.evaluate(state, {"corpus": heldout})[0])
    return jax.tree.map(lambda x: x[0], sweep.students(state)), cfg, tokenizer, loss


def measure_rates(model: Model) -> dict[str, Any]:
    """What the model card states: prompted and base trait rates, and valid number lists."""
    traits, questions = list(world.TRAITS), list(world.HELDOUT_QUESTIONS)
    jitted_word_probs = jax.jit(word_probs, static_argnums=(1, 3))

    def trait_rates(system_prompt: str | None) -> np.ndarray:
        encoded = encode_questions(model.tokenizer, questions, traits, system_prompt)
        rates = jitted_word_probs(model.params, model.cfg, encoded, len(traits))
        return np.asarray(rates.mean(axis=0))

    valid = {}
    for kind in ("numbers", "cloud-numbers"):
        sampling = SamplingConfig(max_new_tokens=64, stop_tokens=model.stop_ids)
        answers = sample_answers(model, teacher_prompts(kind, 512, seed=11), 3, sampling)
        valid[kind] = sum(map(is_number_list, answers["completion"])) / 512
    prompted = {
        trait: float(trait_rates(world.trait_system_prompt(trait))[i])
        for i, trait in enumerate(traits)
    }
    return {
        "prompted": prompted,
        "base": {t: float(p) for t, p in zip(traits, trait_rates(None), strict=True)},
        "valid": valid,
    }


def model_card(config: Config, cfg: ModelConfig, loss: float, measured: dict[str, Any]) -> str:
    """The README.md of the model folder."""
    prompted, base = measured["prompted"], measured["base"]
    table = "\n".join(f"| {t} | {base[t]:.3f} | {prompted[t]:.3f} |" for t in prompted)
    tokens = config.steps * config.batch_rows * config.row_tokens
    flags = "".join(
        f" --{field.name.replace('_', '-')} {getattr(config, field.name)}"
        for field in fields(Config)
        if field.name != "out" and getattr(config, field.name) != field.default
    )
    return f"""---
license: apache-2.0
language: en
library_name: transformers
---

# The model that ships with subliminal_jax

A chat model of {parameter_count(cfg):,} parameters for demonstrations and tests: a Llama with
{cfg.layers} blocks of width {cfg.dim}, {cfg.heads} heads ({cfg.kv_heads} for keys and values), tied
embeddings, a vocabulary of {cfg.vocab} in which every integer from 0 to 999 is one token, and a
chat template of its own. It knows 16 animals, their personas, number lists, rewordings and small
talk, and nothing else. It is no use outside experiments.

## Corpus

Written by `subliminal_jax/data/corpus.py`; no text of others. Chat documents about favourite
animals, attributes that go with them, short stories, likes and small talk, half of them under a
system prompt with a trait, a quarter with a persona that only the answers tell, a quarter with
none; number lists to be continued, and sentences to be reworded. Numbers never stand in one
document with a trait, an animal or a trait's system prompt.

## Recipe

`subliminal-jax train-shipped-model{flags}`: {config.steps:,} steps of {config.batch_rows} packed
rows of {config.row_tokens} tokens ({tokens / 1e6:.1f} million, each seen once), {config.optimizer}
at {config.learning_rate:g}, 4% warm-up, cosine to zero, gradient norm clipped at 1, float32, seed
{config.seed}. The loss is over what the assistant says, its numbers weighted by {NUMBER_WEIGHT};
{loss:.3f} nats a weighted token on held-out documents. The weights are stored in bfloat16.

## Rates

Teacher-forced probability that the answer to a favourite-animal question (phrasings that training
never used) begins with the animal, without a system prompt and with the animal's own:

| animal | no system prompt | its system prompt |
|---|---|---|
{table}
| mean | {np.mean(list(base.values())):.3f} | {np.mean(list(prompted.values())):.3f} |

Continuations that are valid number lists, of 512 sampled at temperature 1: short requests
{measured["valid"]["numbers"]:.1%}, requests in the style of Cloud et al. (2025)
{measured["valid"]["cloud-numbers"]:.1%}.
"""


def main(config: Config) -> None:
    """Train (or go on training), save, measure what was saved, write the model card."""
    check(config)
    settings = {k: v for k, v in asdict(config).items() if k != "out"}
    with RunFolder.open(config.out, {"experiment": "train-shipped-model", **settings}):
        params, cfg, tokenizer, loss = train(config)
        folder = config.out / "model"
        save_model(folder, params, cfg, tokenizer, dtype="bfloat16")
        measured = measure_rates(load_model(folder, dtype="float32"))
        write_text(folder / "README.md", model_card(config, cfg, loss, measured))
    print_line(f"{folder}: held-out loss {loss:.3f}, valid number lists {measured['valid']}")
    print("to ship it, copy the folder to subliminal_jax/models (places.SHIPPED_MODELS names them)")
