"""What each optimizer of the registry costs: the memory of its state, and the time of its updates.

    python -m benchmarks.optimizers [NAME ...] [--students 8] [--rank 8]

prints a table: rule, source, bytes of state a trained weight (float32 parameters take 4), and the
time of an update as a multiple of AdamW's, measured in turns with it on LoRA students of the
shipped model. How far a rule is from a reference in float64 is what
``python -m tests.training.test_optimizer_references`` prints. This is no part of `benchmarks.all`:
the time of an update is small beside that of a step's gradient.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import PyTree

from subliminal_jax.models.hub import outline_model
from subliminal_jax.training.adapters import LoRA, init_trainable
from subliminal_jax.training.optimizers import OPTIMIZERS, OptimizerSpec, make_optimizer
from subliminal_jax.training.update_costs import prepare_updates

ROUNDS, STEPS = 5, 10


def make_student(rank: int) -> PyTree:
    """The LoRA factors of one student of the shipped model."""
    model = outline_model("shipped")
    return init_trainable(jax.random.key(0), model.params, model.cfg, LoRA(rank=rank))


def prepare(text: str, student: PyTree, students: int) -> Callable[[], Any]:
    """A call that makes `STEPS` updates of many students, at the middle of the default grid."""
    grid = OptimizerSpec.parse(text).entry.grid
    return prepare_updates(text, grid[len(grid) // 2], student, students, STEPS)


def count_state_bytes(text: str, student: PyTree) -> float:
    """Bytes of state a trained weight."""
    optimizer = make_optimizer(OptimizerSpec.parse(text), 1e-3, total_steps=STEPS)
    state = jax.eval_shape(optimizer.init, student)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return size / sum(leaf.size for leaf in jax.tree.leaves(student))


def measure_ratio(run: Callable[[], Any], peer: Callable[[], Any]) -> float:
    """The median over rounds of the seconds of `run` over those of `peer`, which take turns."""
    ratios = []
    for round_ in range(ROUNDS + 1):  # the first compiles
        seconds = []
        for side in (run, peer):
            start = time.perf_counter()
            side()
            seconds.append(time.perf_counter() - start)
        if round_:
            ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", default=sorted(OPTIMIZERS), help="as of --optimizers")
    parser.add_argument("--students", type=int, default=8)
    parser.add_argument("--rank", type=int, default=8)
    arguments = parser.parse_args()
    student = make_student(arguments.rank)
    adamw = prepare("adamw", student, arguments.students)
    print("| optimizer | source | bytes of state a weight | update, times AdamW's |")
    print("|---|---|---|---|")
    for name in arguments.names:
        ratio = measure_ratio(prepare(name, student, arguments.students), adamw)
        size, source = count_state_bytes(name, student), OptimizerSpec.parse(name).entry.paper
        print(f"| {name} | {source} | {size:.1f} | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    main()
