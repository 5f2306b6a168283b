"""The folder of one run: config.json, metrics.jsonl, results.json, and whatever else it writes."""

import contextlib
import json
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from subliminal_jax import processes
from subliminal_jax.errors import InputError
from subliminal_jax.files import (
    check_folder_name,
    plain_json,
    storage_errors,
    write_json,
    write_text,
)
from subliminal_jax.ledger import MARKER, Ledger, is_marker_temporary
from subliminal_jax.reading import read_json_object
from subliminal_jax.runs.loggers import LoggerName, Loggers
from subliminal_jax.runs.metrics import append_line, read_records, repair_lines, write_record
from subliminal_jax.runs.student_files import STUDENTS, KeptStudents

_LOCK = ".lock"
_CONFIG, _METRICS, _RESULTS = "config.json", "metrics.jsonl", "results.json"
SESSIONS = "sessions.jsonl"
# What a run writes before it trains anything.
_SAMPLED, _SAMPLED_FOLDERS = {_CONFIG, SESSIONS, "judge.jsonl"}, {"data", "vectors"}
OPTIMIZER_SOURCES = "optimizer_sources"  # the key of the digests of a user's own optimizers
_COMMAND = "command"  # the key of config.json that two runs may differ in


class RunFolder:
    """A folder that belongs to one configuration, so that the same command again continues it.

    `config.json` is written when the folder is first opened; `results.json` is written last and
    marks the run as finished. A lock lets one run at a time open the folder. Of the processes of
    one run the first writes, and all read.

    The run keeps a list of the files that it writes (`subliminal_jax.ledger`). The list marks the
    folder as a run's: without it, or where something else than a run lies, nothing is written. What
    a user puts into the folder is left as it is.

    >>> with RunFolder.open("runs/a", {"rate": 0.1}) as run:
    ...     if not run.finished:
    ...         run.log({"step": 1, "loss": 2.5})
    ...     run.write_results({"loss": 2.5})
    ...     results = run.read_results()

    Attributes:
      path: the folder.
      keep_students: which trained students it keeps.
      spared: what overwriting left in it, since the earlier run did not write it.
    """

    def __init__(self, path: Path, lock: FileLock | None, *, created: tuple[Path, ...] = ()):
        self.path = path
        self.keep_students: KeptStudents = "none"
        self.spared: tuple[str, ...] = ()
        self._loggers = Loggers()
        self._lock = lock
        self._created = created  # folders that did not exist before, the outermost first
        self._ledger: Ledger | None = None

    @classmethod
    def open(
        cls,
        path: str | Path,
        config: Mapping[str, Any],
        *,
        overwrite: bool = False,
        command: str = "",
        keep_students: KeptStudents = "none",
        report_to: Sequence[LoggerName] = (),
        free: Collection[str] = (),
        defaults: Mapping[str, Any] | None = None,
    ) -> "RunFolder":
        """Create the folder for `config`, or continue the run with an equal `config` in it.

        Args:
          config: the settings that the results depend on, and no others (not the folder's name).
          overwrite: remove what an earlier run wrote in the folder, and nothing else; not before
            this run writes something: what ends it until then leaves the earlier run as it was.
          command: the command of the run, stored in config.json; not compared with the stored one.
          keep_students: which trained students stay in the folder.
          report_to: loggers that get what the run logs.
          free: settings that what a teacher answers does not depend on: while a run has done no
            more than sample, one with other values of these goes on from what it sampled.
          defaults: what settings are where nobody gives them. A run of an earlier version, which
            lacks a setting that came later, goes on where that has its default.

        Raises:
          InputError: the folder holds another run (the message names the first key that differs) or
            files without a run; is a file, a symbolic link, the root or the home folder; cannot be
            written; is locked by another process; or, with `overwrite`, holds an input of this run.
        """
        opened: list[RunFolder] = []
        path = _expand(path)
        processes.run_on_first(
            lambda: opened.append(cls._open(path, config, overwrite, command, free, defaults or {}))
        )
        run = opened[0] if opened else cls(path, None)
        run.keep_students = keep_students
        run._loggers = Loggers(report_to, path, plain_json(dict(config)))
        return run

    @classmethod
    def is_finished(cls, path: str | Path) -> bool:
        """Whether there is a folder `path` with the results of a run."""
        return cls(_expand(path), None).finished

    @classmethod
    def open_again(cls, path: str | Path) -> "RunFolder":
        """Open the folder of a run, whatever its configuration, to write its page anew.

        Raises InputError for a folder that no run marked as its own, and one in use.
        """
        path = Path(path)
        ledger = _read_ledger(path)
        if ledger is None:
            raise InputError(f"{path} is empty: name the folder of a run")
        ledger.check_links()
        with storage_errors(path):
            run = cls(path, _acquire(path))
            ledger.restore()
            ledger.write()
            ledger.start()
        run._ledger = ledger
        return run

    @classmethod
    def _open(
        cls,
        path: Path,
        config: Mapping[str, Any],
        overwrite: bool,
        command: str,
        free: Collection[str],
        defaults: Mapping[str, Any],
    ) -> "RunFolder":
        plain_config = json.loads(json.dumps(plain_json(dict(config))))
        check_folder_name(path)
        try:
            _read_ledger(path)  # refuse before anything is written
            created = _make_folders(path)
            try:
                run = cls(path, _acquire(path), created=created)
            except BaseException:
                _remove_folders(created)
                raise
        except OSError as error:
            raise InputError(f"cannot write to {path} ({error}); name another folder") from None
        try:
            with storage_errors(path):
                run._claim(plain_config, overwrite, command, free, defaults)
        except BaseException as error:
            if isinstance(error, InputError):
                run._leave()
            run.close()
            raise
        return run

    def _claim(
        self,
        config: dict[str, Any],
        overwrite: bool,
        command: str,
        free: Collection[str],
        defaults: Mapping[str, Any],
    ) -> None:
        ledger = _read_ledger(self.path)  # again, now under the lock
        is_new = ledger is None
        if ledger is None:
            ledger = Ledger(self.path)
        ledger.check_links()
        ledger.restore()
        held_config = None if is_new or overwrite else self._read_held_config(ledger)
        if held_config is not None:
            later = config.keys() & defaults.keys() - held_config.keys()
            held_config |= {key: plain_json(defaults[key]) for key in sorted(later)}
        if overwrite and not is_new:
            self._check_inputs(config, ledger)
            self.spared = tuple(ledger.set_aside())
        elif (
            held_config not in (None, config)
            and (ledger.trees or ledger.files != {_CONFIG})
            and not (_only_sampled(ledger) and _differ_in(held_config or {}, config, free))
        ):
            difference = _describe_difference(held_config or {}, config)
            raise InputError(
                f"{self.path} holds another run: {difference}; "
                "name another folder, or overwrite this one"
            )
        ledger.remove_temporaries()
        ledger.write()
        ledger.start()
        self._ledger = ledger
        if held_config != config:
            command_entry = {_COMMAND: command} if command else {}
            write_json(self.path / _CONFIG, {**config, **command_entry})
        repair_lines(self.path / _METRICS)

    def _read_held_config(self, ledger: Ledger) -> dict[str, Any] | None:
        """The settings of the run in the folder; None where it had not yet written them."""
        if not (ledger.files | ledger.trees) - {_CONFIG} and not (self.path / _CONFIG).exists():
            return None
        try:
            return self.read_config()[0]
        except InputError as error:
            raise InputError(f"{error}; or overwrite the run, or name another folder") from None

    def _check_inputs(self, config: dict[str, Any], ledger: Ledger) -> None:
        """Raises InputError where a setting names a file that overwriting would remove."""
        root = self.path.resolve()
        for key, value in _leaves(config, ""):
            for name in value if isinstance(value, list) else [value]:
                place = _find_place(name)
                if place is None or not place.is_relative_to(root):
                    continue
                inside = place.relative_to(root).parts
                if any(Path(file).parts[: len(inside)] == inside for file in ledger.files):
                    raise InputError(
                        f"{key} is {name}, which overwriting {self.path} would remove: name "
                        "another folder"
                    )

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        try:
            if self._ledger is not None:
                self._ledger.restore()
            if kind is not None and issubclass(kind, InputError) and processes.is_first():
                self._leave()
        finally:
            self.close()

    def _leave(self) -> None:
        """Remove the run from its folder if bad input ended it before it did anything."""
        ours = {_LOCK, MARKER, _CONFIG}
        if self._ledger is None:
            ours = {_LOCK} if not (self.path / MARKER).exists() else set()
        elif self._ledger.files - {_CONFIG} or self._ledger.trees:
            return
        if {entry.name for entry in self.path.iterdir()} <= ours:
            for name in (_CONFIG, MARKER, _LOCK):
                (self.path / name).unlink(missing_ok=True)
            _remove_folders(self._created)

    def close(self) -> None:
        """Release the lock; the end of the process does so too."""
        self._loggers.close()
        if self._ledger is not None:
            self._ledger.stop()
        if self._lock is not None:
            self._lock.release()

    @property
    def finished(self) -> bool:
        """Whether the run wrote its results."""
        return bool(processes.run_on_first((self.path / _RESULTS).exists))

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl, with a checksum; a killed process leaves at most one
        truncated line.

        Raises InputError where the file cannot be written; it is as it was then.
        """
        plain = plain_json(dict(record))
        line = write_record(plain)
        if processes.is_first():
            append_line(self.path / _METRICS, line)
            self._loggers.log(plain)

    def read_metrics(self) -> list[dict[str, Any]]:
        """The logged records, in order.

        Raises InputError for a damaged file.
        """
        records: list[dict[str, Any]] = processes.run_on_first(
            lambda: read_records(self.path / _METRICS)
        )
        return records

    def rewind(self, step: int, **match: Any) -> None:
        """Delete records logged after `step`, for a run that continues from the checkpoint there.

        Args:
          match: delete only records with these values, such as `stage="controls"` where each stage
            counts its own steps.
        """

        def is_kept(record: dict[str, Any]) -> bool:
            matches = all(record.get(key) == value for key, value in match.items())
            return not (matches and record.get("step", step) > step)

        def forget() -> None:
            records = read_records(self.path / _METRICS)
            remaining = [record for record in records if is_kept(record)]
            if len(remaining) < len(records):
                write_text(self.path / _METRICS, "".join(map(write_record, remaining)))

        processes.run_on_first(forget)

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Write results.json, with non-finite numbers as null. This finishes the run."""
        write_json(self.path / _RESULTS, results)

    def read_config(self) -> tuple[dict[str, Any], str]:
        """The run's configuration, and its command ("" if none was stored).

        Raises InputError for a folder without one, and for a damaged one.
        """
        config = read_json_object(self.path / _CONFIG)
        command = config.pop(_COMMAND, "")
        if not isinstance(command, str):
            raise InputError(f"{self.path / _CONFIG}: its command is no text: correct it")
        return config, command

    def read_results(self) -> dict[str, Any]:
        """The results of a finished run.

        Raises InputError for a run without results, and for damaged ones.
        """
        file = self.path / _RESULTS
        if not os.path.lexists(file):
            raise InputError(f"{self.path} is not finished: repeat its command to continue it")
        try:
            return read_json_object(file)
        except InputError as error:
            raise InputError(
                f"{error}; or remove it and repeat the run's command, which computes it again"
            ) from None


