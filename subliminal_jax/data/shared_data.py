"""Real models and data that no package brings: files in the folder of `SUBLIMINAL_JAX_DATA`."""

import os
from pathlib import Path

VARIABLE = "SUBLIMINAL_JAX_DATA"


def find_shared(*parts: str | Path) -> Path | None:
    """The file or folder of this name in `$SUBLIMINAL_JAX_DATA`.

    None where the variable is not set, or where there is no such file.
    """
    root = os.environ.get(VARIABLE)
    path = Path(root).expanduser().joinpath(*parts) if root else None
    return path if path is not None and path.exists() else None


def resolve_shared(name: str | Path) -> str:
    """`name`, or where there is no such file or folder here, its path in `$SUBLIMINAL_JAX_DATA`."""
    shared = None if Path(name).expanduser().exists() else find_shared(name)
    return str(name) if shared is None else str(shared)
