"""Where a model's files lie: the models of the package, folders, and names of the hub.

Needs no JAX, so that a command can refuse a model's name before it imports any.
"""

import os
from pathlib import Path

from subliminal_jax.errors import InputError

# The models that ship with the package: the same corpus, another size and another seed.
SHIPPED = Path(__file__).parent / "shipped"
SHIPPED_MODELS = {"shipped": SHIPPED, "shipped-small": SHIPPED.with_name("shipped_small")}


def find_model_folder(path_or_name: str | Path) -> Path | None:
    """The folder of a shipped or local model; None for what can only be a name of the hub.

    Raises InputError for a file, for a shipped model that is missing, and for a path without a
    folder.
    """
    name = str(path_or_name)
    local = SHIPPED_MODELS.get(name) or Path(name).expanduser()
    if os.path.isdir(local):  # not `Path.is_dir`, which raises at a name that is too long
        return local
    if os.path.isfile(local):
        raise InputError(f"{name} is a file; pass the folder that holds config.json")
    if name in SHIPPED_MODELS:
        raise InputError(f"the model {name} is missing: {local} is not a folder; reinstall")
    if local.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise InputError(f"{name}: no such folder")
    return None


def find_source(folder: Path) -> str:
    """What names the model in a folder: the name of a shipped model, the hub's name where the
    folder lies in its cache, else the folder's absolute path."""
    folder = folder.resolve()
    for name, shipped in SHIPPED_MODELS.items():
        if folder == shipped.resolve():
            return name
    cached = folder.parents[1].name if len(folder.parents) > 1 else ""
    if folder.parent.name == "snapshots" and cached.startswith("models--"):
        return "/".join(cached.split("--")[1:])
    return str(folder)


def is_same_name(first: str, second: str) -> bool:
    """Whether two names or paths are of the same model: their last parts count, and a shipped
    model's folder has its name."""
    folders = {folder.name: name for name, folder in SHIPPED_MODELS.items()}
    one, other = (folders.get(Path(name).name, Path(name).name) for name in (first, second))
    return one == other