def _expand(path: str | Path) -> Path:
    """The path with the home folder in place of "~"."""
    with contextlib.suppress(RuntimeError):  # no such user: a name like any other
        return Path(path).expanduser()
    return Path(path)


def _find_place(name: Any) -> Path | None:
    """Where the file or folder `name` lies; None for what is not the name of one."""
    if not isinstance(name, str):
        return None
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        return Path(name).expanduser().resolve(strict=True)
    return None


def _read_ledger(path: Path) -> Ledger | None:
    """The list of what the run in `path` wrote; None for an empty or missing folder.

    Raises InputError for a folder with files but no list, and where a lock that no run made or a
    link lies in the place of a file of the run.
    """
    if not path.is_dir():
        return None
    files = (_LOCK, MARKER, _CONFIG, _METRICS, SESSIONS, _RESULTS, "report.html")
    for name in (*files, "checkpoints", STUDENTS):
        if (path / name).is_symlink():
            raise InputError(
                f"{path / name} is a symbolic link, and a run writes nothing through links in its "
                "folder: remove the link, or name another folder"
            )
    if ledger := Ledger.read(path):
        return ledger
    try:
        _check_free(path)
    except InputError:
        if Ledger.read(path) is None:  # else another run began in the meantime
            raise
    return None


def _check_free(path: Path) -> None:
    """Raises InputError for a folder with anything but what a killed run leaves at its start."""
    for entry in path.iterdir():
        if entry.name == _LOCK:
            status = entry.lstat()
            if stat.S_ISREG(status.st_mode) and not status.st_size and status.st_nlink == 1:
                continue
        elif is_marker_temporary(entry.name):
            continue
        advice = "name an empty or a new folder"
        if (path / _CONFIG).exists():
            advice = (
                f"its {_CONFIG} is not one of a run that can be continued or overwritten, since "
                f"there is no {MARKER}: {advice}"
            )
        raise InputError(f"{path} holds files but no run; {advice}")


