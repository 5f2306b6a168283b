"""The command line: discovery by file, lazy import, one line and a status for what goes wrong."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from subliminal_jax import __version__
from subliminal_jax.cli import experiments_folder, find_experiments, load_experiment, main

REPOSITORY = Path(__file__).parents[1]

DOUBLE = '''
"""Double a number.

The longer story.
"""
from dataclasses import dataclass

from subliminal_jax.errors import InputError


@dataclass(frozen=True)
class Config:
    """What to double."""

    number: int = 3
    """The number that is doubled."""
    names: tuple[str, ...] = ("adamw",)
    """Names to greet."""


def main(config: Config) -> None:
    if config.number == 0:
        raise InputError("number is 0;\\n  take another")
    if config.number == 1:
        raise KeyboardInterrupt
    if config.number == 2:
        raise ZeroDivisionError
    print(2 * config.number, *config.names)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "double_it.py").write_text(DOUBLE)
    (tmp_path / "broken_import.py").write_text('"""Need a library."""\nimport no_such_module\n')
    (tmp_path / "syntax.py").write_text("def (")
    (tmp_path / "no_main.py").write_text('"""Not an experiment."""\nConfig = dict\n')
    (tmp_path / "_shared.py").write_text('"""Not offered."""\n')
    (tmp_path / "notes.txt").write_text("not Python")
    return tmp_path


def test_files_become_sub_commands(folder):
    assert list(find_experiments(folder)) == ["broken-import", "double-it", "no-main", "syntax"]


def test_help_lists_first_lines_without_importing(folder, capsys):
    main(["--help"], folder)
    listed = capsys.readouterr().out
    assert "double-it      Double a number." in listed
    assert "broken-import  Need a library." in listed
    assert "The longer story" not in listed
    assert "(does not parse)" in listed
    main([], folder)
    assert capsys.readouterr().out == listed


@pytest.mark.parametrize("name", ["double-it", "double_it"])
def test_an_experiment_runs_with_its_flags_while_others_are_broken(folder, capsys, name):
    main([name, "--number", "21", "--names", "sgd", "lion"], folder)
    assert capsys.readouterr().out == "42 sgd lion\n"


def test_the_docstrings_are_the_help(folder, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["double-it", "--help"], folder)
    assert exit.value.code == 0
    shown = capsys.readouterr().out
    assert "The number that is doubled." in shown
    assert "The longer story." in shown


def fails(arguments, folder, capsys, status) -> str:
    with pytest.raises(SystemExit) as exit:
        main(arguments, folder)
    assert exit.value.code == status
    output = capsys.readouterr()
    assert output.out == ""
    return output.err


def test_bad_input_is_one_line_and_status_two(folder, capsys):
    message = fails(["double-it", "--number", "0"], folder, capsys, 2)
    assert message == "subliminal-jax: error: number is 0; take another\n"


def test_an_unknown_experiment_names_the_nearest_or_all(folder, capsys):
    assert "did you mean 'double-it'" in fails(["double-if"], folder, capsys, 2)
    assert "double-it, no-main" in fails(["xyz"], folder, capsys, 2)


def test_a_bad_flag_has_status_two(folder, capsys):
    assert "--numbr" in fails(["double-it", "--numbr", "0"], folder, capsys, 2)
    assert "--number" in fails(["double-it", "--number", "many"], folder, capsys, 2)


def test_a_file_without_main_is_named(folder, capsys):
    assert "no_main.py is no experiment: it has no main" in fails(["no-main"], folder, capsys, 2)


def test_an_interrupt_says_how_to_go_on(folder, capsys):
    message = fails(["double-it", "--number", "1"], folder, capsys, 130)
    assert "same command again" in message


def test_a_bug_keeps_its_traceback(folder):
    with pytest.raises(ZeroDivisionError):
        main(["double-it", "--number", "2"], folder)


def test_a_failed_import_leaves_no_half_module(folder):
    with pytest.raises(ModuleNotFoundError):
        load_experiment(folder / "broken_import.py")
    assert "subliminal_jax.experiments.broken_import" not in sys.modules


def test_listing_the_projects_own_experiments_imports_neither_jax_nor_numpy():
    script = textwrap.dedent("""
        import sys
        from subliminal_jax.cli import main
        main(["--help"])
        main(["--version"])
        print(sorted({"jax", "numpy", "tyro"} & set(sys.modules)))
    """)
    shown = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    assert shown.endswith(f"subliminal-jax {__version__}\n[]\n")


def test_every_experiment_of_the_project_loads_and_has_help(capsys):
    for name, file in find_experiments(experiments_folder()).items():
        module = load_experiment(file)
        assert module.__doc__, f"{file.name} has no docstring"
        with pytest.raises(SystemExit) as exit:
            main([name, "--help"])
        assert exit.value.code == 0
        assert f"subliminal-jax {name}" in capsys.readouterr().out
