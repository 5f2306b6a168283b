"""The rooms of the package and their order: who may import whom, read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = "subliminal_jax"
EXPERIMENTS = f"{PACKAGE}.experiments"

# From the bottom up: a room may import those before it, and itself. Files directly in the package
# belong to the ground, but for `cli` and the public API (`api`, `testing`, and the package's own
# `__init__`, which hands it on), which stand on top.
ROOMS = [
    "ground",
    "models",
    "steering",
    "training",
    "diagnostics",
    "data",
    "selection",
    "evaluation",
    "reporting",
    "runs",
    "audit",
    "commands",
    "experiments",
    "top",
]
TOP = {"cli", "api", "testing"}


def modules() -> dict[str, Path]:
    """Every module of the library and the experiments, by its import path."""
    files = {}
    roots = {PACKAGE: REPOSITORY / PACKAGE, EXPERIMENTS: REPOSITORY / "experiments"}
    for prefix, root in roots.items():
        for file in sorted(root.rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
            files[".".join((prefix, *parts))] = file
    return files


MODULES = modules()


def room(module: str) -> str:
    if module == PACKAGE:
        return "top"
    name = module.split(".")[1]
    if name in TOP:
        return "top"
    return name if name in ROOMS else "ground"


def imports(module: str) -> Iterator[tuple[str, ast.stmt]]:
    """The modules of the project that `module` imports anywhere, with the statement."""
    file = MODULES[module]
    tree = ast.parse(file.read_text(encoding="utf-8"))
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, *([base] if base else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        for name in names:
            while name and name not in MODULES:
                name = name.rpartition(".")[0]
            if name.startswith(PACKAGE):
                yield name, node


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    """Function-level imports count as much as others."""
    height = ROOMS.index(room(module))
    upward = {target for target, _ in imports(module) if ROOMS.index(room(target)) > height}
    assert not upward, f"{module} ({room(module)}) imports {sorted(upward)}"


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) not in ("top", "commands")])
def test_no_import_inside_a_function_crosses_rooms(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    inner = {
        (node.lineno, node.col_offset)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    crossing = sorted(
        {
            target
            for target, node in imports(module)
            if (node.lineno, node.col_offset) in inner and room(target) != room(module)
        }
    )
    assert not crossing, f"{module} imports {crossing} inside a function"


@pytest.mark.parametrize("module", MODULES)
def test_nothing_imports_an_experiment(module):
    """Not the library, not the command line, and no experiment another one."""
    folder = ".".join(module.split(".")[:3])
    foreign = sorted(
        {
            target
            for target, _ in imports(module)
            if target.startswith(f"{EXPERIMENTS}.")
            and not (module.startswith(f"{EXPERIMENTS}.") and target.startswith(f"{folder}."))
        }
    )
    assert not foreign, f"{module} imports {foreign}"


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith(f"{EXPERIMENTS}.")])
def test_an_experiment_is_a_folder(module):
    assert len(module.split(".")) == 4, f"{module} is not a file of an experiment's folder"


def test_every_experiment_has_its_four_files():
    files = [file for name, file in MODULES.items() if name.startswith(f"{EXPERIMENTS}.")]
    folders = {file.parent for file in files if file.name == "experiment.py"}
    missing = [
        f"{folder.name}/{name}"
        for folder in sorted(folders)
        for name in ("config.py", "analysis.py", "report.py")
        if not (folder / name).exists()
    ]
    assert not missing
