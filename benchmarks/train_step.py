"""Tokens a second of a training step, against transformers + PEFT on torch.

    python -m benchmarks.train_step [--quick]

Ours is a sweep of one student (`training/sweep.py`), the peer the loop that one writes with
transformers, PEFT and torch's fused AdamW (the Trainer's default): the same weights, LoRA factors,
rows and order of rows in float32, the loss being the mean over the completions' tokens. The losses
of the first steps must be equal step by step. LoRA has rank 8 on all seven projections; full
training changes every weight.

On a CPU the shipped model has a device a core (`use_cores`); a repetition is one call of eight
steps, as often as a run logs.

The goal is 1.5 times the peer's tokens a second with LoRA.

Not reached by a little on the shipped model (1.42 and 1.49 in two whole runs), and not on wide
ones. On one core the shipped model's step (64 rows of 48 tokens) takes 184 CPU ms, torch's 256:
products of the forward pass 26 ms, of the backward pass 26 and, for the gradient of merged weights,
32; the head 16; attention 34; the gated activation 15; norms and sums 8; stacks that the scan keeps
for the backward pass 8; pages of temporaries 4. Products run at 150 GFLOP a second and core, which
is all that the core gives, so that 85 ms are left to save something of. The step took 790 ms at
first. What was mended: the gradient's sums over (batch, time) transposed the activations; every
array between products was written for the backward pass; attention went through small transposed
products, and its logits were kept; thin products of rank 8 run at a tenth of a wide one's speed, so
narrow weights are merged with their update; a batch axis of one student made sums of norms slow;
tall weights had the slow orientation of a gradient; and the last block computed what nobody reads
for the half of the tokens that are not predicted (a tenth of the step). Tried without gain: the
scan unrolled (no stacks, but more memory: the same time), parts of a batch one after another (10%
less on one core, nothing on two), a sigmoid by tanh (1%), huge pages (7% on one core, 2% on two).

Wide models are bound by the products on both sides, which take the same time in both: at a width of
512 they are two thirds of our step, so that a ratio of 1.5 would leave nothing for anything else.
With full training the peer's AdamW is one pass, in place, over weights and moments; ours are
several, for the old state is kept until the step is known to be finite.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import (
    FULL,
    QUICK,
    Document,
    Effort,
    Equal,
    Goal,
    apart,
    command,
    document,
    run_pair,
    say,
)
from benchmarks.models import (
    attention_flops,
    block_parameters,
    config_of,
    load_ours,
    load_peer,
    model_folder,
    peer_device,
    use_cores,
)
from benchmarks.workers import Setting, Work, call

# (shape, adapter, rows a batch, tokens a row, steps a repetition)
CASES = [
    ("shipped", "lora", 64, 48, 8),
    ("shipped", "full", 64, 48, 8),
    ("512x8", "lora", 16, 64, 1),
    ("512x8", "full", 16, 64, 1),
    ("0.5B", "lora", 4, 64, 1),
    ("0.5B/4", "full", 4, 64, 1),
]
QUICK_CASES = [("shipped", "lora", 64, 48, 8), ("shipped", "full", 64, 48, 8)]
RATE = {"lora": 1e-3, "full": 1e-4}
CHECKED = 3  # steps whose losses are compared
EQUAL = 2e-4  # nats: float32 sums in other orders, through a few steps of Adam
GOAL = 1.5


def main(quick: bool) -> list[Document]:
    found = []
    with tempfile.TemporaryDirectory() as cache:
        for shape, adapter, rows, time, steps in QUICK_CASES if quick else CASES:
            setting = {
                "shape": shape, "adapter": adapter, "rows": rows, "time": time, "steps": steps,
                "rank": 8, "optimizer": "adamw", "dtype": "float32",
            }  # fmt: skip
            found.append(measure(setting, Path(cache), QUICK if quick else FULL))
            say(found[-1])
    return found


def measure(setting: dict[str, Any], cache: Path, effort: Effort) -> Document:
    """One shape and adapter."""
    folder = model_folder(setting["shape"], cache)
    cfg = config_of(folder)
    data = cache / f"{setting['shape'].replace('/', '-')}-{setting['adapter']}.npz"
    call(f"{__name__}:write_inputs", str(data), folder, setting)
    pair = run_pair(__name__, setting | {"folder": folder, "data": str(data)}, effort)
    tokens = setting["rows"] * setting["time"] * setting["steps"]
    lora = setting["adapter"] == "lora"
    # Of a step: forward, and backward to the activations; full training also to the weights.
    passes, weights = (2, block_parameters(cfg)) if lora else (3, block_parameters(cfg))
    predicted = float(np.load(data)["loss_mask"].mean()) * tokens
    flops = passes * 2.0 * (tokens * weights + predicted * cfg.vocab * cfg.dim)
    flops += passes * attention_flops(cfg, setting["rows"] * setting["steps"], setting["time"])
    # Weights are read in each pass; full training reads and writes them and both moments once.
    moved = 4.0 * (weights + cfg.vocab * cfg.dim) * setting["steps"] * (2 if lora else 10)
    losses = Equal(
        f"losses (nats) of {CHECKED} steps", apart(pair.ours.results, pair.peer.results), EQUAL
    )
    return document(
        "train_step", setting, pair, equal=losses, amount=(tokens, "tokens"), flops=flops,
        bytes_moved=moved, goal=Goal(GOAL) if lora else None,
    )  # fmt: skip


def write_inputs(path: str, folder: str, setting: Setting) -> None:
    """Rows, their order, and the LoRA factors that both sides start from."""
    import jax

    from subliminal_jax.training.arms import row_orders

    sweep, rows = _sweep(folder, setting, log_every=1)
    start = sweep.init().trainables[0] if setting["adapter"] == "lora" else {"layers": {}}
    factors = {
        f"{name}.{factor}": np.asarray(leaf[0])
        for name, pair in start["layers"].items()
        for factor, leaf in pair.items()
    }
    orders = row_orders(sweep.arms, len(rows.tokens), sweep.config)[0]
    kept = {"tokens": rows.tokens, "loss_mask": rows.loss_mask, "positions": rows.positions}
    arrays: dict[str, Any] = {"orders": orders, **jax.device_get(kept), **factors}
    np.savez(path, **arrays)


def ours(setting: Setting) -> Work:
    import jax

    notes = use_cores(setting["folder"], setting["rows"])
    sweep, _ = _sweep(setting["folder"], setting, log_every=setting["steps"])
    state = sweep.init()

    def repeat() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(sweep.advance(state))

    def results() -> dict[str, np.ndarray]:
        """Of a second program, which tells the loss of every step."""
        checked, _ = _sweep(setting["folder"], setting, log_every=1)
        at, losses = checked.init(), []
        for _ in range(CHECKED):
            at, metrics = checked.advance(at)
            losses.append(float(metrics["batch_loss"][0]))
        return {"losses": np.asarray(losses)}

    return Work(repeat, results, notes)


def peer(setting: Setting) -> Work:
    import torch

    data = np.load(setting["data"])
    model = load_peer(setting["folder"], setting["dtype"])
    if setting["adapter"] == "lora":
        model = _with_lora(model, data, setting)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    rate = RATE[setting["adapter"]]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0, fused=True)
    device = peer_device()
    tokens = torch.tensor(data["tokens"], dtype=torch.long, device=device)
    attention_mask = torch.tensor(data["positions"] >= 0, dtype=torch.long, device=device)
    labels = tokens.masked_fill(torch.tensor(data["loss_mask"] == 0, device=device), -100)
    orders = torch.tensor(data["orders"], dtype=torch.long, device=device)
    losses: list[Any] = []

    def step() -> None:
        rows = orders[len(losses)]
        loss = model(
            input_ids=tokens[rows], attention_mask=attention_mask[rows], labels=labels[rows]
        ).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())

    def repeat() -> None:
        for _ in range(setting["steps"]):
            step()
        if device == "cuda":
            torch.cuda.synchronize()

    def results() -> dict[str, np.ndarray]:
        while len(losses) < CHECKED:
            repeat()
        return {"losses": np.asarray([float(x) for x in losses[:CHECKED]])}

    return Work(repeat, results)


def _sweep(folder: str, setting: Setting, log_every: int) -> tuple[Any, Any]:
    """(the sweep of one student, its rows)."""
    import jax.numpy as jnp

    from subliminal_jax.training.adapters import Full, LoRA
    from subliminal_jax.training.arms import Arm, TrainConfig
    from subliminal_jax.training.batch import Batch
    from subliminal_jax.training.optimizers import OptimizerSpec
    from subliminal_jax.training.sweep import Sweep

    params, cfg = load_ours(folder, setting["dtype"])
    rows = Batch(*(jnp.asarray(x) for x in random_rows(cfg.vocab, setting)))
    adapter = LoRA(rank=setting["rank"], alpha=16.0) if setting["adapter"] == "lora" else Full()
    config = TrainConfig(
        steps=1000, batch_size=setting["rows"], adapter=adapter, log_every=log_every
    )
    optimizer = OptimizerSpec.parse(setting["optimizer"])
    arm = Arm(optimizer, RATE[setting["adapter"]], seed=0, data="rows")
    return Sweep(params, cfg, [arm], {"rows": rows}, config), rows


def random_rows(vocab: int, setting: Setting) -> tuple[np.ndarray, ...]:
    """(tokens, positions, loss mask) of four batches: a prompt, a completion of about the same
    length that is to be predicted, and padding, as the rows of number lists have them."""
    rng = np.random.default_rng(0)
    n, T = 4 * setting["rows"], setting["time"]
    tokens = rng.integers(3, vocab, (n, T), dtype=np.int32)
    prompt = rng.integers(3 * T // 8, T // 2, n)[:, None]
    whole = prompt + rng.integers(3 * T // 8, T // 2 + 1, n)[:, None]
    at = np.arange(T, dtype=np.int32)[None]
    positions = np.where(at < whole, at, -1).astype(np.int32)
    return tokens, positions, ((at >= prompt) & (at < whole)).astype(np.float32)


def _with_lora(model: Any, data: Any, setting: Setting) -> Any:
    """`model` with PEFT's LoRA at our starting factors."""
    import peft
    import torch

    names = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj", "gate": "gate_proj",
             "up": "up_proj", "down": "down_proj"}  # fmt: skip
    config = peft.LoraConfig(
        r=setting["rank"], lora_alpha=16, lora_dropout=0.0, target_modules=list(names.values())
    )
    model = peft.get_peft_model(model, config)
    ours_by_name = {theirs: mine for mine, theirs in names.items()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parts = name.split(".")
                layer, projection = int(parts[parts.index("layers") + 1]), parts[-4]
                a = data[f"{ours_by_name[projection]}.a"][layer]
                parameter.copy_(torch.tensor(a.T))
    return model


if __name__ == "__main__":
    command("benchmarks.train_step", __doc__ or "", main)
