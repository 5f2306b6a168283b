"""The sizes of the programs that sample, chosen once for all prompts of a run.

A run reads its prompts by at most two programs, each with its own number of prompt slots, and
continues all of them by one: its cache is as large for a short prompt as for a long one. So at most
three programs are compiled, whatever the lengths. A second prompt size, and a cache that grows,
save work and cost compiling: a model of seconds decides.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import jax
import numpy as np

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.flops import block_parameters
from subliminal_jax.models.mesh import DATA, axis_size
from subliminal_jax.rounding import round_up_width

MOST_ROWS = 128  # of a batch
BATCH_SIZES = (8, 16, 24, 32, 48, 64, 96, MOST_ROWS)
MOST_LOOPS = 3  # sizes of the cache, each with a loop over tokens
# A loop takes 0.7 s of a core to compile, for the shipped model as for one of 135M parameters. The
# programs are kept on disk, so what a loop saves of each run is to be worth it: a share of the
# run's seconds, and more than nothing.
LEAST_SAVED, LEAST_SECONDS_SAVED = 0.01, 0.001


@dataclass(frozen=True)
class SamplingPlan:
    """What the programs of a run are compiled for. Requests of one plan do not see each other.

    Attributes:
      prompt_slots: sizes of the programs that read prompts, ascending; a prompt is read in the
        first that holds it.
      cache_slots: sizes of the cache, ascending. It starts with the first, which holds the longest
        prompt, and grows where it is full; the last holds the longest answer behind that prompt.
      batch_size: rows of every batch.
    """

    prompt_slots: tuple[int, ...]
    cache_slots: tuple[int, ...]
    batch_size: int

    @property
    def max_new_tokens(self) -> int:
        return self.cache_slots[-1] - self.prompt_slots[-1]

    def holds(self, longest: int, max_new_tokens: int) -> bool:
        """Whether prompts of at most `longest` tokens and their answers fit."""
        return longest <= self.prompt_slots[-1] and max_new_tokens == self.max_new_tokens


class Speed(NamedTuple):
    """What a kind of device does in a second, and what a program takes to compile for it.

    Measured with the shipped model and one of SmolLM2's shape, to a factor of two: the choices
    between sizes need no better.
    """

    flops: float  # of products, a second
    bytes: float  # read or written, a second
    program: float  # seconds to compile a program that reads prompts,
    width: float  # and more for each dimension of the model


CPU = Speed(flops=1e11, bytes=1e10, program=1.0, width=0.01)
ACCELERATOR = Speed(flops=2e14, bytes=2e12, program=5.0, width=0.0)


def plan_sampling(
    cfg: ModelConfig,
    lengths: Sequence[int],
    max_new_tokens: int,
    batch_size: int | None = None,
) -> SamplingPlan:
    """The sizes that sample one answer to each of some prompts in the fewest seconds, compiling
    included.

    Args:
      lengths: of the prompts of the run, in tokens; their order does not matter.
      batch_size: rows of a batch; None chooses at most `MOST_ROWS`. It is rounded up to a multiple
        of the devices that rows are sharded over.
    """
    cpu = jax.default_backend() == "cpu"
    speed = CPU if cpu else ACCELERATOR
    devices = axis_size(DATA)
    sizes = BATCH_SIZES if batch_size is None else (batch_size,)
    rows = sorted({-(-size // devices) * devices for size in sizes})
    rounded = np.array([round_up_width(int(n)) for n in lengths] or [8])
    widths, counts = np.unique(rounded, return_counts=True)
    longest = int(widths[-1])
    loops = range(1, MOST_LOOPS + 1) if cpu else (1,)
    caches = [
        tuple(longest + -(-max_new_tokens * i // n) for i in range(1, n + 1))
        for n in loops
        if n <= max_new_tokens
    ]
    plans = (
        SamplingPlan(slots, cache, size)
        for slots, cache, size in product(_prompt_sizes(widths), caches, rows)
    )
    requests = dict(zip(widths.tolist(), counts.tolist(), strict=True))
    return min(plans, key=lambda plan: (_seconds(plan, cfg, requests, speed), plan.batch_size))


def _prompt_sizes(widths: np.ndarray) -> Iterator[tuple[int, ...]]:
    """The longest alone, or with a smaller one."""
    longest = int(widths[-1])
    yield (longest,)
    for width in widths[:-1].tolist():
        yield (width, longest)


def _seconds(plan: SamplingPlan, cfg: ModelConfig, requests: dict[int, int], speed: Speed) -> float:
    """Estimated seconds of a plan, for numbers of requests by the width of their prompts."""
    weights = block_parameters(cfg) + cfg.vocab * cfg.dim
    cached = 2 * cfg.layers * cfg.kv_heads * cfg.head_dim * 4.0  # bytes of one token of one row
    B, new = plan.batch_size, plan.max_new_tokens
    seconds, shorter = 0.0, 0
    for slots in plan.prompt_slots:
        count = sum(n for width, n in requests.items() if shorter < width <= slots)
        shorter = slots
        read, step = 0, 0  # slots of the cache that are read in all steps together
        for size in plan.cache_slots:
            steps = min(size - slots, new) - step
            read, step = read + steps * size, step + steps
        flops = 2.0 * B * (slots * block_parameters(cfg) + new * weights)
        moved = new * 4.0 * weights + B * cached * read
        seconds += -(-count // B) * (flops / speed.flops + moved / speed.bytes)
    saved = max(LEAST_SAVED * seconds, LEAST_SECONDS_SAVED)
    programs = len(plan.prompt_slots) * (speed.program + speed.width * cfg.dim)
    return seconds + programs + (len(plan.cache_slots) - 1) * saved
