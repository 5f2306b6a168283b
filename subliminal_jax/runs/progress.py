"""Progress on the terminal, with rate and time left; plain lines where there is no terminal."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from subliminal_jax import processes

SECONDS_BETWEEN_LINES = 5.0


class Tracker:
    """Counts what is done of `total`; made by `track`."""

    def __init__(self, total: int, done: int, show: Callable[["Tracker"], None]):
        self.total = total
        self.done = done
        self.note = ""
        self._show = show
        self._before = done  # of an earlier process: no part of this one's rate
        self._start = time.monotonic()

    def advance(self, amount: int = 1, note: str | None = None) -> None:
        """Count `amount` more; `note` (the loss, say) stands behind until another replaces it."""
        self.done += amount
        if note is not None:
            self.note = note
        self._show(self)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    @property
    def rate(self) -> float:
        """Items a second since the start; 0 before the first."""
        return (self.done - self._before) / max(self.elapsed, 1e-9)

    @property
    def remaining(self) -> float | None:
        """Seconds left at this rate; None before the first item."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None


@contextlib.contextmanager
def track(
    name: str,
    total: int,
    unit: str = "steps",
    *,
    done: int = 0,
    console: Console | None = None,
) -> Iterator[Tracker]:
    """Show how far `name` is, on stderr; of several processes the first one does.

    On a terminal this is a bar that renews itself; otherwise (a log file, CI) a line every few
    seconds and one at the end.

    Args:
      done: items that an interrupted run had finished before.
      console: where to show it, in place of stderr.

    >>> with track("sampling", 2048, "texts") as progress:
    ...     for batch in batches:
    ...         progress.advance(len(batch))
    """
    console = console or Console(stderr=True, quiet=not processes.is_first())
    show = _bar if console.is_terminal else _lines
    with show(console, name, total, unit, done) as tracker:
        yield tracker


@contextlib.contextmanager
def _bar(console: Console, name: str, total: int, unit: str, done: int) -> Iterator[Tracker]:
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=console,
    )
    with bar:
        task = bar.add_task(name, total=total, completed=done, rate="", note="")

        def show(tracker: Tracker) -> None:
            rate = f"{format_rate(tracker.rate)} {unit}/s"
            bar.update(task, completed=tracker.done, rate=rate, note=tracker.note)

        yield Tracker(total, done, show)


@contextlib.contextmanager
def _lines(console: Console, name: str, total: int, unit: str, done: int) -> Iterator[Tracker]:
    last = time.monotonic()

    def say(*parts: str) -> None:
        text = ", ".join(part for part in parts if part)
        console.print(f"{name}: {text}", highlight=False, markup=False, soft_wrap=True)

    def show(tracker: Tracker) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES and tracker.done < total:
            last = time.monotonic()
            left = "" if tracker.remaining is None else f"{format_seconds(tracker.remaining)} left"
            rate = f"{format_rate(tracker.rate)} {unit}/s"
            say(f"{tracker.done}/{total} {unit}", rate, left, tracker.note)

    tracker = Tracker(total, done, show)
    yield tracker
    say(f"{tracker.done}/{total} {unit} in {format_seconds(tracker.elapsed)}", tracker.note)


def format_rate(rate: float) -> str:
    """A rate with at least two significant digits and no more than it needs."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def format_seconds(seconds: float) -> str:
    """7 s, 2:05 min or 1:02:05 h."""
    whole = round(seconds)
    minutes, s = divmod(whole, 60)
    hours, m = divmod(minutes, 60)
    if hours:
        return f"{hours}:{m:02}:{s:02} h"
    if minutes:
        return f"{m}:{s:02} min"
    return f"{seconds:.1f} s" if seconds < 10 else f"{s} s"