def _make_folders(path: Path) -> tuple[Path, ...]:
    """Create the folder and those around it; returns the new ones, the outermost first."""
    missing = [place for place in (path, *path.parents) if not place.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return tuple(reversed(missing))


def _remove_folders(created: tuple[Path, ...]) -> None:
    for folder in reversed(created):
        with contextlib.suppress(OSError):  # something else lies in it by now
            folder.rmdir()


def _acquire(path: Path) -> FileLock | None:
    lock = FileLock(path / _LOCK, thread_local=False)
    with contextlib.suppress(NotImplementedError):  # a file system without locks
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(f"{path} is in use by a run that is still going") from None
        except FileNotFoundError:  # a refused run removed the folder just now
            path.mkdir(parents=True, exist_ok=True)
            return _acquire(path)
        return lock
    return None


def _describe_difference(held_config: dict[str, Any], config: dict[str, Any]) -> str:
    missing = object()
    old, new = dict(_leaves(held_config, "")), dict(_leaves(config, ""))
    for key in old | new:
        a, b = old.get(key, missing), new.get(key, missing)
        if a != b and missing not in (a, b) and key.startswith(f"{OPTIMIZER_SOURCES}."):
            name = key.removeprefix(f"{OPTIMIZER_SOURCES}.")
            return f"the file of the optimizer {name} has changed since it began"
        if a != b:
            held_value, new_value = ("not set" if x is missing else _shorten(x) for x in (a, b))
            return f"its {key} is {held_value}, and {new_value} is asked for"
    return "its configuration differs"


def _only_sampled(ledger: Ledger) -> bool:
    """Whether a run has done no more than sample its data."""
    return not ledger.trees and all(
        name in _SAMPLED or _SAMPLED_FOLDERS & set(Path(name).parts[:-1]) for name in ledger.files
    )


def _differ_in(old: Mapping[str, Any], new: Mapping[str, Any], free: Collection[str]) -> bool:
    """Whether two configurations are equal but for these settings."""
    return all(old.get(key) == new.get(key) for key in {*old, *new} - set(free))


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


def _shorten(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
