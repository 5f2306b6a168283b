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

    `config.json` is written when the folder is first opened; `results.json` is written last and
    marks the run as finished. A lock lets one run at a time open the folder. Of the processes of
    one run the first writes, and all read.

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
        """Create the folder for `config`, or continue the run with an equal `config` in it.

        Args:
          config: the settings that the results depend on, and no others (not the folder's name).
          overwrite: delete an earlier run in the folder. A folder with files but without
            config.json is never touched.
          command: the command of the run, stored in config.json; not compared with the stored one.

        Raises:
          InputError: the folder holds another run (the message names the first key that differs) or
            files without a run, is a file, cannot be written, or is locked by another process.
        """
        opened: list[RunFolder] = []
        processes.run_on_first(
            lambda: opened.append(cls._open(Path(path), config, overwrite, command))
        )
        return opened[0] if opened else cls(Path(path), None)

    @classmethod
    def _open(
        cls, path: Path, config: Mapping[str, Any], overwrite: bool, command: str
    ) -> "RunFolder":
        plain_config = json.loads(json.dumps(plain_json(dict(config))))
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file; name a folder for the run")
        _read_held_config(path)  # refuse before anything is written
        is_new = not path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
            run = cls(path, _acquire(path), is_new=is_new)
        except OSError as error:
            raise InputError(f"cannot write to {path} ({error}); name another folder") from None
        try:
            run._claim(plain_config, overwrite, command)
        except BaseException:
            run.close()
            raise
        return run

    def _claim(self, config: dict[str, Any], overwrite: bool, command: str) -> None:
        held_config = _read_held_config(self.path)  # again, now under the lock
        entries = [entry for entry in self.path.iterdir() if entry.name != _LOCK]
        is_untouched = {entry.name for entry in entries} == {"config.json"}
        for entry in entries:
            if _is_temporary(entry) or (held_config is not None and overwrite):
                _delete(entry)
        if held_config is None or overwrite or is_untouched:
            command_entry = {_COMMAND: command} if command else {}
            write_json(self.path / "config.json", {**config, **command_entry})
        elif held_config != config:
            raise InputError(
                f"{self.path} holds another run: {_describe_difference(held_config, config)}; "
                "name another folder, or overwrite this one"
            )
        self._drop_truncated_line()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None and issubclass(kind, InputError) and processes.is_first():
            self._leave()
        self.close()

    def _leave(self) -> None:
        """Delete the folder's files if bad input ended the run before it wrote any results."""
        entries = {entry.name for entry in self.path.iterdir()} - {_LOCK}
        if entries <= {"config.json"}:
            (self.path / "config.json").unlink(missing_ok=True)
            (self.path / _LOCK).unlink(missing_ok=True)
            if self._is_new:
                self.path.rmdir()

    def close(self) -> None:
        """Release the lock; the end of the process does so too."""
        if self._lock is not None:
            self._lock.release()

    @property
    def finished(self) -> bool:
        """Whether the run wrote its results."""
        return bool(processes.run_on_first((self.path / "results.json").exists))

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl; a killed process leaves at most one truncated line."""
        line = json.dumps(plain_json(dict(record)), allow_nan=False) + "\n"
        if not processes.is_first():
            return
        with (self.path / "metrics.jsonl").open("ab", buffering=0) as file:
            file.write(line.encode())

    def read_metrics(self) -> list[dict[str, Any]]:
        """The logged records, in order."""
        lines: list[str] = processes.run_on_first(self._read_lines)
        return [json.loads(line) for line in lines]

    def rewind(self, step: int, **match: Any) -> None:
        """Delete records logged after `step`, for a run that continues from the checkpoint there.

        Args:
          match: delete only records with these values, such as `stage="controls"` where each stage
            counts its own steps.
        """

        def is_kept(line: str) -> bool:
            record = json.loads(line)
            matches = all(record.get(key) == value for key, value in match.items())
            return not (matches and record.get("step", step) > step)

        def forget() -> None:
            lines = self._read_lines()
            remaining = [line for line in lines if is_kept(line)]
            if len(remaining) < len(lines):
                write_text(self.path / "metrics.jsonl", "".join(line + "\n" for line in remaining))

        processes.run_on_first(forget)

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Write results.json, with non-finite numbers as null. This finishes the run."""
        write_json(self.path / "results.json", results)

    def read_config(self) -> tuple[dict[str, Any], str]:
        """The run's configuration, and its command ("" if none was stored)."""
        config = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        return config, config.pop(_COMMAND, "")

    def read_results(self) -> dict[str, Any]:
        return json.loads((self.path / "results.json").read_text(encoding="utf-8"))

    def _read_lines(self) -> list[str]:
        file = self.path / "metrics.jsonl"
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []

    def _drop_truncated_line(self) -> None:
        file = self.path / "metrics.jsonl"
        if file.exists():
            content = file.read_bytes()
            if content and not content.endswith(b"\n"):
                with file.open("r+b") as opened:
                    opened.truncate(content.rfind(b"\n") + 1)


def _read_held_config(path: Path) -> dict[str, Any] | None:
    """The configuration of the run in `path`; None for an empty or missing folder.

    Raises InputError for a folder with files but no config.json, and for a corrupt config.json.
    """
    file = path / "config.json"
    if not file.exists():
        entries = path.iterdir() if path.is_dir() else ()
        if any(entry.name != _LOCK and not _is_temporary(entry) for entry in entries):
            raise InputError(f"{path} holds files but no run; name an empty or a new folder")
        return None
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is not JSON ({error}); name another folder") from None
    if not isinstance(config, dict):
        raise InputError(f"{file} is not a run's configuration; name another folder")
    config.pop(_COMMAND, None)
    return config


def _is_temporary(entry: Path) -> bool:
    """Whether this is a partly written file of a killed process."""
    return entry.name.startswith(".") and entry.name.endswith((".tmp", ".old"))


def _delete(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()


def _acquire(path: Path) -> FileLock | None:
    lock = FileLock(path / _LOCK, thread_local=False)
    with contextlib.suppress(NotImplementedError):  # a file system without locks
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(f"{path} is in use by a run that is still going") from None
        return lock
    return None


def _describe_difference(held_config: dict[str, Any], config: dict[str, Any]) -> str:
    def leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                yield from leaves(inner, f"{name}.{key}" if name else key)
        else:
            yield name, value

    missing = object()
    old, new = dict(leaves(held_config, "")), dict(leaves(config, ""))
    for key in old | new:
        a, b = old.get(key, missing), new.get(key, missing)
        if a != b:
            held_value, new_value = ("not set" if x is missing else _shorten(x) for x in (a, b))
            return f"its {key} is {held_value}, and {new_value} is asked for"
    return "its configuration differs"


def _shorten(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
