"""Tokens a second of a training step, against transformers + PEFT on torch.

    python -m benchmarks.train_step [--quick]

Ours is a sweep of one student (`training/sweep.py`), the peer the loop that one writes with
transformers, PEFT and torch's fused AdamW (the Trainer's default): the same weights, LoRA factors,
rows and order of rows in float32, the loss being the mean over the completions' tokens. The losses
of the first steps must be equal step by step. LoRA has rank 8 on all seven projections; full
training changes every weight.

On a CPU the shipped model has a device a core (`use_cores`); a repetition is one call of eight
steps, as often as a run logs.

On an accelerator both sides compute in bfloat16 with float32 trainables: ours has bfloat16 weights
(a student of full training float32 ones, cast at each step), the peer the same under torch's
autocast, as the Trainer's `bf16` has it.

The goal is 1.5 times the peer's tokens a second with LoRA on a CPU, and on an accelerator half of
its product ceiling with LoRA at 7B (`harness.shares` says what is counted).

The shipped model's step (64 rows of 48 tokens) took 790 ms at first; at 184 CPU ms on one core,
where torch takes 256, it was: products of the forward pass 26 ms, of the backward pass 26 and, for
the gradient of merged weights, 32; the head 16; attention 34; the gated activation 15; norms and
sums 8; stacks that a scan keeps for the backward pass 8; pages of temporaries 4. Products run at
150 GFLOP a second and core, all that it gives. What was mended: the gradient's sums over (batch,
time) transposed the activations; every array between products was written for the backward pass;
attention went through small transposed products, and its logits were kept; thin products of rank 8
run at a tenth of a wide one's speed, so narrow weights are merged with their update; a batch axis
of one student made sums of norms slow; tall weights had the slow orientation of a gradient; the
last block computed what nobody reads for the half of the tokens that are not predicted; and since
then a few layers are written out, without stacks, and predicted tokens are unembedded alone (6% by
the clock). Tried without gain: parts of a batch one after another (10% less on one core, nothing on
two), a sigmoid by tanh or computed thrice (1%), huge pages (2% on two cores), XLA's flags for its
scheduler, vector width and fusions.

Not reached on wide models (1.07 at a width of 512, 1.00 at 896), which are bound by the products
on both sides, and these take the same time in both: at a width of 512 they are two thirds of our
step, so that a ratio of 1.5 would leave nothing for anything else. With full training the peer's
AdamW is one pass, in place, over weights and moments; ours are several, for the old state is kept
until the step is known to be finite.
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
from benchmarks.workers import Setting, Work, call
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.flops import block_parameters, step_flops

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
# In bfloat16; of the large models' rows all tokens are real, and 1024 are read. Both sides lie in
# the memory of one accelerator of 80 GB, beside the ceilings (2 GB) and three times the libraries
# (0.5 GB). Each token takes, a layer: of ours, every product with a weight, 96 kB at 7B and 25 at
# 0.5B; of the peer 251 and 64 (counted by `torch.autograd.graph.saved_tensors_hooks`). Its logits
# and their gradients take 14 bytes a number of the vocabulary and token, ours 0.5 GB. So in GB,
# weights and their states first:
#   7B LoRA, 2048 tokens:   ours 14 + 6 + 1, peer 14 + 14 + 4
#   0.5B LoRA, 8192 tokens: ours 1 + 5 + 1, peer 1 + 13 + 17
#   0.5B full, 8192 tokens: ours 15 + 5 + 1, peer 8 + 13 + 17
# 4096 tokens would make 26 + 51 at 7B; full training of it takes 113 for the peer's states alone.
ACCELERATOR_CASES = [
    ("7B", "lora", 2, 1025, 4),
    ("0.5B", "lora", 8, 1025, 4),
    ("0.5B", "full", 8, 1025, 4),
    ("shipped", "lora", 64, 48, 8),
]
ACCELERATOR_QUICK_CASES = ACCELERATOR_CASES[:2]
RATE = {"lora": 1e-3, "full": 1e-4}
CHECKED = 3  # steps whose losses are compared
# Batches of rows. Of random tokens in new rows nothing is learnt, so that losses in bfloat16, which
# are some 1e-3 nats apart from the start, would not show whether both sides train: there all steps
# have the same rows, whose loss falls by a nat a step.
BATCHES = {"float32": 4, "bfloat16": 1}
# Nats: sums in other orders, through a few steps of Adam. In bfloat16 four layers of the 0.5B model
# make 0.001 (LoRA) and 0.008 (full).
EQUAL = {"float32": 2e-4, "bfloat16": 5e-2}
GOAL, MFU_GOAL = 1.5, 0.5


def main(quick: bool) -> Iterator[Document]:
    return measure_each(settings, measure, quick)


def settings(accelerator: bool, quick: bool) -> list[dict[str, Any]]:
    """What is measured on a device of this kind."""
    chosen: list[tuple[str, str, int, int, int]] = QUICK_CASES if quick else CASES
    if accelerator:
        chosen = ACCELERATOR_QUICK_CASES if quick else ACCELERATOR_CASES
    return [
        {
            "shape": shape,
            "adapter": adapter,
            "rows": rows,
            "time": time,
            "steps": steps,
            "rank": 8,
            "optimizer": "adamw",
            "dtype": "bfloat16" if accelerator else "float32",
            **({"padding": "none"} if accelerator and shape != "shipped" else {}),
        }
        for shape, adapter, rows, time, steps in chosen
    ]


def find_goal(setting: Setting, accelerator: bool) -> Goal | None:
    """The goal of a case, if there is one."""
    if setting["adapter"] != "lora":
        return None
    if accelerator:
        return Goal(MFU_GOAL, of="mfu") if setting["shape"] == "7B" else None
    return Goal(GOAL)


def measure(setting: dict[str, Any], cache: Path, effort: Effort) -> Document:
    """One shape and adapter."""
    folder = model_folder(setting["shape"], cache)
    cfg = config_of(folder)
    data = cache / f"{setting['shape'].replace('/', '-')}-{setting['adapter']}.npz"
    call(f"{__name__}:write_inputs", str(data), folder, setting)
    pair = run_pair(__name__, setting | {"folder": folder, "data": str(data)}, effort)
    data_of = np.load(data)
    predicted = float(data_of["loss_mask"].mean()) * setting["rows"] * setting["time"]
    flops, moved = count_work(cfg, setting, predicted)
    losses = Equal(
        f"losses (nats) of {CHECKED} steps",
        largest_difference(pair.ours.results, pair.peer.results),
        EQUAL[setting["dtype"]],
    )
    return make_document(
        "train_step",
        setting,
        pair,
        equal=losses,
        flops=flops,
        bytes_moved=moved,
        amount=(setting["rows"] * setting["time"] * setting["steps"], "tokens"),
        goal=find_goal(setting, device().accelerator),
    )


def count_work(cfg: ModelConfig, setting: Setting, predicted: float) -> tuple[float, float]:
    """(FLOPs, bytes) of a repetition, of whose batches each predicts so many tokens.

    Weights are read in each pass; full training reads and writes its float32 ones and both moments,
    and reads the gradient.
    """
    full = setting["adapter"] == "full"
    flops = step_flops(cfg, setting["rows"], setting["time"], predicted, full)
    size = {"float32": 4, "bfloat16": 2}[setting["dtype"]]
    weights = block_parameters(cfg) + cfg.vocab * cfg.dim
    moved = float(weights * ((3 if full else 2) * size + (7 * 4 if full else 0)))
    return setting["steps"] * flops, setting["steps"] * moved


def write_inputs(path: str, folder: str, setting: Setting) -> None:
    """Rows, their order, and the LoRA factors that both sides start from."""
    import jax

    from subliminal_jax.models.spec import ParamInfo, spec
    from subliminal_jax.training.adapters import LoRA, init_trainable
    from subliminal_jax.training.arms import row_orders

    cfg, (arm, config) = config_of(folder), _arm(setting, log_every=1)
    start: dict[str, Any] = {"layers": {}}
    if isinstance(config.adapter, LoRA):  # they depend on the shapes of the weights alone
        weights = spec(cfg)
        shapes = jax.tree.map(
            lambda info: jax.ShapeDtypeStruct(info.shape, np.float32),
            weights,
            is_leaf=lambda x: isinstance(x, ParamInfo),
        )
        start = init_trainable(jax.random.key(arm.seed), shapes, cfg, config.adapter)
    factors = {
        f"{name}.{factor}": np.asarray(leaf)
        for name, pair in start["layers"].items()
        for factor, leaf in pair.items()
    }
    tokens, positions, mask = random_rows(cfg.vocab, setting)
    arrays: dict[str, Any] = {
        "orders": row_orders((arm,), len(tokens), config)[0],
        "tokens": tokens,
        "positions": positions,
        "loss_mask": mask,
        **factors,
    }
    np.savez(path, **arrays)


def ours(setting: Setting) -> Work:
    import jax

    notes = use_cores(setting["folder"], setting["rows"])
    model = load_ours(setting["folder"], setting["dtype"])
    sweep = _sweep(model, setting, log_every=setting["steps"])
    state = sweep.init()

    def repeat() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(sweep.advance(state))

    def results() -> dict[str, np.ndarray]:
        """Of a second program, which tells the loss of every step."""
        checked = _sweep(model, setting, log_every=1) if setting["steps"] > 1 else sweep
        checked_state, losses = checked.init(), []
        for _ in range(CHECKED):
            checked_state, metrics = checked.advance(checked_state)
            losses.append(float(metrics["batch_loss"][0]))
        return {"losses": np.asarray(losses)}

    return Work(repeat, results, notes)


def peer(setting: Setting) -> Work:
    import torch

    data, device = np.load(setting["data"]), peer_device(setting)
    narrow, lora = setting["dtype"] == "bfloat16", setting["adapter"] == "lora"
    # What is trained is float32: LoRA's factors (PEFT sees to it), or all weights.
    model = load_peer(setting["folder"], setting["dtype"] if lora else "float32", device)
    if lora:
        model = _add_lora(model, data, setting)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    rate = RATE[setting["adapter"]]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0, fused=True)
    tokens = torch.tensor(data["tokens"], dtype=torch.long, device=device)
    attention_mask = torch.tensor(data["positions"] >= 0, dtype=torch.long, device=device)
    labels = tokens.masked_fill(torch.tensor(data["loss_mask"] == 0, device=device), -100)
    orders = torch.tensor(data["orders"], dtype=torch.long, device=device)
    losses: list[Any] = []

    def step() -> None:
        rows = orders[len(losses)]
        with torch.autocast(device, torch.bfloat16, enabled=narrow):
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


def _sweep(model: tuple[Any, ModelConfig], setting: Setting, log_every: int) -> Any:
    """The sweep of one student."""
    import jax.numpy as jnp

    from subliminal_jax.training.batch import Batch
    from subliminal_jax.training.sweep import Sweep

    params, cfg = model
    rows = Batch(*(jnp.asarray(x) for x in random_rows(cfg.vocab, setting)))
    arm, config = _arm(setting, log_every)
    return Sweep(params, cfg, [arm], {"rows": rows}, config)


def _arm(setting: Setting, log_every: int) -> tuple[Any, Any]:
    """(the student, how it is trained)."""
    from subliminal_jax.training.adapters import Full, LoRA
    from subliminal_jax.training.arms import Arm, TrainConfig
    from subliminal_jax.training.optimizers import OptimizerSpec

    adapter = LoRA(rank=setting["rank"], alpha=16.0) if setting["adapter"] == "lora" else Full()
    config = TrainConfig(
        steps=1000, batch_size=setting["rows"], adapter=adapter, log_every=log_every
    )
    optimizer = OptimizerSpec.parse(setting["optimizer"])
    return Arm(optimizer, RATE[setting["adapter"]], seed=0, data="rows"), config


def random_rows(vocab: int, setting: Setting) -> tuple[np.ndarray, ...]:
    """(tokens, positions, loss mask) of a few batches: a prompt, a completion of about the same
    length that is to be predicted, and padding, as the rows of number lists have them; with
    `padding` "none" the completion goes on to the end of the row."""
    rng = np.random.default_rng(0)
    n, T = BATCHES[setting.get("dtype", "float32")] * setting["rows"], setting["time"]
    tokens = rng.integers(3, vocab, (n, T), dtype=np.int32)
    prompt = rng.integers(3 * T // 8, T // 2, n)[:, None]
    ends = prompt + rng.integers(3 * T // 8, T // 2 + 1, n)[:, None]
    if setting.get("padding") == "none":
        ends = np.full_like(ends, T)
    positions = np.arange(T, dtype=np.int32)[None]
    padded_positions = np.where(positions < ends, positions, -1).astype(np.int32)
    return tokens, padded_positions, ((positions >= prompt) & (positions < ends)).astype(np.float32)


def _add_lora(model: Any, data: Any, setting: Setting) -> Any:
    """`model` with PEFT's LoRA at our starting factors."""
    import peft
    import torch

    names = {
        "q": "q_proj",
        "k": "k_proj",
        "v": "v_proj",
        "o": "o_proj",
        "gate": "gate_proj",
        "up": "up_proj",
        "down": "down_proj",
    }
    config = peft.LoraConfig(
        r=setting["rank"], lora_alpha=16, lora_dropout=0.0, target_modules=list(names.values())
    )
    model = peft.get_peft_model(model, config)
    ours_by_name = {peer_name: our_name for our_name, peer_name in names.items()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parts = name.split(".")
                layer, projection = int(parts[parts.index("layers") + 1]), parts[-4]
                a = data[f"{ours_by_name[projection]}.a"][layer]
                parameter.copy_(torch.tensor(a.T))
    return model


if __name__ == "__main__":
    run_command("benchmarks.train_step", __doc__ or "", main)
