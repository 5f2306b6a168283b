"""Progress with rate and remaining time: a bar on a terminal, plain lines elsewhere."""

import contextlib
import threading
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
from rich.text import Text

from subliminal_jax import interrupts, processes
from subliminal_jax.compilation import CompilationWatch
from subliminal_jax.escaping import escape_controls

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BEFORE_COMPILING = 2.0  # of compiling, until it is said


class Tracker:
    """Counts completed items of `total`; made by `track`."""

    def __init__(
        self,
        total: int,
        completed: int,
        show: Callable[["Tracker"], None],
        watch: CompilationWatch,
    ):
        self.total = total
        self.completed = completed
        self.note = ""
        self._show = show
        self._resumed = completed  # by an earlier process: not part of this one's rate
        self._start = time.monotonic()
        self._watch = watch

    def advance(self, amount: int = 1, note: str | None = None) -> None:
        """Count `amount` more items; `note` (the loss, say) is shown until another replaces it."""
        interrupts.check()
        self.completed += amount
        if note is not None:
            self.note = escape_controls(note)
        self._show(self)

    def extend(self, amount: int) -> None:
        """Count `amount` items more that are to be completed."""
        self.total += amount

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    @property
    def rate(self) -> float:
        """Items a second since the start, compiling left out; 0 before the first."""
        return (self.completed - self._resumed) / max(self.elapsed - self._watch.seconds, 1e-9)

    @property
    def compiling(self) -> str:
        """What is said of a program that is being compiled for longer than a moment, else ""."""
        since = self._watch.since
        if since is None or (seconds := time.monotonic() - since) < SECONDS_BEFORE_COMPILING:
            return ""
        number = f"program {self._watch.long + 1}"
        if self._watch.finished < self._watch.planned:
            number = f"{self._watch.finished + 1} of {self._watch.planned} programs"
        return f"compiling ({number}), {format_seconds(seconds)}"

    @property
    def remaining(self) -> float | None:
        """Seconds remaining at this rate; None before the first item."""
        return (self.total - self.completed) / self.rate if self.rate > 0 else None


@contextlib.contextmanager
def track(
    name: str,
    total: int,
    unit: str = "steps",
    *,
    completed: int = 0,
    console: Console | None = None,
) -> Iterator[Tracker]:
    """Show the progress of `name` on stderr, in the first process only.

    On a terminal this is a bar; otherwise (a log file, CI) a line every `SECONDS_BETWEEN_LINES` and
    one at the end.

    Args:
      completed: items that an interrupted run had completed.
      console: in place of stderr.

    >>> with track("sampling", 2048, "texts") as progress:
    ...     for batch in batches:
    ...         progress.advance(len(batch))
    """
    console = console or Console(stderr=True, quiet=not processes.is_first())
    name = escape_controls(name)
    show = _show_bar if console.is_terminal else _print_lines
    with CompilationWatch() as watch, show(console, name, total, unit, completed, watch) as tracker:
        yield tracker


@contextlib.contextmanager
def _repeat(call: Callable[[], None]) -> Iterator[None]:
    """Call it every second, in a thread, while the body runs: compiling comes back from nothing."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(1.0):
            call()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def _show_bar(
    console: Console, name: str, total: int, unit: str, completed: int, watch: CompilationWatch
) -> Iterator[Tracker]:
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
        console=console,
    )
    with bar:
        task = bar.add_task(name, total=total, completed=completed, rate="", note="")

        def show(tracker: Tracker) -> None:
            rate = f"{format_rate(tracker.rate)} {unit}/s"
            bar.update(
                task,
                total=tracker.total,
                completed=tracker.completed,
                rate=rate,
                note=tracker.compiling or tracker.note,
            )

        tracker = Tracker(total, completed, show, watch)
        with _repeat(lambda: show(tracker)):
            yield tracker


@contextlib.contextmanager
def _print_lines(
    console: Console, name: str, total: int, unit: str, completed: int, watch: CompilationWatch
) -> Iterator[Tracker]:
    last = time.monotonic()

    def print_line(*parts: str) -> None:
        text = ", ".join(part for part in parts if part)
        console.print(Text(f"{name}: {text}"), soft_wrap=True)

    def show(tracker: Tracker) -> None:
        nonlocal last
        due = time.monotonic() - last >= SECONDS_BETWEEN_LINES
        if due and tracker.completed < tracker.total:
            last = time.monotonic()
            time_left = (
                "" if tracker.remaining is None else f"{format_seconds(tracker.remaining)} left"
            )
            rate = f"{format_rate(tracker.rate)} {unit}/s"
            print_line(f"{tracker.completed}/{tracker.total} {unit}", rate, time_left, tracker.note)

    def show_compiling() -> None:
        nonlocal last
        if (said := tracker.compiling) and time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print_line(said)

    tracker = Tracker(total, completed, show, watch)
    with _repeat(show_compiling):
        yield tracker
    print_line(
        f"{tracker.completed}/{tracker.total} {unit} in {format_seconds(tracker.elapsed)}",
        tracker.note,
    )


def format_rate(rate: float) -> str:
    """`rate` with two significant digits below 10, without decimals above."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def format_seconds(seconds: float) -> str:
    """`seconds` as in 7.0 s, 2:05 min or 1:02:05 h."""
    rounded = round(seconds)
    minutes, s = divmod(rounded, 60)
    hours, m = divmod(minutes, 60)
    if hours:
        return f"{hours}:{m:02}:{s:02} h"
    if minutes:
        return f"{m}:{s:02} min"
    return f"{seconds:.1f} s" if seconds < 10 else f"{s} s"
