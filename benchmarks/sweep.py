"""Seconds and memory of K students in one program, against K runs one after another.

    python -m benchmarks.sweep [--quick]

A run is what a user starts: building the sweep, tracing, compiling, the start and all its steps,
with no program kept from an earlier one. Ours trains K students (LoRA rank 8, AdamW, as many rates
and seeds) in one run; the peer is our own code with one student a run. Runs one after another are
alike, so at most SAMPLED of them are done and their time is scaled to K. The losses of the sampled
students must be those of the same students in the sweep.

Expected on 2 CPU cores: at most 0.7 of the time for 16 students, in about the memory of one run:
students take turns on a CPU, so what is saved is the compilation. On an accelerator they share
every product: at least 20 times faster for 64 students.
"""

from collections.abc import Iterator

import numpy as np

from benchmarks.harness import (
    Document,
    Effort,
    Equal,
    Goal,
    Pair,
    Side,
    largest_difference,
    make_document,
    print_summary,
    run_command,
    run_pair,
)
from benchmarks.machine import device
from benchmarks.models import SHIPPED, load_ours
from benchmarks.train_step import random_rows
from benchmarks.workers import Repetition, Setting, Work

STUDENTS, QUICK_STUDENTS = (1, 4, 16, 64), (1, 4)
STEPS, QUICK_STEPS = 48, 16  # those of the demonstration
ROWS, TIME = 20, 48
SAMPLED = 4
EFFORT = Effort(seconds=60.0, least=2, most=5, warm=0)
QUICK = Effort(seconds=10.0, least=2, most=3, warm=0)
# Of an accelerator, where one run compiles for longer than it trains, and the steps of many
# students take hardly longer than those of one.
ACCELERATOR_QUICK_STUDENTS, ACCELERATOR_SAMPLED = (64,), 2
ACCELERATOR_EFFORT = Effort(seconds=0.0, least=2, warm=0)
# Nats, after all steps. On an accelerator other products serve many students than one, whose sums
# have another order, and Adam makes more of what is small.
EQUAL, ACCELERATOR_EQUAL = 1e-4, 1e-2
GOAL_STUDENTS, GOAL = 16, 1 / 0.7
ACCELERATOR_GOAL_STUDENTS, ACCELERATOR_GOAL = 64, 20.0


def cases(accelerator: bool, quick: bool) -> tuple[tuple[int, ...], int, int]:
    """(numbers of students, steps, how many runs of one student are done at most)."""
    if accelerator:
        return ACCELERATOR_QUICK_STUDENTS if quick else STUDENTS, STEPS, ACCELERATOR_SAMPLED
    return (QUICK_STUDENTS, QUICK_STEPS, SAMPLED) if quick else (STUDENTS, STEPS, SAMPLED)


def find_goal(students: int, accelerator: bool) -> Goal | None:
    """The goal of so many students, if there is one."""
    if accelerator:
        return Goal(ACCELERATOR_GOAL) if students == ACCELERATOR_GOAL_STUDENTS else None
    return Goal(GOAL) if students == GOAL_STUDENTS else None


def main(quick: bool) -> Iterator[Document]:
    accelerator = device().accelerator
    numbers, steps, most_sampled = cases(accelerator, quick)
    effort = ACCELERATOR_EFFORT if accelerator else QUICK if quick else EFFORT
    for students in numbers:
        sampled = min(students, most_sampled)
        setting = {
            "shape": "shipped",
            "students": students,
            "steps": steps,
            "rows": ROWS,
            "time": TIME,
            "sampled": sampled,
        }
        pair = run_pair(__name__, setting, effort)
        our_losses = {"losses": pair.ours.results["losses"][:sampled]}
        allowed = ACCELERATOR_EQUAL if accelerator else EQUAL
        equal = Equal(
            "last losses (nats)", largest_difference(our_losses, pair.peer.results), allowed
        )
        scaled = Pair(pair.ours, _scaled(pair.peer, students / sampled), *pair[2:])
        document = make_document(
            "sweep",
            setting,
            scaled,
            equal=equal,
            goal=find_goal(students, accelerator),
            amount=(students * steps, "student_steps"),
        )
        print_summary(document)
        yield document


def _scaled(side: Side, factor: float) -> Side:
    """The side with that many times the work."""
    more = tuple(Repetition(factor * a, factor * b) for a, b in side.repetitions)
    return side._replace(repetitions=more)


def ours(setting: Setting) -> Work:
    """All students in one program."""
    return _runs([list(range(setting["students"]))], setting)


def peer(setting: Setting) -> Work:
    """One student a run."""
    return _runs([[i] for i in range(setting["sampled"])], setting)


def _runs(groups: list[list[int]], setting: Setting) -> Work:
    import jax
    import jax.numpy as jnp

    from subliminal_jax.training.adapters import LoRA
    from subliminal_jax.training.arms import Arm, TrainConfig
    from subliminal_jax.training.batch import Batch
    from subliminal_jax.training.optimizers import OptimizerSpec
    from subliminal_jax.training.sweep import Sweep

    jax.config.update("jax_enable_compilation_cache", False)
    params, cfg = load_ours(str(SHIPPED))
    rows = Batch(*(jnp.asarray(x) for x in random_rows(cfg.vocab, setting)))
    config = TrainConfig(
        steps=setting["steps"], batch_size=setting["rows"], adapter=LoRA(8, 16.0), log_every=8
    )
    adamw = OptimizerSpec.parse("adamw")
    losses: list[float] = []

    def one_run(students: list[int]) -> list[float]:
        jax.clear_caches()
        arms = [Arm(adamw, 1e-3 * (1 + i % 4), seed=i // 4, data="rows") for i in students]
        sweep = Sweep(params, cfg, arms, {"rows": rows}, config)
        state = sweep.init()
        for _ in range(config.steps // config.log_every):
            state, metrics = sweep.advance(state)
        return np.asarray(metrics["batch_loss"]).tolist()

    def repeat() -> None:
        losses[:] = [loss for students in groups for loss in one_run(students)]

    def results() -> dict[str, np.ndarray]:
        if not losses:
            repeat()
        return {"losses": np.asarray(losses)}

    return Work(repeat, results)


if __name__ == "__main__":
    run_command("benchmarks.sweep", __doc__ or "", main)
