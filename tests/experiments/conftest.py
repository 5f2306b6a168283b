import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import number_model
from tests.experiments.command import read

# As in "sampling: 20/40 answers", or "training: compiling (program 1), 12 s".
PROGRESS = re.compile(r"[\w -]+: ([\d,]+/[\d,]+ |compiling )")


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """The folder of a model that writes number lists."""
    return number_model.write(tmp_path_factory.mktemp("models") / "numbers")


@pytest.fixture(scope="module")
def model_flags(model) -> list[str]:
    """The flags of the module's COMMAND that name its models."""
    return ["--model", str(model)]


@pytest.fixture(scope="module")
def folder(request, model_flags, tmp_path_factory) -> Path:
    """The folder of a finished run of the module's COMMAND."""
    command = request.module.COMMAND
    out = tmp_path_factory.mktemp("runs") / command.name
    command.run(out, model_flags)
    return out


@pytest.fixture(scope="module")
def results(folder) -> dict[str, Any]:
    return read(folder)


@pytest.fixture
def repeat(request, folder, model_flags, capsys) -> Callable[[], str]:
    """Runs the module's COMMAND again, which must leave its results and write the same page;
    returns what it said of its progress."""

    def run() -> str:
        page = (folder / "report.html").read_bytes()
        before = (folder / "results.json").stat().st_mtime_ns
        (folder / "report.html").unlink()
        request.module.COMMAND.run(folder, model_flags)
        assert (folder / "results.json").stat().st_mtime_ns == before
        assert (folder / "report.html").read_bytes() == page
        return capsys.readouterr().err

    return run


@pytest.fixture
def refuse(request, model_flags, tmp_path, capsys) -> Callable[[str], str]:
    """Runs the module's COMMAND with further flags, which must stop it with status 2, and
    before any sampling leave no folder; returns the one line that says why."""

    def run(flags: str) -> str:
        out = tmp_path / "refused"
        with pytest.raises(SystemExit) as stop:
            request.module.COMMAND.run(out, model_flags, flags)
        said = capsys.readouterr().err.splitlines()
        lines = [line for line in said if not PROGRESS.match(line)]
        assert stop.value.code == 2
        assert len(lines) == 1 and lines[0].startswith("subliminal-jax: error: "), lines
        is_sampled = any(out.glob("data/*.jsonl"))
        assert not out.exists() or is_sampled or len(said) > 1  # sampled data are kept
        return lines[0]

    return run
