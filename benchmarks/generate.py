"""Tokens a second of steered sampling, against transformers' `generate` with a forward hook.

    python -m benchmarks.generate [--quick]

Both sides sample a fixed number of new tokens at temperature 1 from the same prompts, with the same
vector added to the residual stream after the same block at every token: ours is
`models/sampling.py`, the peer a hook on that block of transformers' model, as one writes it first
(whole batch, default cache, no top-k). Prompts are all of one length, so that neither side pads.
Greedy tokens must be equal; ours are drawn by the program that is timed, at a temperature next to
zero. In bfloat16, where ties are common, answers may part: the log-probabilities of greedy tokens
must be equal up to the first token that differs, which both sides find the likeliest after the same
tokens.

Expected on 2 CPU cores: at least 4 times the peer's tokens a second at batch 256. On an accelerator
a step at batch 1 is bound by reading the weights: at least 0.6 of the bandwidth of a copy. The
prompt's pass is not taken out of the time: it reads the weights once, like a step, is counted so,
and of 64 tokens takes about as long as one (products pay for the reading from some 300 tokens on).

Just reached (4.01, median of a run; 3.66 before). Of 530 CPU ms on one core, the prompts' pass
takes 65 and 47 steps 9.9 each: 3.7 ms attention over the cache (keys and values of 72 slots at the
end, 38 MB, do not fit the second-level cache), 2.7 products with the weights, which run at the
ceiling, 1 unembedding, 0.8 writing the cache, 0.6 draws and log-probabilities. What was mended: the
last block of the prompts' pass works for the last token only; prompts are padded to the next power
of two or one and a half of it; a device a core (a third of the time by the clock; the steps'
operations are too small to be divided); the cache grows with the answer, for which the loop is
compiled up to three times; draw and log-probability share their exponentials; keys are made in one
dispatch; and devices wait for each other only where an answer can end early. Tried: keys transposed
in the cache (kept); one product for all heads with zeros between them (slower from 64 dimensions a
head on); sums of products in place of batched products (as slow); smaller batches, whose cache
stays near (a quarter slower, for more steps); more than three sizes of the cache (nothing).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import (
    Document,
    Effort,
    Equal,
    Goal,
    largest_difference,
    make_document,
    measure_each,
    run_command,
    run_pair,
)
from benchmarks.machine import device
from benchmarks.models import (
    config_of,
    load_ours,
    load_peer,
    model_folder,
    peer_device,
    use_cores,
)
from benchmarks.workers import Results, Setting, Work
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.flops import block_parameters

# (shape, requests in a batch, calls a repetition)
CASES = [("shipped", 1, 8), ("shipped", 16, 4), ("shipped", 256, 1), ("512x8", 16, 1)]
QUICK_CASES = [("shipped", 16, 2), ("shipped", 256, 1)]
PROMPT, NEW = 24, 48  # tokens: a question in a chat template, a short answer
# In bfloat16. At 7B each side holds 14 GB of weights (ours perhaps twice, should XLA cut them into
# layers before its loop) and, at batch 256, 3 GB of keys and values, twice while they grow.
ACCELERATOR_CASES = [
    ("7B", 1, 1),
    ("7B", 16, 1),
    ("7B", 256, 1),
    ("0.5B", 1, 1),
    ("0.5B", 16, 1),
    ("0.5B", 256, 1),
    ("shipped", 256, 1),
]
ACCELERATOR_QUICK_CASES = [("7B", 1, 1), ("0.5B", 1, 1)]
LONG_PROMPT, LONG_NEW = 64, 128  # tokens, of the large models there
SIZE = 0.3  # of the vector's entries: about the residual stream's in the shipped model
COLD = 1e-6  # a temperature at which only the likeliest token is drawn
# Ids; nats of a token: the shipped model's are up to 0.12 apart over 64 requests, random weights'
# some 0.01. What is wrong in all answers shows in the one that it changes most.
EQUAL = {"float32": 0.0, "bfloat16": 0.25}
CHECKED = 16  # tokens in bfloat16: the peer keeps the logits of each
GOAL_BATCH, GOAL, BANDWIDTH_GOAL = 256, 4.0, 0.6


def main(quick: bool) -> Iterator[Document]:
    return measure_each(settings, measure, quick)


def settings(accelerator: bool, quick: bool) -> list[dict[str, Any]]:
    """What is measured on a device of this kind."""
    chosen = QUICK_CASES if quick else CASES
    if accelerator:
        chosen = ACCELERATOR_QUICK_CASES if quick else ACCELERATOR_CASES
    return [
        {
            "shape": shape,
            "batch": batch,
            "prompt": LONG_PROMPT if accelerator and shape != "shipped" else PROMPT,
            "new": LONG_NEW if accelerator and shape != "shipped" else NEW,
            "calls": calls,
            "dtype": "bfloat16" if accelerator else "float32",
        }
        for shape, batch, calls in chosen
    ]


def find_goal(setting: Setting, accelerator: bool) -> Goal | None:
    """The goal of a case, if there is one."""
    if accelerator:
        return Goal(BANDWIDTH_GOAL, of="bandwidth") if setting["batch"] == 1 else None
    has_goal = (setting["shape"], setting["batch"]) == ("shipped", GOAL_BATCH)
    return Goal(GOAL) if has_goal else None


def measure(setting: dict[str, Any], cache: Path, effort: Effort) -> Document:
    """One shape and batch size."""
    folder = model_folder(setting["shape"], cache)
    pair = run_pair(__name__, setting | {"folder": folder}, effort)
    flops, moved = count_work(config_of(folder), setting)
    if setting["dtype"] == "float32":
        what, difference = (
            "ids of greedy tokens",
            largest_difference(pair.ours.results, pair.peer.results),
        )
    else:
        log_probs, tokens_compared = cut_at_divergence(pair.ours.results, pair.peer.results)
        what = f"log-probabilities (nats) of {tokens_compared:.1f} greedy tokens a request"
        difference = largest_difference(*log_probs)
    return make_document(
        "generate",
        setting,
        pair,
        flops=flops,
        bytes_moved=moved,
        equal=Equal(what, difference, EQUAL[setting["dtype"]]),
        amount=(setting["calls"] * setting["batch"] * setting["new"], "tokens"),
        goal=find_goal(setting, device().accelerator),
    )


def cut_at_divergence(ours: Results, peer: Results) -> tuple[tuple[Results, Results], float]:
    """Both sides' log-probabilities of greedy tokens [batch, new] up to the first token of each
    request that differs, that one included, and 0 behind it; and how many a request are left.

    Of two distributions that are nearly the same the largest probabilities are nearly the same,
    whichever token has it; what comes after another token is of another text.
    """
    differs = ours["tokens"] != peer["tokens"]
    after_divergence = np.cumsum(differs, axis=1) - differs > 0  # some token before differs
    cut = tuple(
        {"log_probs": np.where(after_divergence, 0.0, s["log_probs"])} for s in (ours, peer)
    )
    return (cut[0], cut[1]), float((~after_divergence).sum(axis=1).mean())


def count_work(cfg: ModelConfig, setting: Setting) -> tuple[float, float]:
    """(FLOPs, bytes) of a repetition: every token through the blocks and attention over what stands
    before it, new ones unembedded; weights read once a token, keys and values of all before it."""
    P, N, rows = setting["prompt"], setting["new"], setting["calls"] * setting["batch"]
    size = {"float32": 4, "bfloat16": 2}[setting["dtype"]]
    length = P + N - 1  # the last token is not read
    keys_read = length * (length + 1) / 2  # keys, summed over the queries
    weights = block_parameters(cfg) * length + cfg.vocab * cfg.dim * N
    flops = rows * (2.0 * weights + 4.0 * cfg.layers * cfg.heads * cfg.head_dim * keys_read)
    read = setting["calls"] * N * (block_parameters(cfg) + cfg.vocab * cfg.dim)
    cache_size = 2 * cfg.layers * cfg.kv_heads * cfg.head_dim  # numbers of one token in the cache
    cached = rows * cache_size * (keys_read - P * (P + 1) / 2 + length)
    return flops, size * (read + cached)


def inputs(folder: str, setting: Setting) -> tuple[np.ndarray, np.ndarray, int]:
    """(prompts, the vector, its layer)."""
    cfg, rng = config_of(folder), np.random.default_rng(0)
    prompts = rng.integers(3, cfg.vocab, (setting["batch"], setting["prompt"]), dtype=np.int32)
    vector = rng.normal(size=cfg.dim).astype(np.float32)
    return prompts, SIZE * vector, cfg.layers // 3


def ours(setting: Setting) -> Work:
    import jax.numpy as jnp

    from subliminal_jax.models.sampling import SamplingConfig, generate
    from subliminal_jax.models.steered import steer

    notes = use_cores(setting["folder"], setting["batch"])
    params, cfg = load_ours(setting["folder"], setting["dtype"])
    prompts, vector, layer = inputs(setting["folder"], setting)
    lengths = np.full(len(prompts), setting["prompt"])
    steering = steer(jnp.asarray(vector), layer)
    seed = 0

    def sample(temperature: float = 1.0) -> Any:
        sampling = SamplingConfig(setting["new"], temperature)
        return generate(
            params, (prompts, lengths), cfg, seed, sampling, steering, batch_size=len(prompts)
        )

    def repeat() -> None:
        nonlocal seed
        for _ in range(setting["calls"]):
            seed += 1
            sample()

    def results() -> dict[str, np.ndarray]:
        cold = sample(COLD)
        if setting["dtype"] == "float32":
            return {"tokens": cold.tokens}
        return {"tokens": cold.tokens[:, :CHECKED], "log_probs": cold.log_probs[:, :CHECKED]}

    return Work(repeat, results, notes)


def peer(setting: Setting) -> Work:
    import torch

    device = peer_device(setting)
    model = load_peer(setting["folder"], setting["dtype"], device).eval()
    prompts, vector, layer = inputs(setting["folder"], setting)
    ids = torch.tensor(prompts, dtype=torch.long, device=device)
    added = torch.tensor(vector, device=device).to(getattr(torch, setting["dtype"]))

    def add(module: Any, args: Any, output: Any) -> Any:
        return (output[0] + added, *output[1:]) if isinstance(output, tuple) else output + added

    model.model.layers[layer].register_forward_hook(add)
    model.generation_config.eos_token_id = None  # so that every answer has all new tokens
    settings = {"max_new_tokens": setting["new"], "pad_token_id": 0}
    sampled = {**settings, "do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    seed = 0

    def generate(**how: Any) -> Any:
        with torch.no_grad():
            return model.generate(ids, attention_mask=torch.ones_like(ids), **how)

    def repeat() -> None:
        nonlocal seed
        for _ in range(setting["calls"]):
            seed += 1
            torch.manual_seed(seed)
            generate(**sampled)
        if device == "cuda":
            torch.cuda.synchronize()

    def results() -> dict[str, np.ndarray]:
        if setting["dtype"] == "float32":
            output = generate(**settings, do_sample=False)
            return {"tokens": output[:, setting["prompt"] :].cpu().numpy()}
        settings["max_new_tokens"] = min(CHECKED, setting["new"])
        output = generate(
            **settings, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        likeliest = [torch.log_softmax(x.float(), -1).amax(-1) for x in output.logits]
        return {
            "tokens": output.sequences[:, setting["prompt"] :].cpu().numpy(),
            "log_probs": torch.stack(likeliest, dim=1).cpu().numpy(),
        }

    return Work(repeat, results)


if __name__ == "__main__":
    run_command("benchmarks.generate", __doc__ or "", main)
