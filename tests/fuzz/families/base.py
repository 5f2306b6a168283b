"""What the families share."""

import contextlib
import io
import os
import random
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from subliminal_jax.errors import InputError
from tests.fuzz.mutations import damage, write_json


class Wrong(Exception):
    """An input was accepted, and means something else than to the reference."""


def check(holds: Any, message: str) -> None:
    """Raises `Wrong` unless `holds`."""
    if not holds:
        raise Wrong(message)


@cache
def scratch() -> Path:
    """A folder for the sound inputs of this process."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-sound-"))
    import atexit

    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def replace_file(rng: random.Random, path: Path, content: Any = None) -> None:
    """Put something else in the place of a file: damaged bytes, `content` as JSON, or no file."""
    kind = rng.random()
    if content is not None and kind < 0.75:
        path.write_bytes(write_json(rng, content, 0.15))
    elif kind < 0.93:
        path.write_bytes(damage(rng, path.read_bytes()))
    else:
        path.unlink()
        rng.choice((path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to(path), int))()


def call_command(arguments: Sequence[str]) -> str:
    """What the command line prints on standard output.

    Raises InputError where it refuses: with its one line, or with the box of its parser.
    """
    from subliminal_jax.cli import main

    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(list(arguments))
    except SystemExit as end:
        said = err.getvalue().strip()
        if end.code == 2 and said.startswith("subliminal-jax: error: "):
            raise InputError(said) from None
        if end.code == 2 and "For full helptext" in said + out.getvalue():
            raise InputError("refused by the parser of flags") from None
        check(not end.code, f"exit status {end.code!r}: {said}")
    return out.getvalue()
