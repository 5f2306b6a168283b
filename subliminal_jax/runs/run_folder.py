"""The folder of one run: config.json, metrics.jsonl, results.json, and whatever else it writes."""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from subliminal_jax import processes
from subliminal_jax.errors import InputError
from subliminal_jax.files import plain_json, write_json, write_text

_LOCK = ".lock"
_COMMAND = "command"  # the key of config.json that two runs may differ in


class RunFolder:
    """A folder that belongs to one configuration, so that the same command again continues it.

    `config.json` is written when the folder is first opened and says whose it is; `results.json` is
    written last and says that the run is finished. Only one run at a time holds the folder. Of
    several processes that run together the first one writes, and all read.

    >>> with RunFolder.open("runs/a", {"rate": 0.1}) as run:
    ...     if not run.finished:
    ...         run.log({"step": 1, "loss": 2.5})
    ...         run.write_results({"loss": 2.5})
    ...     results = run.read_results()
    """

    def __init__(self, path: Path, lock: FileLock | None, *, is_new: bool = False):
        self.path = path
        self._lock = lock
        self._is_new = is_new

    @classmethod
    def open(
        cls,
        path: str | Path,
        config: Mapping[str, Any],
        *,
        overwrite: bool = False,
        command: str = "",
    ) -> "RunFolder":
        """Create the folder for `config`, or continue the one that holds this very `config`.

        Args:
          config: everything that the results depend on. Leave out what they do not depend on, such
            as the folder's own name.
          overwrite: delete what any earlier run left in the folder and begin anew. A folder that
            is not a run's (one with files and no config.json) is never touched.
          command: how the run was asked for, kept in config.json beside `config`; the same run may
            be asked for in other words.

        Raises:
          InputError: the folder holds another run (the first key that differs is named) or files
            that are no run's, is a file, cannot be written, or another process is using it.
        """
        opened: list[RunFolder] = []
        processes.on_first(lambda: opened.append(cls._open(Path(path), config, overwrite, command)))
        return opened[0] if opened else cls(Path(path), None)

    @classmethod
    def _open(
        cls, path: Path, config: Mapping[str, Any], overwrite: bool, command: str
    ) -> "RunFolder":
        wanted = json.loads(json.dumps(plain_json(dict(config))))
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file; name a folder for the run")
        _held_config(path)  # refuse before anything is written
        is_new = not path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
            run = cls(path, _acquire(path), is_new=is_new)
        except OSError as error:
            raise InputError(f"cannot write to {path} ({error}); name another folder") from None
        try:
            run._claim(wanted, overwrite, command)
        except BaseException:
            run.close()
            raise
        return run

    def _claim(self, wanted: dict[str, Any], overwrite: bool, command: str) -> None:
        held = _held_config(self.path)  # again: now that nobody else can change it
        entries = [entry for entry in self.path.iterdir() if entry.name != _LOCK]
        nothing_done = {entry.name for entry in entries} == {"config.json"}
        for entry in entries:
            if _is_temporary(entry) or (held is not None and overwrite):
                _delete(entry)
        if held is None or overwrite or nothing_done:
            asked = {_COMMAND: command} if command else {}
            write_json(self.path / "config.json", {**wanted, **asked})
        elif held != wanted:
            raise InputError(
                f"{self.path} holds another run: {_first_difference(held, wanted)}; "
                "name another folder, or overwrite this one"
            )
        self._drop_torn_line()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None and issubclass(kind, InputError) and processes.is_first():
            self._leave()
        self.close()

    def _leave(self) -> None:
        """Give up the folder if bad input ended the run before it did anything."""
        entries = {entry.name for entry in self.path.iterdir()} - {_LOCK}
        if entries <= {"config.json"}:
            (self.path / "config.json").unlink(missing_ok=True)
            (self.path / _LOCK).unlink(missing_ok=True)
            if self._is_new:
                self.path.rmdir()

    def close(self) -> None:
        """Let other processes have the folder; the end of this process does so too."""
        if self._lock is not None:
            self._lock.release()

    @property
    def finished(self) -> bool:
        """Whether the run wrote its results: there is nothing left to compute."""
        return bool(processes.on_first((self.path / "results.json").exists))

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl; a process killed midway leaves at most a torn line."""
        line = json.dumps(plain_json(dict(record)), allow_nan=False) + "\n"
        if not processes.is_first():
            return
        with (self.path / "metrics.jsonl").open("ab", buffering=0) as file:
            file.write(line.encode())

    def read_metrics(self) -> list[dict[str, Any]]:
        """What was logged, in order."""
        lines: list[str] = processes.on_first(self._lines)
        return [json.loads(line) for line in lines]

    def rewind(self, step: int, **match: Any) -> None:
        """Forget what was logged after `step`, for a run that goes on from the checkpoint there.

        Args:
          match: only records that hold these values are dropped, such as `stage="controls"` where
            several stages count their own steps.
        """

        def is_kept(line: str) -> bool:
            record = json.loads(line)
            ours = all(record.get(key) == value for key, value in match.items())
            return not (ours and record.get("step", step) > step)

        def forget() -> None:
            lines = self._lines()
            kept = [line for line in lines if is_kept(line)]
            if len(kept) < len(lines):
                write_text(self.path / "metrics.jsonl", "".join(line + "\n" for line in kept))

        processes.on_first(forget)

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Write results.json: plain JSON, non-finite numbers as null. This finishes the run."""
        write_json(self.path / "results.json", results)

    def read_config(self) -> tuple[dict[str, Any], str]:
        """The run's configuration, and the command that asked for it."""
        config = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        return config, config.pop(_COMMAND, "")

    def read_results(self) -> dict[str, Any]:
        return json.loads((self.path / "results.json").read_text(encoding="utf-8"))

    def _lines(self) -> list[str]:
        file = self.path / "metrics.jsonl"
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []

    def _drop_torn_line(self) -> None:
        file = self.path / "metrics.jsonl"
        if file.exists():
            content = file.read_bytes()
            if content and not content.endswith(b"\n"):
                with file.open("r+b") as opened:
                    opened.truncate(content.rfind(b"\n") + 1)


