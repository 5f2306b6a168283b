"""Which files a run wrote: a list in its folder, to which each file is added before it is written.

The list marks the folder as a run's. Whatever is not on it belongs to somebody else: it is never
removed, replaced, or followed through a link.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from subliminal_jax.errors import InputError

MARKER = ".subliminal-jax-run.jsonl"
ASIDE = ".overwritten"  # where an overwritten run lies until the new one writes something
SETTINGS = "config.json"
FORMAT = "subliminal-jax run"
VERSION = 1
_HEADER = json.dumps({"format": FORMAT, "version": VERSION})
_LONGEST_NAME = 255  # bytes of a file name, on every common file system
_TEMPORARY = re.compile(r"\.(.+)\.\d+-[0-9a-f]{8}\.(tmp|old)", re.DOTALL)

_open_ledgers: dict[Path, "Ledger"] = {}  # of the runs that this process has open


class Ledger:
    """The files that a run wrote in the folder `root`, by their paths in it.

    An entry names a file, or a `tree`: a folder with everything in it, such as a checkpoint.
    """

    def __init__(self, root: Path, files: Iterable[str] = (), trees: Iterable[str] = ()):
        self.root = _absolute(root)
        self.files, self.trees = set(files), set(trees)
        self._lock = threading.Lock()

    @classmethod
    def read(cls, root: Path) -> "Ledger | None":
        """The list in `root`; None where the folder holds none.

        Raises InputError for a list that is damaged or of a later version.
        """
        file = root / MARKER
        if file.is_symlink():
            raise InputError(f"{file} is a symbolic link, so {root} is no run: name another folder")
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(
                f"{file} cannot be read ({error.strerror}); nothing is touched"
            ) from None
        # A killed process may leave a truncated last line: its file was not written yet.
        lines = content.split(b"\n")[:-1]
        ledger = cls(root)
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
                if number == 1:
                    ledger._check_header(entry, file)
                else:
                    kind, name = next(iter(entry.items()))
                    {"file": ledger.files, "tree": ledger.trees}[kind].add(_check_name(name))
            except InputError:
                raise
            except (ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError):
                raise InputError(
                    f"{file}, line {number}, is not as a run writes it; nothing in {root} is "
                    "touched: name another folder"
                ) from None
        if not lines:
            raise InputError(f"{file} is empty; nothing in {root} is touched: name another folder")
        return ledger

    @staticmethod
    def _check_header(entry: dict[str, object], file: Path) -> None:
        if entry["format"] != FORMAT:
            raise ValueError
        if entry["version"] != VERSION:
            raise InputError(
                f"{file} has version {entry['version']}, and this program writes {VERSION}: "
                "use the program that made the run, or name another folder"
            )

    def write(self) -> None:
        """Write the list anew, atomically."""
        entries = [{"file": name} for name in sorted(self.files)]
        entries += [{"tree": name} for name in sorted(self.trees)]
        lines = [_HEADER, *map(json.dumps, entries)]
        temporary = temporary_name(self.root / MARKER)
        try:
            temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
            os.replace(temporary, self.root / MARKER)
        finally:
            temporary.unlink(missing_ok=True)

    def start(self) -> None:
        """From now on, what this process writes in the folder is put on the list."""
        _open_ledgers[self.root] = self

    def stop(self) -> None:
        """The end of `start`."""
        _open_ledgers.pop(self.root, None)

    def add(self, path: Path, *, tree: bool = False) -> None:
        """Put `path` on the list, before it is written.

        Raises InputError for a path that leads through a symbolic link, and where something lies
        there already that the run did not write.
        """
        path = _absolute(path)
        name = path.relative_to(self.root).as_posix()
        if any(_TEMPORARY.fullmatch(part) for part in PurePosixPath(name).parts):
            return
        with self._lock:
            self._check_links(name)
            if self.owns(path):
                return
            if os.path.lexists(path):
                raise InputError(
                    f"{path} is in the way: the run did not write it, so it is left as it is; "
                    "move it out of the run's folder"
                )
            self._append({"tree" if tree else "file": name})
            (self.trees if tree else self.files).add(name)
            if self.has_aside and name not in (ASIDE, SETTINGS):
                self._remove_aside()

    def owns(self, path: Path) -> bool:
        """Whether `path` is on the list, or in a folder that is on it as a whole."""
        name = PurePosixPath(_absolute(path).relative_to(self.root).as_posix())
        inside = {name, *name.parents}
        return str(name) in self.files or any(str(place) in self.trees for place in inside)

    def check_links(self) -> None:
        """Raises InputError where a path on the list leads through a symbolic link by now."""
        for name in (*sorted(self.files), *sorted(self.trees)):
            self._check_links(name)

    def set_aside(self) -> list[str]:
        """Move what is on the list into the folder `ASIDE`, and remove folders that are empty then.

        The first file that is put on the list, settings apart, ends the run that was moved; until
        then `restore` brings it back, also after the process was killed. Returns what else there
        is, by name in the folder.
        """
        aside, moved = self.root / ASIDE, Ledger(self.root / ASIDE, self.files, self.trees)
        self.add(aside, tree=True)
        try:
            self.remove_temporaries()
            aside.mkdir()
            moved.write()
            moved.move_from(self.root)
            self.files, self.trees = set(), {ASIDE}
            self.write()
        except BaseException:
            self.restore()
            raise
        return sorted(p.name for p in self.root.iterdir() if p.name not in (MARKER, ".lock", ASIDE))

    @property
    def has_aside(self) -> bool:
        """Whether there is a run that `restore` would bring back."""
        return ASIDE in self.trees

    def restore(self) -> None:
        """Undo `set_aside`, unless the run that was moved has ended."""
        if not self.has_aside:
            return
        moved = Ledger.read(self.root / ASIDE)  # None once it is being removed
        files, trees = self.files, self.trees - {ASIDE}
        is_whole = moved is not None and (files, trees) == (moved.files, moved.trees)
        if moved is not None and (is_whole or not (files - {SETTINGS} or trees)):
            for name in files - moved.files:
                (self.root / name).unlink(missing_ok=True)
            self.files, self.trees = set(moved.files), set(moved.trees)
            self.move_from(moved.root)
            self.trees.add(ASIDE)
            self.write()
        self._remove_aside()

    def move_from(self, root: Path) -> None:
        """Move what is on the list from the folder `root`, and remove folders there that are empty
        then."""
        # The settings first: without them nobody continues what a killed removal leaves.
        for name in sorted(self.files, key=lambda name: (name != SETTINGS, name)):
            source = root / name
            if source.is_symlink() or source.is_file():
                _move(source, self.root / name)
        for name in self.trees:
            source = root / name
            # Orbax's unfinished ones, and those that were set aside as damaged.
            for place in (source, *source.parent.glob(f"{source.name}.*")):
                rest = place.name.removeprefix(source.name)
                if re.fullmatch(r"(\.orbax-checkpoint-tmp.*|(\.damaged)+)?", rest):
                    _move(place, (self.root / name).with_name(place.name))
        parents = {p for name in (*self.files, *self.trees) for p in PurePosixPath(name).parents}
        folders = {*parents, *map(PurePosixPath, self.files)} - {PurePosixPath(".")}
        for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
            with contextlib.suppress(OSError):
                (root / folder).rmdir()

    def _remove_aside(self) -> None:
        (self.root / ASIDE / MARKER).unlink(missing_ok=True)  # first: half of a run is none
        _remove_tree(self.root / ASIDE)
        self.trees.discard(ASIDE)
        self.write()

    def remove_temporaries(self) -> None:
        """Remove what killed processes left half written of files on the list."""
        by_folder: dict[Path, set[str]] = {self.root: {MARKER}}
        for name in self.files:
            path = self.root / name
            by_folder.setdefault(path.parent, set()).add(path.name)
        for folder, names in by_folder.items():
            shortened = set(map(_shorten, names))
            for entry in folder.iterdir() if folder.is_dir() else ():
                match = _TEMPORARY.fullmatch(entry.name)
                if match and match[1] in shortened:
                    _remove_tree(entry)

    def _append(self, entry: dict[str, str]) -> None:
        file = self.root / MARKER
        line = (json.dumps(entry) + "\n").encode()
        try:
            with file.open("r+b", buffering=0) as opened:
                end = opened.seek(0, os.SEEK_END)
                if opened.write(line) != len(line):
                    opened.truncate(end)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise InputError(
                f"{file} cannot be written ({error.strerror}): make room, then repeat the command"
            ) from None

    def _check_links(self, name: str) -> None:
        path = self.root
        for part in PurePosixPath(name).parts:
            path = path / part
            if path.is_symlink():
                raise InputError(
                    f"{path} is a symbolic link, and a run writes nothing through links in its "
                    "folder: remove the link"
                )


def note_written(path: str | Path, *, tree: bool = False) -> None:
    """Say that `path` is about to be written: in the folder of an open run it goes on its list.

    Raises InputError as `Ledger.add` does.
    """
    if ledger := _ledger_around(path):
        ledger.add(Path(path), tree=tree)


def check_written(path: str | Path) -> None:
    """Raises InputError for a path in the folder of an open run that the run did not write."""
    ledger = _ledger_around(path)
    if ledger and not ledger.owns(Path(path)):
        raise InputError(f"{path} is not of this run: move it out of the run's folder")


def temporary_name(path: Path) -> Path:
    """A new name beside `path` for what is written before it is renamed to `path`."""
    return path.with_name(f".{_shorten(path.name)}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def is_marker_temporary(name: str) -> bool:
    """Whether a file of this name is a list that a killed process was writing."""
    match = _TEMPORARY.fullmatch(name)
    return match is not None and match[1] == MARKER


def _ledger_around(path: str | Path) -> Ledger | None:
    if not _open_ledgers:
        return None
    parents = _absolute(path).parents
    return next((_open_ledgers[p] for p in parents if p in _open_ledgers), None)


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(path))  # without following links


def _check_name(name: str) -> str:
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise ValueError(name)
    return name


def _shorten(name: str) -> str:
    room = _LONGEST_NAME - len("..0123456789-01234567.tmp")
    return name.encode("utf-8", "surrogateescape")[:room].decode("utf-8", "ignore")


def _move(source: Path, target: Path) -> None:
    if os.path.lexists(source):
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)


def _remove_tree(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
