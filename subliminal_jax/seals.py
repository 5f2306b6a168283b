"""Digests of files, stored beside them, so that a changed byte is noticed before it is read.

A folder is sealed once it is complete: `digests.json` in it then holds the size and SHA-256 of
every other file. A single file has its digest in a file of its own beside it.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from subliminal_jax.errors import InputError
from subliminal_jax.files import write_json, write_text
from subliminal_jax.ledger import check_written, note_written

DIGESTS = "digests.json"


def seal_folder(folder: Path, label: str = "") -> None:
    """Write the digests of all files of `folder`; what was sealed before is sealed anew.

    `label` says which of several folders of a kind it is.
    """
    files = {name: _describe(folder / name) for name in _list_files(folder) if name != DIGESTS}
    write_json(folder / DIGESTS, {"label": label, "files": files})


def find_damage(folder: Path, label: str = "") -> str | None:
    """What differs in a folder from what was sealed under `label`, in a few words; None: nothing.

    A file that is missing, truncated, changed, unreadable, or not a regular file any more, and one
    that was added. Empty folders do not count.
    """
    if folder.is_symlink() or not folder.is_dir():
        return "it is no folder"
    if not (folder / DIGESTS).is_file():
        return f"it has no {DIGESTS}, so it is incomplete or of an earlier version"
    try:
        sealed = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
        stored = {name: (int(size), str(sha)) for name, (size, sha) in sealed["files"].items()}
        stored_label = sealed["label"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"{DIGESTS} cannot be read ({_first_line(error)})"
    if stored_label != label:
        return f"{DIGESTS} is that of {stored_label!r}"
    try:
        present = set(_list_files(folder)) - {DIGESTS}
    except OSError as error:
        return f"it cannot be read ({_first_line(error)})"
    if missing := sorted(stored.keys() - present):
        return f"{missing[0]} is missing"
    if added := sorted(present - stored.keys()):
        return f"{added[0]} was added"
    for name in sorted(stored):
        if damage := _compare(folder / name, *stored[name]):
            return f"{name} {damage}"
    return None


def is_sealed(folder: Path) -> bool:
    """Whether `folder` was completed; its files are not read."""
    return not folder.is_symlink() and (folder / DIGESTS).is_file()


def seal_file(path: Path, content: Path) -> None:
    """Write the digest that the file `path` will have: that of `content`, which becomes it."""
    size, digest = _describe(content)
    write_text(digest_path(path), f"{size} {digest}\n")


def find_file_damage(path: Path) -> str | None:
    """What differs in a sealed file; None: nothing."""
    try:
        size, digest = digest_path(path).read_text(encoding="utf-8").split()
        expected = int(size), digest
    except FileNotFoundError:
        return f"{digest_path(path).name} is missing"
    except (OSError, ValueError) as error:
        return f"{digest_path(path).name} cannot be read ({_first_line(error)})"
    damage = _compare(path, *expected)
    return damage and f"it {damage}"


def set_aside(path: Path) -> Path:
    """Rename a damaged file or folder to NAME.damaged, or with more of that suffix to a free name.

    In the folder of an open run, the files that the run wrote stay on its list.
    Raises InputError where it cannot be renamed, and for what an open run did not write.
    """
    check_written(path)
    aside = path.with_name(f"{path.name}.damaged")
    while os.path.lexists(aside):
        aside = aside.with_name(f"{aside.name}.damaged")
    try:
        is_folder = path.is_dir() and not path.is_symlink()
        for name in list(_list_files(path)) if is_folder else [""]:
            with contextlib.suppress(InputError):  # a file that the run did not write
                check_written(path / name)
                note_written(aside / name)
        path.rename(aside)
    except OSError as error:
        raise InputError(f"{path} is damaged and cannot be set aside: {error}") from error
    return aside


def digest_path(path: Path) -> Path:
    """Where the digest of a single file lies."""
    return path.with_name(f"{path.name}.sha256")


def _compare(path: Path, size: int, digest: str) -> str | None:
    try:
        if path.is_symlink() or not path.is_file():
            return "is no file"
        present = path.stat().st_size
        if present != size:
            return f"has {present} bytes of {size}"
        if _describe(path)[1] != digest:
            return "has other bytes than were written"
    except OSError as error:
        return f"cannot be read ({_first_line(error)})"
    return None


def _describe(path: Path) -> tuple[int, str]:
    """The size and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def _list_files(folder: Path) -> Iterator[str]:
    """What is in a folder and its folders, but folders themselves, by path."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                for name in _list_files(folder / entry.name):
                    yield f"{entry.name}/{name}"
            else:
                yield entry.name


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
