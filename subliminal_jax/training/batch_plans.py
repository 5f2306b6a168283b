"""Planning batches of rows by their lengths: few shapes, little padding.

A batch is a rectangle, so each of its rows costs as much as the longest. Rows are therefore sorted
by length and cut where a batch is full, and widths are rounded up, so that few programs serve all.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from subliminal_jax.rounding import round_up_to_power_of_two, round_up_width

# Token slots computed at once, padding included: as many as fit a CPU's caches (of 8192, each takes
# almost twice the time), and as many as fill an accelerator.
CPU_TOKENS, ACCELERATOR_TOKENS = 2048, 8192


class BatchPlan(NamedTuple):
    """The rows of one batch, its lines (those without a row stay idle) and its two widths."""

    members: Int[np.ndarray, " members"]
    lines: int
    major: int
    minor: int


def default_tokens_per_batch() -> int:
    """The number of token slots to compute at once on this kind of device, over all devices."""
    return CPU_TOKENS if jax.default_backend() == "cpu" else ACCELERATOR_TOKENS


def plan_batches(
    major: Int[np.ndarray, " rows"],
    minor: Int[np.ndarray, " rows"],
    cost: tuple[int, int],
    tokens_per_batch: int,
    devices: int = 1,
) -> list[BatchPlan]:
    """Batches that hold each row exactly once, the longest first.

    Args:
      major: one length of each row in tokens; a batch is as wide as its widest row.
      minor: another length of each row; likewise.
      cost: the slots of one line are cost[0] * (major width) + cost[1] * (minor width).
      tokens_per_batch: most slots of a batch, unless a single line for each device takes more.
      devices: the lines of every batch are a multiple of it.
    """
    wide, tall = (np.array([round_up_width(int(n)) for n in x], int) for x in (major, minor))
    order = np.lexsort((-tall, -wide))  # ties stay in the order of the rows
    batches = []
    while len(order):
        widest = int(wide[order[0]])
        tallest = np.maximum.accumulate(tall[order])
        per_line = cost[0] * widest + cost[1] * tallest
        fits = np.arange(1, len(order) + 1) * per_line <= tokens_per_batch
        most = max(devices, int(fits.sum()) // devices * devices)
        members, order = order[:most], order[most:]
        height = int(tallest[len(members) - 1])
        full = tokens_per_batch // (cost[0] * widest + cost[1] * height) // devices * devices
        lines = devices * round_up_to_power_of_two(-(-len(members) // devices))
        lines = min(lines, max(full, devices)) if full >= len(members) else lines
        batches.append(BatchPlan(members, lines, widest, height))
    return batches


def planned_slots(batches: Sequence[BatchPlan], cost: tuple[int, int]) -> int:
    """Token slots that the batches compute, padding and idle lines included."""
    return sum(b.lines * (cost[0] * b.major + cost[1] * b.minor) for b in batches)
