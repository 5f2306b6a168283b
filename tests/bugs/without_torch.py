"""A plugin of pytest: torch is nowhere to be found, so the tests against it skip."""

from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

_find_spec = PathFinder.find_spec


def _find_all_but_torch(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
    return None if name.partition(".")[0] == "torch" else _find_spec(name, path, target)


PathFinder.find_spec = staticmethod(_find_all_but_torch)  # type: ignore[method-assign,assignment]


def pytest_report_header(config: Any) -> str:
    return "without torch"
