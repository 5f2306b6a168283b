"""Where a model's files lie: the models of packages, folders, GGUF files, and names of the hub.

Needs no JAX, so that a command can refuse a model's name before it imports any.
"""

import os
from pathlib import Path

from subliminal_jax.errors import InputError
from subliminal_jax.gguf_files import ENDING, is_gguf
from subliminal_jax.models.packaged import PACKAGED_MODELS, find_packaged_model, packaged_name

# The models that ship with the package: the same corpus, another size and another seed.
SHIPPED = Path(__file__).parent / "shipped"
SHIPPED_MODELS = {"shipped": SHIPPED, "shipped-small": SHIPPED.with_name("shipped_small")}


def find_local_model(path_or_name: str | Path) -> Path | None:
    """The folder of a shipped or local model, or its GGUF file; None for what can only be a name of
    the hub.

    Raises InputError for another file, for a folder with several GGUF files and no safetensors, for
    a shipped model that is missing or a packaged one that is not installed, and for a path where
    nothing is.
    """
    name = str(path_or_name)
    if name in PACKAGED_MODELS:
        return find_packaged_model(name)
    local = SHIPPED_MODELS.get(name) or Path(name).expanduser()
    if os.path.isdir(local):  # not `Path.is_dir`, which raises at a name that is too long
        return _find_gguf(local) or local
    if os.path.isfile(local):
        if is_gguf(local):
            return local
        raise InputError(
            f"{name} is a file; pass a {ENDING} file, or the folder that holds config.json"
        )
    if name in SHIPPED_MODELS:
        raise InputError(f"the model {name} is missing: {local} is not a folder; reinstall")
    if local.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise InputError(f"{name}: no such folder or {ENDING} file")
    if local.suffix.lower() == ENDING:
        raise InputError(f"{name}: no such file")
    return None


def _find_gguf(folder: Path) -> Path | None:
    """The GGUF file in a folder without safetensors; None where there is none."""
    files = sorted(file for file in folder.iterdir() if is_gguf(file))
    if not files or any(folder.glob("*.safetensors")):
        return None
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:5]) + (", ..." if len(files) > 5 else "")
        raise InputError(f"{folder} holds {len(files)} GGUF files ({names}): name one of them")
    return files[0]


def find_source(folder: Path) -> str:
    """What names the model in a folder or GGUF file: the name of a shipped or packaged model, the
    hub's name where the folder lies in its cache, else the absolute path."""
    if (name := packaged_name(folder)) is not None:
        return name
    folder = folder.resolve()
    for name, shipped in SHIPPED_MODELS.items():
        if folder == shipped.resolve():
            return name
    cached = folder.parents[1].name if len(folder.parents) > 1 else ""
    if folder.parent.name == "snapshots" and cached.startswith("models--"):
        return "/".join(cached.split("--")[1:])
    return str(folder)


def is_same_name(first: str, second: str) -> bool:
    """Whether two names or paths are of the same model: their last parts count, and the folder of a
    shipped model, or the file of a packaged one, has its name."""
    folders = {folder.name: name for name, folder in SHIPPED_MODELS.items()}
    folders |= {model.file: name for name, model in PACKAGED_MODELS.items()}
    one, other = (folders.get(Path(name).name, Path(name).name) for name in (first, second))
    return one == other
