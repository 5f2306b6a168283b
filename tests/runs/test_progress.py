"""Progress is a bar on a terminal and a few plain lines elsewhere; its arithmetic is right."""

import io
import re
import time

import jax
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


def compile_for(seconds: float, stage: str = "backend_compile") -> None:
    jax.monitoring.record_event_duration_secs(f"/jax/core/compile/{stage}_duration", seconds)


def test_compiling_is_no_part_of_the_rate_and_what_is_nested_counts_once(clock):
    with track("training", 64, console=console(terminal=False)) as tracker:
        clock.now += 22.0
        compile_for(4.0, "jaxpr_trace")  # within the next
        compile_for(20.0)
        tracker.advance(8)
        assert tracker.rate == pytest.approx(4.0, rel=0.01)
        assert tracker.remaining == pytest.approx(14.0, rel=0.01)


def test_programs_that_are_compiled_ahead_are_counted(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BEFORE_COMPILING", 0.0)

    with track("sampling", 8, console=console(terminal=False)) as tracker:
        tracker._watch._plan(4)
        tracker._watch._finish()
        assert tracker.compiling.startswith("compiling (2 of 4 programs), ")
        for _ in range(3):
            tracker._watch._finish()
        assert tracker.compiling == ""


def test_a_program_that_is_being_compiled_is_said_until_it_is_there(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(progress, "SECONDS_BEFORE_COMPILING", 0.1)
    log = console(terminal=False)
    with track("training", 64, console=log):
        compile_for(3.0)
        compile_for(0.1, "jaxpr_to_mlir_module")
        time.sleep(1.5)
        compile_for(1.0)
        lines = log.file.getvalue().splitlines()
        time.sleep(1.2)
        assert log.file.getvalue().splitlines() == lines
    assert re.fullmatch(r"training: compiling \(program 2\), 1\.[0-9] s", lines[0])


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
