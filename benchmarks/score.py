"""Preference pairs scored a second, against the loop that TRL runs to precompute log-probabilities.

    python -m benchmarks.score [--quick]

A pair is scored when log P(chosen) and log P(rejected) are known with a system prompt and without:
what logit-linear selection sorts by. Both sides get the same token ids and weights. Ours
is `training/log_probs.py`; the peer pads batches of 8 pairs in the order of the data, puts chosen
and rejected into one forward pass of transformers, and gathers log-probabilities of all positions,
as TRL's DPOTrainer does. The log-probabilities must agree.

Expected on 2 CPU cores: at least twice the peer's pairs a second. On an accelerator both sides
compute in bfloat16, and there is no goal.

Not reached at a width of 512 (1.37): both sides are bound by the same products, and what is saved
is padding and the last block of the prompts.
"""

import json
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
    SHIPPED,
    config_of,
    load_ours,
    load_peer,
    model_folder,
    peer_device,
    use_cores,
)
from benchmarks.workers import Setting, Work, call
from subliminal_jax.models.flops import block_parameters

CASES = [("shipped", 512), ("512x8", 128)]  # (shape, pairs)
QUICK_CASES = [("shipped", 128)]
ACCELERATOR_CASES = [("0.5B", 512), ("7B", 128)]  # in bfloat16
ACCELERATOR_QUICK_CASES = [("0.5B", 128)]
SYSTEM = "You love owls. You think about owls all the time."
PEER_PAIRS = 8  # a batch: TRL's default
# Nats a response: sums over up to a hundred tokens. In bfloat16 those of 16 pairs are up to 0.14
# apart; the system prompt moves the one that it moves most by more than a nat.
EQUAL = {"float32": 2e-3, "bfloat16": 0.5}
GOAL = 2.0


def main(quick: bool) -> Iterator[Document]:
    return measure_each(settings, measure, quick)


def settings(accelerator: bool, quick: bool) -> list[dict[str, Any]]:
    """What is measured on a device of this kind."""
    chosen = QUICK_CASES if quick else CASES
    if accelerator:
        chosen = ACCELERATOR_QUICK_CASES if quick else ACCELERATOR_CASES
    dtype = "bfloat16" if accelerator else "float32"
    return [{"shape": shape, "pairs": pairs, "dtype": dtype} for shape, pairs in chosen]


def measure(setting: dict[str, Any], cache: Path, effort: Effort) -> Document:
    """One shape."""
    folder, data = model_folder(setting["shape"], cache), str(cache / "pairs.json")
    call(f"{__name__}:write_inputs", data, setting["pairs"])
    pair = run_pair(__name__, setting | {"folder": folder, "data": data}, effort)
    return make_document(
        "score",
        setting,
        pair,
        amount=(setting["pairs"], "pairs"),
        equal=Equal(
            "log-probabilities (nats)",
            largest_difference(pair.ours.results, pair.peer.results),
            EQUAL[setting["dtype"]],
        ),
        flops=count_flops(folder, data),
        goal=None if device().accelerator else Goal(GOAL),
    )


def count_flops(folder: str, data: str) -> float:
    """Every prompt read once and every response once a run, and its tokens unembedded; attention
    is left out, the texts being short."""
    cfg, rows = config_of(folder), json.loads(Path(data).read_text())
    responses = 2 * sum(len(r) for row in rows["responses"] for r in row)
    prompts = sum(len(p) for run in ("base", "prompted") for p in rows[run])
    return 2.0 * (block_parameters(cfg) * (prompts + responses) + cfg.vocab * cfg.dim * responses)


def write_inputs(path: str, pairs: int) -> None:
    """Token ids of generic preference pairs, encoded by the shipped model's tokenizer."""
    from subliminal_jax.data.preferences import world_preferences
    from subliminal_jax.models.tokenizer import load_tokenizer
    from subliminal_jax.selection.rendering import (
        ScoringOptions,
        encode_prompts,
        encode_responses,
    )

    table, tokenizer = world_preferences(pairs, seed=0), load_tokenizer(SHIPPED)
    texts = [row[name] for row in table for name in ("chosen", "rejected")]
    flat = encode_responses(tokenizer, texts, ScoringOptions())
    rows = {
        "base": encode_prompts(tokenizer, list(table["prompt"]), None),
        "prompted": encode_prompts(tokenizer, list(table["prompt"]), SYSTEM),
        "responses": [flat[i : i + 2] for i in range(0, len(flat), 2)],
    }
    Path(path).write_text(json.dumps(rows))


def ours(setting: Setting) -> Work:
    from subliminal_jax.models.hub import Model
    from subliminal_jax.models.tokenizer import load_tokenizer
    from subliminal_jax.training.log_probs import response_log_probs

    notes = use_cores(setting["folder"], PEER_PAIRS)
    params, cfg = load_ours(setting["folder"], setting["dtype"])
    folder = Path(setting["folder"])
    model = Model(params, cfg, load_tokenizer(SHIPPED), setting["shape"], folder, (), 0)
    rows = json.loads(Path(setting["data"]).read_text())
    log_probs: dict[str, np.ndarray] = {}

    def repeat() -> None:
        for run in ("base", "prompted"):
            log_probs[run] = response_log_probs(model, rows[run], rows["responses"])

    return Work(repeat, lambda: log_probs, notes)


def peer(setting: Setting) -> Work:
    import torch

    device = peer_device(setting)
    model = load_peer(setting["folder"], setting["dtype"], device).eval()
    rows = json.loads(Path(setting["data"]).read_text())
    log_probs: dict[str, np.ndarray] = {}

    def batch_log_probs(prompts: list[list[int]], responses: list[list[list[int]]]) -> Any:
        lines = [
            (p, row[side]) for side in (0, 1) for p, row in zip(prompts, responses, strict=True)
        ]
        longest = max(len(p) + len(r) for p, r in lines)
        tokens = torch.zeros((len(lines), longest), dtype=torch.long)
        attention_mask, counted = torch.zeros_like(tokens), torch.zeros_like(tokens)
        for i, (p, r) in enumerate(lines):
            tokens[i, : len(p) + len(r)] = torch.tensor(p + r)
            attention_mask[i, : len(p) + len(r)] = 1
            counted[i, len(p) : len(p) + len(r)] = 1
        tokens, attention_mask, counted = (x.to(device) for x in (tokens, attention_mask, counted))
        logits = model(input_ids=tokens, attention_mask=attention_mask).logits[:, :-1].float()
        picked = torch.gather(logits, -1, tokens[:, 1:, None])[..., 0]
        normalizers = torch.stack([torch.logsumexp(line, dim=-1) for line in logits])
        return ((picked - normalizers) * counted[:, 1:]).sum(-1).view(2, -1).T

    def repeat() -> None:
        with torch.inference_mode():
            for run in ("base", "prompted"):
                parts = [
                    batch_log_probs(
                        rows[run][i : i + PEER_PAIRS], rows["responses"][i : i + PEER_PAIRS]
                    )
                    for i in range(0, len(rows[run]), PEER_PAIRS)
                ]
                log_probs[run] = torch.cat(parts).cpu().numpy()

    return Work(repeat, lambda: log_probs)


if __name__ == "__main__":
    run_command("benchmarks.score", __doc__ or "", main)