def _held_config(path: Path) -> dict[str, Any] | None:
    """The configuration of the run in `path`; None for a folder that is empty or not there."""
    file = path / "config.json"
    if not file.exists():
        entries = path.iterdir() if path.is_dir() else ()
        if any(entry.name != _LOCK and not _is_temporary(entry) for entry in entries):
            raise InputError(f"{path} holds files but no run; name an empty or a new folder")
        return None
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is not JSON ({error}); name another folder") from None
    if not isinstance(held, dict):
        raise InputError(f"{file} is not a run's configuration; name another folder")
    held.pop(_COMMAND, None)
    return held


def _is_temporary(entry: Path) -> bool:
    """Whether a killed process left this while it was writing a file."""
    return entry.name.startswith(".") and entry.name.endswith((".tmp", ".old"))


def _delete(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()


def _acquire(path: Path) -> FileLock | None:
    lock = FileLock(path / _LOCK, thread_local=False)
    with contextlib.suppress(NotImplementedError):  # a file system without locks: do without
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(f"{path} is in use by a run that is still going") from None
        return lock
    return None


def _first_difference(held: dict[str, Any], wanted: dict[str, Any]) -> str:
    def leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                yield from leaves(inner, f"{name}.{key}" if name else key)
        else:
            yield name, value

    missing = object()
    old, new = dict(leaves(held, "")), dict(leaves(wanted, ""))
    for key in old | new:
        a, b = old.get(key, missing), new.get(key, missing)
        if a != b:
            there, here = ("not set" if x is missing else _short(x) for x in (a, b))
            return f"its {key} is {there}, and {here} is asked for"
    return "its configuration differs"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
