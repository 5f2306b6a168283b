"""Signals that end the program: the first in good order, the second at once.

Python raises an exception where the signal finds it. That may be inside a callback whose caller
drops exceptions (JAX hooks itself into the garbage collector so), and the program would go on as if
nothing had been asked. Here a dropped one is raised again.
"""

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_SECONDS_TO_RETRY = 0.02  # after which the callback that dropped the exception has returned


class Interrupted(KeyboardInterrupt):
    """A signal asks the program to end.

    Attributes:
      number: the signal's.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class _State:
    received: int | None = None
    finishing = 0  # how many blocks of `finish_first` are open
    retry: threading.Timer | None = None


_state = _State()


def received() -> int | None:
    """The number of the signal that asked to end, None where there was none."""
    return _state.received


def check() -> None:
    """Raise Interrupted where a signal came whose exception was dropped. Loops call this."""
    if _state.received is not None and not _state.finishing:
        _cancel_retry()
        raise Interrupted(_state.received)


@contextlib.contextmanager
def finish_first() -> Iterator[None]:
    """SIGTERM and SIGHUP in the body end the program after it: it ends with a checkpoint.

    Ctrl-C ends it at once; so does a second signal.
    """
    _state.finishing += 1
    try:
        yield
    finally:
        _state.finishing -= 1
    check()


@contextlib.contextmanager
def handle_signals() -> Iterator[None]:
    """In the body, signals raise Interrupted. Those that were ignored before (nohup) stay so.

    Outside of the main thread this does nothing: Python has signals only there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    hook = sys.unraisablehook

    def retry_dropped(dropped: Any) -> None:
        if not isinstance(dropped.exc_value, Interrupted):
            hook(dropped)
            return
        number = dropped.exc_value.number
        _state.retry = threading.Timer(_SECONDS_TO_RETRY, _thread.interrupt_main, (number,))
        _state.retry.daemon = True
        _state.retry.start()

    _state.received, _state.finishing, _state.retry = None, 0, None
    sys.unraisablehook = retry_dropped
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _handle)
    try:
        yield
    finally:
        _cancel_retry()
        _state.received, _state.finishing = None, 0  # what follows was not asked to end
        sys.unraisablehook = hook
        for number, handler in before.items():
            if handler is not None:  # set by something else than Python
                signal.signal(number, handler)


def _handle(number: int, frame: FrameType | None) -> None:
    if _state.retry is not None:
        _state.retry = None
    elif _state.received is not None:  # the second one
        os._exit(128 + number)
    _state.received = number
    if _state.finishing and number != signal.SIGINT:
        return
    raise Interrupted(number)


def _cancel_retry() -> None:
    if _state.retry is not None:
        _state.retry.cancel()
        _state.retry = None
