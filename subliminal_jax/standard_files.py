"""Standard input, output and error, where some are closed or nobody reads them any more."""

import contextlib
import io
import os
import select
import sys
import threading


def open_standard_files() -> None:
    """Make standard output and error usable where they are closed, and for every character."""
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        try:
            os.fstat(number)
        except OSError:  # else the next file that is opened would get what is printed
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def drop_unread_output() -> bool:
    """Drop what goes to a pipe or terminal that nobody reads any more; returns whether one does."""
    dropped = False
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            if _is_unread(stream.fileno()):
                dropped = True
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
            stream.flush()
    return dropped


def _is_unread(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def leave_threads(status: int) -> None:
    """End at once where threads are left that Python would wait for: requests to a judge, say."""
    others = (t for t in threading.enumerate() if t is not threading.main_thread())
    if any(not thread.daemon for thread in others):
        drop_unread_output()
        os._exit(status)
