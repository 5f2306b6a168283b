"""The learning rate of each optimizer for each number of steps, found on tuning vectors alone.

A search on a grid of constant ratio: it begins with three rates around a centre, and adds rates
beyond an edge as long as the edge is the best, a stated number of times. The centre is the
registry's middle rate for the shortest runs, and for longer ones the rate that was best before.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from subliminal_jax.evaluation.student_rows import TOLERANCE, StudentRow

# The mean held-out loss at each of the rates, None where a student is not sound.
Losses = Mapping[str, Mapping[float, float | None]]
Train = Callable[[int, Mapping[str, Sequence[float]]], Losses]


@dataclass(frozen=True)
class RateChoice:
    """The rates that were tried for one optimizer and number of steps.

    Attributes:
      optimizer: its label.
      steps: of the runs.
      grid: the rates tried, ascending.
      losses: the mean held-out loss over the tuning vectors, in nats a predicted token, at each;
        None where a student diverged or ended above the base's loss.
      rate: the one with the lowest; None where there is none.
      is_inside: whether rates on both of its sides were tried.
    """

    optimizer: str
    steps: int
    grid: tuple[float, ...]
    losses: tuple[float | None, ...]
    rate: float | None
    is_inside: bool


def choose_rates(
    centers: Mapping[str, float], steps: int, train: Train, *, factor: float, extensions: int
) -> tuple[RateChoice, ...]:
    """The best rate of each optimizer, with rates tried on both sides of it where `extensions`
    rounds suffice for that.

    Args:
      centers: where each search begins.
      train: (round, new rates by optimizer) -> their losses.
      factor: between neighbouring rates.
    """
    losses: dict[str, dict[float, float | None]] = {name: {} for name in centers}
    todo = {name: _round_rates(center, factor, (-1, 0, 1)) for name, center in centers.items()}
    for number in range(extensions + 1):
        for name, measured in train(number, todo).items():
            losses[name] |= measured
        todo = {
            name: further
            for name, tried in losses.items()
            if (further := _list_further(tried, centers[name], factor))
        }
        if not todo:
            break
    return tuple(_choose(name, steps, tried) for name, tried in losses.items())


def choose_from_grids(
    grids: Mapping[str, Sequence[float]], steps: int, train: Train
) -> tuple[RateChoice, ...]:
    """The best rate of each optimizer among those that are given. Of one rate nothing is trained:
    it is taken as it is, without a loss."""
    searched = {name: grid for name, grid in grids.items() if len(grid) > 1}
    losses = train(0, searched) if searched else {}
    return tuple(
        _choose(name, steps, losses[name])
        if name in searched
        else RateChoice(name, steps, tuple(grid), (None,), grid[0], False)
        for name, grid in grids.items()
    )


def mean_losses(
    rows: Sequence[StudentRow], base_losses: Mapping[str, float]
) -> dict[str, dict[float, float | None]]:
    """By optimizer and rate, over the data sets of `rows`."""
    groups: dict[str, dict[float, list[StudentRow]]] = {}
    for row in rows:
        groups.setdefault(row.optimizer, {}).setdefault(row.learning_rate, []).append(row)

    def mean(students: Sequence[StudentRow]) -> float | None:
        values = [row.heldout_loss for row in students if is_sound(row, base_losses)]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if len(known) == len(students) else None

    return {
        name: {rate: mean(students) for rate, students in by_rate.items()}
        for name, by_rate in groups.items()
    }


def is_sound(row: StudentRow, base_losses: Mapping[str, float]) -> bool:
    """Whether a student ended, on held-out rows of its own data, no worse than it began, within
    `TOLERANCE`. One that did not has blown up, and says nothing about what its optimizer
    transmits."""
    return row.heldout_loss is not None and row.heldout_loss <= base_losses[row.data] + TOLERANCE


def _round_rates(center: float, factor: float, powers: Sequence[int]) -> tuple[float, ...]:
    return tuple(float(f"{center * factor**power:.4g}") for power in powers)


def _list_further(
    tried: Mapping[float, float | None], center: float, factor: float
) -> tuple[float, ...]:
    """Two more rates beyond the edge that is best; where no student is sound, two lower ones."""
    best = _best(tried)
    rates = sorted(tried)
    if best is None or best == rates[0]:
        return _round_rates(rates[0], factor, (-2, -1))
    if best == rates[-1]:
        return _round_rates(rates[-1], factor, (1, 2))
    return ()


def _best(tried: Mapping[float, float | None]) -> float | None:
    known = {rate: loss for rate, loss in tried.items() if loss is not None}
    return min(known, key=lambda rate: known[rate]) if known else None


def _choose(name: str, steps: int, tried: Mapping[float, float | None]) -> RateChoice:
    grid, rate = tuple(sorted(tried)), _best(tried)
    return RateChoice(
        optimizer=name,
        steps=steps,
        grid=grid,
        losses=tuple(tried[each] for each in grid),
        rate=rate,
        is_inside=rate is not None and grid[0] < rate < grid[-1],
    )
