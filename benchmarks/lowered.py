"""The programs of training, scoring and sampling as they are lowered for a GPU, without one.

    python -m benchmarks.lowered [--shape 7B] [--platform cuda] [--json FILE]

Nothing is compiled and no weight exists: programs are traced for shapes and lowered for the
platform, with the choices that are made there (attention of JAX's own, all students in one pass).
The table says what can be seen before a compiler: how many bytes each program takes as arguments,
what is held in it as constants (which would be copied into every program), how many loops it has,
how often these slice a stack of layers' weights and how large the slices are, and which kernels it
asks for by name. Copies, temporaries and fusions are the device's own.
"""

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.models import SHAPES, SHIPPED, config_of, make_config
from subliminal_jax.errors import InputError
from subliminal_jax.memory import show_bytes
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.sampling_inputs import SamplingConfig
from subliminal_jax.models.sampling_programs import read_prompts, write_answers
from subliminal_jax.models.spec import ParamInfo, spec
from subliminal_jax.training.adapters import LoRA
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.losses import token_losses
from subliminal_jax.training.optimizers import OPTIMIZERS as REGISTRY
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.sweep import Sweep

OPTIMIZERS = ("adamw", "rmsprop", "signum", "momentum", "sgd")
MATRIX_RULES = ("muon", "soap:max_dim=64", "galore", "lora_muon")
ROWS, TIME, SEEDS, NEW_TOKENS = 8, 64, 3, 32
Call = tuple[str, Any, tuple, dict[str, Any]]  # name, jitted function and its arguments
LARGE = 65_536  # bytes from which a constant counts


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      shape: of the model: `shipped`, or one of `benchmarks.models.SHAPES`.
      platform: as JAX names it.
      every_rule: one student of every optimizer of the registry, too.
      json: a file for the numbers.
    """

    shape: str = "shipped"
    platform: str = "cuda"
    every_rule: bool = False
    json: Path | None = None


@dataclass(frozen=True)
class Program:
    """What the text of a lowered program says.

    Attributes:
      constant_bytes: of constants of at least `LARGE` bytes.
      stack_slices: reads of one layer's weights, or some layers', out of a stack, in a loop.
      kernels: how often each is asked for by name.
    """

    name: str
    argument_bytes: int
    constant_bytes: int
    operations: int
    loops: int
    stack_slices: int
    slice_bytes: int
    kernels: dict[str, int]


def main(config: Config) -> list[Program]:
    """Lower the programs, print the table, and write the file if there is one."""
    cfg = read_shape(config.shape)
    programs = []
    with mock.patch.object(jax, "default_backend", return_value="gpu"):
        for name, jitted, args, kwargs in list_programs(cfg, config.every_rule):
            lowered = jitted.trace(*args, **kwargs).lower(lowering_platforms=(config.platform,))
            programs.append(describe(name, lowered.as_text(), (args, kwargs), cfg))
    print_table(programs, config)
    if config.json is not None:
        text = json.dumps([asdict(program) for program in programs], indent=1)
        config.json.write_text(text + "\n", encoding="utf-8")
    return programs


def read_shape(shape: str) -> ModelConfig:
    """The configuration of a shape. Raises InputError for one that is not known."""
    if shape == "shipped":
        return config_of(SHIPPED)
    if shape not in SHAPES:
        raise InputError(f"--shape {shape}: there are shipped, {', '.join(SHAPES)}")
    return make_config(SHAPES[shape])


def list_programs(
    cfg: ModelConfig, every_rule: bool
) -> Iterator[tuple[str, Any, tuple, dict[str, Any]]]:
    """The programs, with arrays by their shapes alone."""
    params = jax.tree.map(
        lambda info: jax.ShapeDtypeStruct(info.shape, jnp.bfloat16),
        spec(cfg),
        is_leaf=lambda x: isinstance(x, ParamInfo),
    )
    rows = make_rows(cfg)
    yield "score rows", jax.jit(make_scorer(cfg)), (params, rows), {}
    yield from list_sampling(params, cfg)
    plan = TrainConfig(steps=8, batch_size=ROWS, adapter=LoRA(rank=8), log_every=4)
    sweeps = {"": OPTIMIZERS * SEEDS, ", matrix rules": MATRIX_RULES * SEEDS}
    if every_rule:
        sweeps[", every rule"] = tuple(REGISTRY)
    for name, rules in sweeps.items():
        arms = [Arm(OptimizerSpec.parse(rule), 1e-3, seed, "x") for seed, rule in enumerate(rules)]
        sweep = Sweep(params, cfg, arms, {"x": rows}, plan)
        state = jax.eval_shape(sweep._init, sweep._inputs)
        label = f"{len(arms)} students{name}"
        yield f"start {label}", sweep._init, (sweep._inputs,), {}
        yield f"train {label}", sweep._advance, (state, sweep._inputs, np.int32(0)), {}


def list_sampling(params: Any, cfg: ModelConfig) -> Iterator[Call]:
    """The two programs of sampling."""
    leaves, structure = jax.tree.flatten((params, None, None))
    read = {"structure": structure, "cfg": cfg, "edited": True, "slots": TIME}
    tokens = jax.ShapeDtypeStruct((ROWS, TIME), jnp.int32)
    lengths = jax.ShapeDtypeStruct((ROWS,), jnp.int32)
    yield "read prompts", read_prompts, (tuple(leaves), tokens, lengths), read
    hidden, caches = jax.eval_shape(
        lambda *args: read_prompts(*args, **read), tuple(leaves), tokens, lengths
    )
    write = {
        "structure": structure,
        "cfg": cfg,
        "sampling": SamplingConfig(max_new_tokens=NEW_TOKENS, stop_tokens=(0,)),
        "sizes": (TIME + NEW_TOKENS,),
    }
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), ROWS))
    scalars = jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)
    given = (tuple(leaves), hidden, caches, lengths, keys, *scalars)
    yield "write answers", write_answers, given, write


def make_rows(cfg: ModelConfig) -> Batch:
    """Random rows of which the second half is predicted."""
    tokens = np.random.default_rng(0).integers(0, cfg.vocab, (ROWS, TIME), np.int32)
    at = np.broadcast_to(np.arange(TIME, dtype=np.int32), (ROWS, TIME))
    mask = (at >= TIME // 2).astype(np.float32)
    return Batch(jnp.asarray(tokens), jnp.asarray(at), jnp.asarray(mask))


def make_scorer(cfg: ModelConfig) -> Callable[[Any, Batch], Any]:
    """The losses of the predicted tokens of rows."""
    return lambda params, rows: token_losses(params, rows, cfg, max_targets=TIME // 2)


WIDTHS = {"f32": 4, "bf16": 2, "f16": 2, "i32": 4, "ui32": 4, "i64": 8, "f64": 8, "i1": 1, "i8": 1}
TENSOR = re.compile(r"tensor<((?:\d+x)*)(\w+)>")


def describe(name: str, text: str, arguments: Any, cfg: ModelConfig) -> Program:
    """What the StableHLO text of a program says."""
    leaves = [x for x in jax.tree.leaves(arguments) if hasattr(x, "shape")]
    stack_slices = slice_bytes = constants = 0
    for line, in_loop in find_loops(text):
        if in_loop and ("stablehlo.dynamic_slice" in line or "stablehlo.slice" in line):
            (shape, _), *_, (part, kind) = (read_type(*found) for found in TENSOR.findall(line))
            if len(shape) >= 3 and shape[0] == cfg.layers and max(shape[1:]) >= cfg.dim:
                stack_slices += 1
                slice_bytes += math.prod(part) * WIDTHS.get(kind, 4)
        elif "stablehlo.constant" in line and "dense" in line:
            shape, kind = read_type(*TENSOR.findall(line)[-1])
            size = math.prod(shape) * WIDTHS.get(kind, 4)
            splat = re.search(r"dense<[^\[\"]*>", line)
            constants += size if size >= LARGE and not splat else 0
    return Program(
        name=name,
        argument_bytes=sum(
            math.prod(x.shape) * jnp.dtype(x.dtype).itemsize
            for x in leaves
            if not jax.dtypes.issubdtype(x.dtype, jax.dtypes.extended)
        ),
        constant_bytes=constants,
        operations=text.count(" = "),
        loops=text.count("stablehlo.while"),
        stack_slices=stack_slices,
        slice_bytes=slice_bytes,
        kernels=dict(Counter(re.findall(r"stablehlo\.custom_call @([\w.$]+)", text))),
    )


def find_loops(text: str) -> list[tuple[str, bool]]:
    """The lines of a module, each with whether it is in a loop, by itself or by the function that
    it stands in."""
    lines: list[tuple[str, str, bool]] = []  # with the function, and whether a loop is around it
    function, depth, loops = "", 0, list[int]()
    for line in text.splitlines():
        if found := re.search(r"func\.func \w+ @(\w+)", line):
            function = found.group(1)
        if re.match(r"\s*}", line):
            while loops and depth + line.count("{") - line.count("}") < loops[-1]:
                loops.pop()
        lines.append((line, function, bool(loops)))
        if "stablehlo.while" in line:
            loops.append(depth + 1)
        depth += line.count("{") - line.count("}")
    called: dict[str, set[str]] = {}
    repeated = set[str]()
    for line, function, in_loop in lines:
        for name in re.findall(r"call @(\w+)", line):
            called.setdefault(function, set()).add(name)
            repeated |= {name} if in_loop else set()
    waiting = list(repeated)
    while waiting:
        new = called.get(waiting.pop(), set()) - repeated
        repeated |= new
        waiting += new
    return [(line, in_loop or function in repeated) for line, function, in_loop in lines]


def read_type(dimensions: str, kind: str) -> tuple[tuple[int, ...], str]:
    """The shape and the element type of a tensor's type."""
    return tuple(int(n) for n in dimensions.split("x") if n), kind


def print_table(programs: list[Program], config: Config) -> None:
    table = Table(title=f"{config.shape}, lowered for {config.platform}")
    for column in (
        "program",
        "arguments",
        "constants",
        "operations",
        "loops",
        "slices of stacks in loops",
    ):
        table.add_column(column, justify="left" if column == "program" else "right")
    table.add_column("kernels by name")
    for p in programs:
        slices = f"{p.stack_slices}, {show_bytes(p.slice_bytes)}" if p.stack_slices else "0"
        kernels = ", ".join(f"{name} x {n}" for name, n in sorted(p.kernels.items()))
        table.add_row(
            p.name,
            show_bytes(p.argument_bytes),
            show_bytes(p.constant_bytes) if p.constant_bytes else "0",
            f"{p.operations:,}",
            str(p.loops),
            slices,
            kernels,
        )
    Console().print(table)


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=(__doc__ or "").split("\n\n")[0]))
    except InputError as error:
        sys.exit(str(error))
