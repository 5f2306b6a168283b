"""When a run was computed, how long it took, on which devices and by which version.

Each session (a process that computes until it ends, or is interrupted) leaves one line in
sessions.jsonl of the run's folder. They are no part of the results, which do not depend on them.
"""

import contextlib
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from subliminal_jax import processes
from subliminal_jax.compilation import CompilationWatch
from subliminal_jax.errors import InputError
from subliminal_jax.runs.metrics import append_line, read_records, repair_lines, write_record
from subliminal_jax.runs.run_folder import SESSIONS, RunFolder
from subliminal_jax.serialization import from_json

_REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Session:
    """One session of a run.

    Attributes:
      started: UTC, as ISO 8601.
      seconds: wall-clock time.
      version: of this package.
      commit: of its checkout, with "-dirty" where files differ from it; "" without one.
      devices: those of JAX, of all processes.
      finished: whether it computed the results, or was interrupted.
      programs: compiled, or fetched from the cache on disk.
      compile_seconds: of the wall-clock time, in which something was compiled.
    """

    started: str
    seconds: float
    version: str
    commit: str
    devices: str
    finished: bool
    programs: int = 0  # of sessions before they were counted
    compile_seconds: float = 0.0


@contextlib.contextmanager
def record_session(folder: RunFolder) -> Iterator[None]:
    """Note when the body began and ended; nothing where bad input ended it, or it was killed."""
    file = folder.path / SESSIONS
    if processes.is_first():
        repair_lines(file)
    started, begin = datetime.now(UTC), time.monotonic()

    def note(finished: bool) -> None:
        record = {
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - begin, 1),
            "version": read_version(),
            "commit": read_commit(_REPOSITORY),
            "devices": describe_devices(),
            "finished": finished,
            "programs": watch.programs,
            "compile_seconds": round(watch.seconds, 1),
        }
        if processes.is_first():
            append_line(file, write_record(record))

    try:
        with CompilationWatch() as watch:
            yield
    except InputError:
        raise
    except BaseException:
        with contextlib.suppress(InputError):  # a full disk may be what ended it
            note(finished=False)
        raise
    note(finished=True)


def read_sessions(folder: Path) -> list[Session]:
    """The recorded sessions of a run; none where it was made before they were recorded.

    Raises InputError for a damaged file.
    """
    file = folder / SESSIONS
    return [from_json(Session, record, str(file)) for record in read_records(file)]


def read_version() -> str:
    """That of the installed package; "" where it is not installed."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version("subliminal-jax")
    return ""


def read_commit(checkout: Path) -> str:
    """The commit of a git checkout, "-dirty" where files differ from it; "" for another folder."""
    if not (checkout / ".git").exists():
        return ""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--exclude=*"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()
    return ""


def describe_devices() -> str:
    """The devices of JAX, as "2 x NVIDIA H100", or the processor cores."""
    kinds = Counter(d.device_kind for d in jax.devices() if d.platform != "cpu")
    if not kinds:
        return f"CPU, {os.cpu_count()} cores"
    return ", ".join(f"{count} x {kind}" if count > 1 else kind for kind, count in kinds.items())


def describe_run(settings: Mapping[str, Any], sessions: Sequence[Session]) -> dict[str, str]:
    """What a page says of a run, by name: version, commit, devices, date, duration."""
    facts = {"Experiment": str(settings.get("experiment", ""))}
    if model := settings.get("model"):
        facts["Model"] = str(model)
    if not sessions:  # made before they were recorded
        return facts
    last = sessions[-1]
    versions = dict.fromkeys(
        ", ".join(filter(None, (s.version, s.commit and f"commit {s.commit}"))) for s in sessions
    )
    duration = describe_duration(sum(session.seconds for session in sessions))
    compiled = ""
    if programs := sum(session.programs for session in sessions):
        seconds = sum(session.compile_seconds for session in sessions)
        compiled = f"{programs} programs, {describe_duration(seconds)}"
    if len(sessions) > 1:
        duration += f" in {len(sessions)} sessions"
    return {
        **facts,
        "Date": describe_date(last),
        "Duration": duration,
        **({"Compilation": compiled} if compiled else {}),
        "Version": "; ".join(versions),
        "Devices": "; ".join(dict.fromkeys(session.devices for session in sessions)),
    }


def describe_date(session: Session) -> str:
    """The day and minute on which a session began."""
    started = datetime.fromisoformat(session.started)
    return f"{started.day} {started:%B %Y, %H:%M} UTC"


def describe_duration(seconds: float) -> str:
    """Seconds below two minutes, minutes below two hours, then hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
