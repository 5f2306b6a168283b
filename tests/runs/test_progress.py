"""Progress is a bar on a terminal and a few plain lines elsewhere; its arithmetic is right."""

import io
import re

import pytest
from rich.console import Console

from subliminal_jax.runs import progress
from subliminal_jax.runs.progress import format_rate, format_seconds, track


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120)


def test_lines_come_every_few_seconds_and_at_the_end(clock):
    log = console(terminal=False)
    with track("sampling", 100, "texts", console=log) as tracker:
        for _ in range(10):
            clock.now += 1.0
            tracker.advance(10, note="loss 2.5")
    assert log.file.getvalue().splitlines() == [
        "sampling: 50/100 texts, 10 texts/s, 5.0 s left, loss 2.5",
        "sampling: 100/100 texts in 10 s, loss 2.5",
    ]


def test_what_an_earlier_process_did_is_done_but_no_part_of_the_rate(clock):
    with track("training", 100, completed=80, console=console(terminal=False)) as tracker:
        assert tracker.remaining is None
        clock.now += 2.0
        tracker.advance(10)
        assert (tracker.completed, tracker.rate, tracker.remaining) == (90, 5.0, 2.0)


def test_a_job_that_fails_does_not_say_that_it_ended(clock):
    log = console(terminal=False)
    with pytest.raises(ZeroDivisionError), track("training", 3, console=log) as tracker:
        tracker.advance()
        raise ZeroDivisionError
    assert log.file.getvalue() == ""


def test_a_terminal_gets_a_bar_with_count_rate_and_note():
    screen = console(terminal=True)
    with track("training", 4, console=screen) as tracker:
        tracker.advance(4, note="loss [1]")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.file.getvalue())
    assert "4/4" in shown
    assert "steps/s" in shown
    assert "training" in shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3.14159, "3.1 s"), (59, "59 s"), (59.7, "1:00 min"), (125, "2:05 min"), (3725, "1:02:05 h")],
)
def test_seconds(seconds, words):
    assert format_seconds(seconds) == words


@pytest.mark.parametrize(("rate", "words"), [(0.1234, "0.12"), (9.87, "9.9"), (12345.6, "12,346")])
def test_rates(rate, words):
    assert format_rate(rate) == words
