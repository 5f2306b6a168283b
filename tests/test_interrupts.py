"""Signals end the command with one line and their exit code, wherever they find it; a closed pipe
ends it without a word. Commands here do what they say in a process without JAX."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PLAIN = "for _ in range(400): time.sleep(0.05)"
# Frames whose callers drop exceptions.
CALLBACKS = {
    "in plain code": f"print('now', flush=True)\n{PLAIN}",
    "in a finaliser": "class Dying:\n    def __del__(self): print('now', flush=True); "
    f"time.sleep(1)\nDying()\n{PLAIN}",
    "in a hook of the garbage collector": "def hook(phase, info):\n    gc.callbacks.clear()\n"
    f"    print('now', flush=True); time.sleep(1)\ngc.callbacks[:] = [hook]\ngc.collect()\n{PLAIN}",
    "in a weak reference's callback": "class Target: pass\ntarget = Target()\n"
    "watch = weakref.ref(target, lambda _: (print('now', flush=True), time.sleep(1)))\n"
    f"del target\n{PLAIN}",
    "turned into another error": "try:\n    print('now', flush=True)\n    time.sleep(20)\n"
    "except BaseException:\n    raise RuntimeError('a callback failed') from None",
    "while a thread is busy": "threading.Thread(target=time.sleep, args=(30,)).start()\n"
    f"print('now', flush=True)\n{PLAIN}",
}


def start(body: str, **options) -> subprocess.Popen:
    """The command line, whose sub-command does what `body` says."""
    lines = "\n    ".join(body.splitlines())
    script = (
        "import gc, os, signal, sys, threading, time, weakref\n"
        "from subliminal_jax import cli, interrupts\n"
        f"def run(arguments):\n    {lines}\n    print('ended', flush=True)\n"
        "cli._run = run\ncli.main([])\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
    )


def end(process: subprocess.Popen, *numbers: int) -> tuple[int, str, str]:
    """Send signals once it is where it should be; its exit code, stdout and stderr."""
    assert process.stdout is not None and process.stdout.readline() == "now\n"
    for number in numbers:
        time.sleep(0.2)
        process.send_signal(number)
    begun = time.monotonic()
    stdout, stderr = process.communicate(timeout=60)
    assert time.monotonic() - begun < 15
    return process.returncode, stdout, stderr


@pytest.mark.parametrize("where", CALLBACKS)
def test_the_first_interrupt_ends_it_wherever_it_lands(where):
    status, stdout, stderr = end(start(CALLBACKS[where]), signal.SIGINT)
    assert (status, stdout) == (130, "")
    assert stderr == (
        "subliminal-jax: interrupted; the same command again resumes from the last checkpoint\n"
    )


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 129, "hung up")],
)
def test_other_signals_say_their_own(number, status, word):
    ended, stdout, stderr = end(start(CALLBACKS["in a finaliser"]), number)
    assert (ended, stdout, len(stderr.splitlines())) == (status, "", 1) and word in stderr


def test_terminated_it_finishes_what_it_must_and_a_second_signal_does_not_wait():
    body = (
        "with interrupts.finish_first():\n    print('now', flush=True)\n"
        f"    time.sleep(1)\n    print('checkpoint', flush=True)\n{PLAIN}"
    )
    assert end(start(body), signal.SIGTERM)[:2] == (143, "checkpoint\n")
    assert end(start(body), signal.SIGTERM, signal.SIGTERM)[:2] == (143, "")
    assert end(start(body), signal.SIGTERM, signal.SIGINT)[:2] == (130, "")
    assert end(start(body), signal.SIGINT)[:2] == (130, "")  # Ctrl-C does not wait either


def test_a_second_interrupt_ends_a_cleanup_that_hangs():
    body = f"try:\n    print('now', flush=True); time.sleep(20)\nfinally:\n    {PLAIN}"
    assert end(start(body), signal.SIGINT, signal.SIGINT)[:2] == (130, "")


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX's: `preexec_fn` forks
def test_what_was_ignored_before_stays_ignored():
    """As by nohup, and for what a shell starts in the background."""

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = start("print('now', flush=True)\ntime.sleep(1)", preexec_fn=ignore)
    assert end(process, signal.SIGHUP) == (0, "ended\n", "")


def test_a_loop_that_lost_its_interrupt_ends_at_the_next_step():
    from subliminal_jax import interrupts
    from subliminal_jax.runs.progress import track

    with interrupts.handle_signals(), track("counting", 10) as progress:
        with pytest.raises(interrupts.Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        with pytest.raises(interrupts.Interrupted) as interrupted:
            progress.advance()
        assert interrupted.value.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert interrupts.received() is None
    with track("counting", 10) as progress:  # outside, nothing was asked for
        progress.advance()


@pytest.mark.parametrize(
    "body",
    ["print('x' * 10**6)", "print('short')", "for i in range(10**5): print(i)",
     "sys.stderr.write('y' * 10**6)", "import rich\nrich.print('x' * 10**4)"],
)  # fmt: skip
def test_a_pipe_that_nobody_reads_ends_it_without_a_word(body):
    reader, writer = os.pipe()
    os.close(reader)
    to_stderr = "stderr" in body
    try:
        process = start(body, **{"stderr" if to_stderr else "stdout": writer})
    finally:
        os.close(writer)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode in (1, 141)  # 1 is rich's
    assert not (stdout if to_stderr else stderr)


def test_a_broken_pipe_that_is_not_the_output_is_an_error():
    process = start("raise BrokenPipeError(32, 'Broken pipe', 'the socket')")
    assert process.communicate(timeout=60)[1] == (
        "subliminal-jax: error: the socket: Broken pipe\n"
    )
    assert process.returncode == 2


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "> /dev/full"])
def test_closed_and_full_standard_files(closed, tmp_path):
    """What is opened next must not get their numbers, and with them what is printed."""
    file = tmp_path / "file"
    code = (
        "from subliminal_jax import cli\n"
        f"def run(arguments):\n    file = open({str(file)!r}, 'w')\n    assert file.fileno() > 2\n"
        "    file.write('kept'); file.flush(); print('said')\ncli._run = run\ncli.main([])\n"
    )
    process = subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {closed}', sys.executable, code],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert file.read_text() == "kept"
    if "full" in closed:
        assert process.returncode == 2 and process.stderr == (
            "subliminal-jax: error: standard output: No space left on device\n"
        )
    else:
        assert (process.returncode, process.stderr) == (0, "")
