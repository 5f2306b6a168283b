"""Atomic writing of files and folders, JSON, and arrays with a mark of their inputs."""

import contextlib
import json
import math
import os
import secrets
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from subliminal_jax import processes
from subliminal_jax.errors import InputError


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` (a file or a folder); rename it to `path` on success.

    If the body raises, the temporary file or folder is removed and `path` stays as it was. An
    existing folder at `path` is replaced.

    Where several processes run, all of them must call this, and the first one's file is kept.
    `path` appears only after all have left the body, so none of them sees it there.
    """
    path = Path(path)
    name = f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    writes = processes.is_first()
    folder = path.parent if writes else Path(tempfile.gettempdir())
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / name
    try:
        yield temporary
        processes.barrier()
        if not writes:
            pass
        elif temporary.is_dir() and path.is_dir():
            retired = temporary.with_suffix(".old")
            os.replace(path, retired)
            os.replace(temporary, path)
            shutil.rmtree(retired)
        else:
            os.replace(temporary, path)
        processes.barrier()
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


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
        temporary.write_text(text, encoding="utf-8")


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
        with np.load(path, allow_pickle=False) as file:
            values, stored_mark = file[what], str(file["mark"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read as {shown} ({error}); remove it") from error
    if stored_mark != mark:
        raise InputError(f"{path} holds {shown} of other rows or another model; remove it")
    return values
