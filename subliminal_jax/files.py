"""Atomic writing of files and folders, JSON, and arrays with a mark of their inputs."""

import contextlib
import errno
import json
import math
import os
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from subliminal_jax import processes
from subliminal_jax.errors import InputError
from subliminal_jax.ledger import note_written, temporary_name

FOLDER_LIST = ".subliminal-jax-folder.json"  # in a folder of `atomic_folder`
_FOLDER_FORMAT = "subliminal-jax folder 1"

# What zipfile and NumPy raise at a damaged .npz file (RuntimeError: it asks for a password).
UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` (a file or a folder); rename it to `path` on success.

    If the body raises, the temporary file or folder is removed and `path` stays as it was. A file
    at `path` is replaced; a folder only if it is empty (`atomic_folder` replaces its own). In the
    folder of an open run, what is written goes on the run's list (see `ledger`).

    Where several processes run, all of them must call this, and the first one's file is kept.
    `path` appears only after all have left the body, so none of them sees it there.

    Raises:
      InputError: the disk is full or refuses the file; a folder with files lies at `path`; or, in
        the folder of an open run, something that the run did not write does.
    """
    with _atomic_path(Path(path), _check_empty) as temporary:
        yield temporary


@contextlib.contextmanager
def atomic_folder(path: str | Path, *, keep: tuple[str, ...] = ()) -> Iterator[Path]:
    """`atomic_path` for a folder that is handed to others, such as a model's; yields a new folder.

    It holds a list of its files, by which it is known when it is to be replaced: a folder is
    replaced only if this function wrote it and every file in it, but for those named in `keep`,
    which stay.

    Raises:
      InputError: as `atomic_path`; for a folder with other files; for a file, a symbolic link, the
        root, the home folder and those around the current one.
    """
    path = Path(os.path.abspath(Path(path).expanduser()))
    processes.run_on_first(lambda: _check_own_folder(path, keep))  # before anything is computed
    with _atomic_path(path, lambda folder: _check_own_folder(folder, keep)) as temporary:
        temporary.mkdir()
        yield temporary
        for name in keep:
            if (path / name).is_file() and not (temporary / name).exists():
                shutil.copy2(path / name, temporary)
        names = sorted(_relative_names(temporary))
        write_json(temporary / FOLDER_LIST, {"format": _FOLDER_FORMAT, "files": names})


@contextlib.contextmanager
def _atomic_path(path: Path, check_folder: Callable[[Path], None]) -> Iterator[Path]:
    """`atomic_path`; `check_folder` raises InputError for a folder that may not be replaced."""
    writes = processes.is_first()
    temporary = temporary_name(path if writes else Path(tempfile.gettempdir(), path.name))
    with storage_errors(path):
        try:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            if writes:
                note_written(path)
            yield temporary
            processes.barrier()
            if writes:
                _put_in_place(temporary, path, check_folder)
            processes.barrier()
        finally:
            if temporary.is_dir():
                shutil.rmtree(temporary)
            else:
                temporary.unlink(missing_ok=True)


def _put_in_place(temporary: Path, path: Path, check_folder: Callable[[Path], None]) -> None:
    if not temporary.is_dir() or temporary.is_symlink():
        os.replace(temporary, path)
        return
    for name in _relative_names(temporary):
        note_written(path / name)
    if not path.is_dir():
        os.replace(temporary, path)
        return
    check_folder(path)
    retired = temporary.with_suffix(".old")
    os.replace(path, retired)
    os.replace(temporary, path)
    shutil.rmtree(retired)


def _check_empty(folder: Path) -> None:
    if folder.is_symlink() or any(folder.iterdir()):
        raise InputError(f"{folder} is a folder with other files: name another one")


def _check_own_folder(folder: Path, keep: tuple[str, ...]) -> None:
    """Raises InputError unless `folder` is free, or one that `atomic_folder` may replace."""
    check_folder_name(folder)
    if not folder.is_dir():
        return
    if Path.cwd().is_relative_to(folder.resolve()):
        raise InputError(f"{folder} is the current folder or holds it: name another one")
    names = set(_relative_names(folder)) - set(keep)
    if not names:
        return
    try:
        listed = json.loads((folder / FOLDER_LIST).read_text(encoding="utf-8"))
        is_ours = listed["format"] == _FOLDER_FORMAT
        others = names - set(listed["files"]) - {FOLDER_LIST}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        is_ours, others = False, names
    if not is_ours or others:
        shown = f"{min(others)}, which was" if others else "files which were"
        raise InputError(f"{folder} holds {shown} not written by this program: name another folder")


def check_folder_name(folder: Path) -> None:
    """Raises InputError for an output folder that cannot be one: a file, a symbolic link, the root,
    or the home folder."""
    try:
        if folder.is_symlink():
            raise InputError(f"{folder} is a symbolic link: name the folder that it points to")
        if os.path.lexists(folder) and not folder.is_dir():
            raise InputError(f"{folder} is a file: name a folder")
        resolved = folder.resolve()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{_shorten(str(folder))!r} cannot be a folder ({reason})") from None
    with contextlib.suppress(RuntimeError, OSError):  # no home folder, no current one
        if resolved == Path.home().resolve() or resolved == Path(resolved.anchor):
            raise InputError(f"{folder} is the home folder or the root: name a folder in it")


def check_own_file(path: str | Path, what: str, is_ours: Callable[[Path], bool]) -> None:
    """Raises InputError where `path` is a folder, a symbolic link, or a file that is not a `what`
    of this program, by `is_ours`."""
    path = Path(path)
    try:
        if path.is_symlink():
            raise InputError(f"{path} is a symbolic link: name the file that it points to")
        if path.is_dir():
            raise InputError(f"{path} is a folder: name a file for the {what}")
        exists = os.path.lexists(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{_shorten(str(path))!r} cannot be a file ({error})") from None
    if exists and not (path.is_file() and is_ours(path)):
        raise InputError(f"{path} is there and is no {what} of this program: name another file")


@contextlib.contextmanager
def storage_errors(path: str | Path) -> Iterator[None]:
    """Turn what the file system refuses in the body into an InputError that names `path`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = storage_failure(error)
        if reason is None:
            raise
        raise InputError(f"{path} cannot be written: {reason}") from error


def storage_failure(error: BaseException) -> str | None:
    """What the file system refused and what to do, for an error of Python's, safetensors',
    Arrow's or TensorStore's; None for another error."""
    code = error.errno if isinstance(error, OSError) else None
    if code is None:
        text = str(error)
        code = next((c for c in _ADVICE if os.strerror(c) in text), None)
        if code is None:
            return None
    if code in (errno.EPIPE, errno.ECONNRESET):
        return None
    return f"{os.strerror(code)}; {_ADVICE.get(code, 'name another place')}"


_ROOM = "make room, then give the same command again: it continues"
_ADVICE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), then give the same command again",
    errno.EMFILE: "raise the limit of open files (ulimit -n), then give the same command again",
    errno.EROFS: "name a place that can be written",
    errno.EACCES: "name a place that can be written",
    errno.ENAMETOOLONG: "give a shorter name",
}


def _relative_names(folder: Path) -> Iterator[str]:
    """Everything in `folder` but folders, by its path in it."""
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if Path(place, name).is_symlink()]
        for name in (*files, *links):
            yield Path(place, name).relative_to(folder).as_posix()


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def plain_json(value: Any) -> Any:
    """`value` with arrays as lists and every non-finite number as None, so that it is JSON."""
    if isinstance(value, Mapping):
        return {str(k): plain_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(v) for v in value]
    if isinstance(value, (str, bool)) or value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy and jax arrays and scalars
        return plain_json(value.tolist())
    raise TypeError(f"cannot write a {type(value).__name__} as JSON: {value!r}")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON without NaN literals, atomically."""
    write_text(path, json.dumps(plain_json(value), indent=1, allow_nan=False) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        # A name that is not UTF-8 may be part of a command that a page shows.
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def write_marked(path: str | Path, what: str, values: Shaped[np.ndarray, "..."], mark: str) -> None:
    """Write `values` under the name `what` to an .npz file with a mark: a digest of the inputs that
    they were computed from."""
    arrays: dict[str, Any] = {what: values, "mark": np.array(mark)}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def read_marked(path: str | Path, what: str, mark: str) -> Shaped[np.ndarray, "..."] | None:
    """The values that `write_marked` wrote; None where there is no file.

    Raises InputError for a corrupt file, one with other arrays, and one with another mark.
    """
    path = Path(path)
    shown = what.replace("_", "-")
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:  # NumPy checks what it reads, and may read less
            if (member := archive.testzip()) is not None:
                raise ValueError(f"{member} has other bytes than were written")
        with np.load(path, allow_pickle=False) as file:
            values, stored_mark = file[what], str(file["mark"])
    except UNREADABLE as error:
        raise InputError(f"{path} cannot be read as {shown} ({error}); remove it") from error
    if stored_mark != mark:
        raise InputError(f"{path} holds {shown} of other rows or another model; remove it")
    return values
