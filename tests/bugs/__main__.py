"""Plant the bugs of `bugs.py` one at a time, and see whether the tests of their room fail.

    make mutate             # all of them: some half an hour on 2 cores
    make mutate BUGS="rope DPO"

Each bug is planted in a copy of the checkout; tests against torch are left out. First the tests run
without any bug, since one that fails anyway catches nothing. Ends with 1 where a bug is missed.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from tests.bugs.bugs import BUGS, Bug

CHECKOUT = Path(__file__).parents[2]
PATIENCE = 1200.0  # seconds that the tests of one bug may take
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What the tests said: the first that failed, None where all passed."""

    failed: str | None
    seconds: float


def copy_checkout(folder: Path) -> Path:
    """The files of the checkout that git knows or would take, under `folder`."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=CHECKOUT, capture_output=True, check=True, text=True).stdout
    for name in names.split("\0"):
        source = CHECKOUT / name
        if name and source.is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return folder


def plant(bug: Bug, code: str) -> str:
    """`code` with the bug. Raises ValueError where the right text is not there exactly once."""
    if code.count(bug.right) != 1:
        raise ValueError(f"{bug.file} holds {bug.right!r} {code.count(bug.right)} times, not once")
    return code.replace(bug.right, bug.wrong)


def run_tests(copy: Path, tests: Sequence[str]) -> Outcome:
    """Run tests of `copy` until one fails."""
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider"]
    command += ["-p", "tests.bugs.without_torch", *(f"tests/{name}" for name in tests)]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        return Outcome(f"none of them ended in {PATIENCE:.0f} s", time.monotonic() - began)
    seconds = time.monotonic() - began
    if done.returncode == 0:
        return Outcome(None, seconds)
    failed = FAILED.search(done.stdout)
    if done.returncode not in (1, 2) or failed is None:  # 2: a file could not even be read
        raise RuntimeError(f"the tests could not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return Outcome(failed[1].removeprefix("tests/"), seconds)


def try_bug(bug: Bug, copies: "Queue[Path]") -> Outcome:
    """Plant the bug in a copy that is free, run its tests, and take it out again."""
    copy = copies.get()
    file = copy / "subliminal_jax" / bug.file
    right = file.read_text()
    try:
        file.write_text(plant(bug, right))
        outcome = run_tests(copy, bug.tests)
    finally:
        file.write_text(right)
        copies.put(copy)
    verdict = "MISSED" if outcome.failed is None else f"caught by {outcome.failed}"
    print(f"{outcome.seconds:5.0f} s  {bug.name}: {verdict}", flush=True)
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("words", nargs="*", help="bugs whose names hold one of these; all if none")
    parser.add_argument("--jobs", type=int, default=2, help="bugs at once")
    parser.add_argument("--trust", action="store_true", help="do not first run without a bug")
    options = parser.parse_args(arguments)
    words = [word.lower() for word in options.words]
    bugs = [b for b in BUGS if not words or any(word in b.name.lower() for word in words)]
    if not bugs:
        parser.error(f"no bug's name holds {' or '.join(options.words)}")
    with tempfile.TemporaryDirectory() as folder:
        copies: Queue[Path] = Queue()
        for i in range(options.jobs):
            copies.put(copy_checkout(Path(folder) / str(i)))
        if not options.trust:
            copy = copies.get()
            outcome = run_tests(copy, list(dict.fromkeys(test for b in bugs for test in b.tests)))
            if outcome.failed is not None:
                print(f"{outcome.failed} fails without a bug: mend it first", file=sys.stderr)
                return 1
            print(f"{outcome.seconds:5.0f} s  without a bug the tests pass", flush=True)
            copies.put(copy)
        with ThreadPoolExecutor(options.jobs) as pool:
            outcomes = list(pool.map(lambda bug: try_bug(bug, copies), bugs))
    caught = sum(outcome.failed is not None for outcome in outcomes)
    print(f"{caught} of {len(bugs)} bugs caught without torch")
    return 0 if caught == len(bugs) else 1


if __name__ == "__main__":
    sys.exit(main())
