"""The command `subliminal-jax <experiment> [flags]`; each file in experiments/ is a sub-command.

An experiment is one Python file with a docstring, a dataclass `Config` (its fields are the flags,
their docstrings the help) and `main(config)`. Only the chosen one is imported.
"""

import ast
import contextlib
import dataclasses
import difflib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import subliminal_jax
from subliminal_jax.errors import InputError

PROGRAM = "subliminal-jax"


def experiments_folder() -> Path:
    """Where the experiments are: in the package (a wheel) or beside it (a checkout)."""
    package = Path(subliminal_jax.__file__).parent
    for folder in (package / "experiments", package.parent / "experiments"):
        if folder.is_dir():
            return folder
    raise InputError(f"no experiments beside {package}: install {PROGRAM} again")


def find_experiments(folder: Path) -> dict[str, Path]:
    """Sub-command -> file, sorted; files whose name starts with an underscore are not offered."""
    return {
        file.stem.replace("_", "-"): file
        for file in sorted(folder.glob("*.py"))
        if not file.name.startswith("_")
    }


def load_experiment(file: Path) -> ModuleType:
    """Import one experiment by its file.

    Raises:
      InputError: the file does not offer `Config` and `main`.
    """
    name = f"subliminal_jax.experiments.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and tyro look annotations up by module name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    for attribute in ("Config", "main"):
        if not hasattr(module, attribute):
            raise InputError(f"{file} is no experiment: it has no {attribute}")
    return module


def main(arguments: Sequence[str] | None = None, folder: Path | None = None) -> None:
    """Run the command line; exits with 2 on bad input and with 130 when interrupted.

    Args:
      arguments: what follows the program's name; default `sys.argv[1:]`.
      folder: where to look for experiments, in place of the project's own.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _run(arguments, folder or experiments_folder())
    except InputError as error:
        message = " ".join(str(error).split())
        print(f"{PROGRAM}: error: {message}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(
            f"\n{PROGRAM}: interrupted; the same command again goes on from the last checkpoint",
            file=sys.stderr,
        )
        sys.exit(130)


def _run(arguments: list[str], folder: Path) -> None:
    experiments = find_experiments(folder)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help(experiments))
        return
    if arguments[0] == "--version":
        print(f"{PROGRAM} {subliminal_jax.__version__}")
        return
    name = arguments[0].replace("_", "-")
    if name not in experiments:
        raise InputError(_unknown(arguments[0], experiments))

    # transformers says at import that it found no torch, which is not needed here.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import tyro  # here and not above: the list of experiments needs none of it

    module = load_experiment(experiments[name])
    preset, flags = _preset(module, arguments[1:])
    config = tyro.cli(
        module.Config,
        prog=f"{PROGRAM} {name}",
        description=_description(module),
        default=None if preset is None else _from_preset(module, preset),
        args=flags,
    )
    from subliminal_jax.compilation import enable_compilation_cache
    from subliminal_jax.processes import is_first
    from subliminal_jax.study.settings import RunSettings

    enable_compilation_cache()
    if isinstance(config, RunSettings):
        config.use_devices()  # before the run's folder is opened: one of the processes writes it
    with contextlib.ExitStack() as stack:
        if not is_first():  # the first one says it all
            silent = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(silent))
        module.main(config)


def _preset(module: ModuleType, flags: list[str]) -> tuple[str | None, list[str]]:
    """The name given with `--preset`, if any, and the other flags.

    Raises InputError for a name that the experiment does not have.
    """
    rest, name = list(flags), None
    for i, flag in enumerate(flags):
        if flag == "--preset":
            name = flags[i + 1] if i + 1 < len(flags) else ""
            rest = flags[:i] + flags[i + 2 :]
        elif flag.startswith("--preset="):
            name, rest = flag.partition("=")[2], flags[:i] + flags[i + 1 :]
    if name is not None and name not in presets(module):
        raise InputError(
            f"unknown preset {name!r}; there are: {', '.join(presets(module)) or 'none'}"
        )
    return name, rest


def presets(module: ModuleType) -> dict[str, dict[str, Any]]:
    """The experiment's named settings: what differs from the defaults of its `Config`."""
    return getattr(module, "PRESETS", {})


def _from_preset(module: ModuleType, name: str) -> Any:
    """A `Config` with the preset's values; fields that must be given stay to be given."""
    import tyro

    needed = {
        field.name: tyro.MISSING
        for field in dataclasses.fields(module.Config)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    return module.Config(**{**needed, **presets(module)[name], "preset": name})


def _description(module: ModuleType) -> str:
    names = ", ".join(presets(module))
    text = module.__doc__ or ""
    return f"{text}\n\nPresets (--preset NAME, further flags change it): {names}" if names else text


def _help(experiments: dict[str, Path]) -> str:
    width = max(map(len, experiments), default=0)
    lines = [f"  {name:<{width}}  {_summary(file)}" for name, file in experiments.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} <experiment> [flags]",
            "",
            *(subliminal_jax.__doc__ or "").splitlines(),
            "",
            "experiments:",
            *(lines or ["  (none)"]),
            "",
            f"{PROGRAM} <experiment> --help lists its flags; {PROGRAM} --version says the version.",
        ]
    )


def _summary(file: Path) -> str:
    """The first line of a file's docstring, read without importing it."""
    try:
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    except SyntaxError:
        return "(does not parse)"
    return docstring.splitlines()[0] if docstring else ""


def _unknown(given: str, experiments: dict[str, Path]) -> str:
    near = difflib.get_close_matches(given, experiments, n=1)
    if near:
        return f"unknown experiment {given!r}; did you mean {near[0]!r}?"
    return f"unknown experiment {given!r}; there are: {', '.join(experiments) or 'none'}"


if __name__ == "__main__":
    main()
