"""Every program is lowered for a GPU where there is none, and says what it reads."""

import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from benchmarks import lowered
from benchmarks.models import SHAPES, make_config
from subliminal_jax.errors import InputError
from subliminal_jax.models.spec import ParamInfo, spec
from subliminal_jax.training.optimizers import OPTIMIZERS

REPOSITORY = Path(__file__).parents[2]
CFG = make_config(SHAPES["tiny"])


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Of a process of its own: the tests' checks of shapes want arrays."""
    file = tmp_path_factory.mktemp("lowered") / "programs.json"
    command = "-m benchmarks.lowered --shape tiny --every-rule --json"
    result = subprocess.run(
        [sys.executable, *command.split(), str(file)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return {program["name"]: program for program in json.loads(file.read_text())}


def test_training_scoring_and_sampling_are_there_and_every_rule(programs):
    rules = f"{len(OPTIMIZERS)} students, every rule"
    assert {"score rows", "read prompts", "write answers", f"train {rules}"} <= programs.keys()


def test_weights_are_arguments_and_nothing_large_is_held_in_a_program(programs):
    leaves = jax.tree.leaves(spec(CFG), is_leaf=lambda x: isinstance(x, ParamInfo))
    weights = 2 * sum(math.prod(info.shape) for info in leaves)  # bfloat16
    for program in programs.values():
        assert program["argument_bytes"] > weights
        assert program["constant_bytes"] == 0, program["name"]


def test_what_writes_answers_copies_no_weights_for_every_token(programs):
    assert programs["write answers"]["stack_slices"] == 0
    assert programs["read prompts"]["stack_slices"] > 0  # a loop over the layers


def test_no_program_asks_for_a_kernel_that_only_a_cpu_has(programs):
    for program in programs.values():
        assert not [name for name in program["kernels"] if "lapack" in name], program["name"]


def test_what_the_text_says_is_counted():
    stack = jax.ShapeDtypeStruct((CFG.layers, CFG.dim, CFG.dim), jnp.bfloat16)

    def read(stack, n):
        before = stack[0].astype(jnp.float32)  # once, and so not counted
        total = jax.lax.fori_loop(0, n, lambda i, x: x + stack[i % 2].sum(), 0.0)
        return jnp.linalg.qr(before)[0].sum() + total

    args = (stack, jax.ShapeDtypeStruct((), jnp.int32))
    text = jax.jit(read).trace(*args).lower().as_text()
    program = lowered.describe("read", text, args, CFG)
    size = CFG.dim * CFG.dim * 2
    assert program.argument_bytes == CFG.layers * size + 4
    assert (program.stack_slices, program.slice_bytes) == (1, size)
    assert any("lapack" in name for name in program.kernels)


@pytest.mark.parametrize(
    ("constant", "expected"),
    [
        ('dense<"0x0102"> : tensor<40000xf32>', 160_000),
        ("dense<[1.0, 2.0]> : tensor<2xf32>", 0),  # small
        ("dense<0.0> : tensor<40000xf32>", 0),  # one number, repeated
    ],
)
def test_large_constants_count_by_their_bytes(constant, expected):
    text = f"    %cst = stablehlo.constant {constant}"
    assert lowered.describe("held", text, (), CFG).constant_bytes == expected


def test_a_shape_that_is_none_is_said():
    with pytest.raises(InputError, match="--shape 8B: there are shipped, tiny"):
        lowered.read_shape("8B")
