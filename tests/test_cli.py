"""The command line: discovery by folder, lazy import, one line and a status for what goes wrong."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import subliminal_jax.commands
import subliminal_jax.experiments
from subliminal_jax import __version__, cli
from subliminal_jax.cli import find_commands, find_experiments, load_experiment, main
from subliminal_jax.errors import InputError

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
def folder(tmp_path: Path, monkeypatch) -> Path:
    """Tools and experiments of their own, in place of the project's."""
    (tmp_path / "double_it.py").write_text(DOUBLE)
    (tmp_path / "broken_import.py").write_text('"""Need a library."""\nimport no_such_module\n')
    (tmp_path / "syntax.py").write_text("def (")
    (tmp_path / "_shared.py").write_text('"""Not offered."""\n')
    (tmp_path / "notes.txt").write_text("not Python")
    (tmp_path / "experiments" / "no_study").mkdir(parents=True)
    study = tmp_path / "experiments" / "no_study" / "experiment.py"
    study.write_text('"""Not an experiment."""\nConfig = dict\n')
    (tmp_path / "experiments" / "notes").mkdir()
    monkeypatch.setattr(subliminal_jax.commands, "__path__", [str(tmp_path)])
    monkeypatch.setattr(subliminal_jax.experiments, "__path__", [str(tmp_path / "experiments")])
    yield tmp_path
    for name in list(sys.modules):
        if name.endswith(
            ("double_it", "fill_device", "broken_import", "no_study", "no_study.experiment")
        ):
            del sys.modules[name]


def test_files_and_folders_become_sub_commands(folder):
    assert list(find_commands()) == ["broken-import", "double-it", "syntax"]
    assert list(find_experiments()) == ["no-study"]


def test_help_lists_first_lines_without_importing(folder, capsys):
    main(["--help"])
    listed = capsys.readouterr().out
    assert listed.index("studies:") < listed.index("no-study") < listed.index("tools:")
    assert "double-it      Double a number." in listed
    assert "broken-import  Need a library." in listed
    assert "no-study       Not an experiment." in listed
    assert "The longer story" not in listed
    assert "(does not parse)" in listed
    main([])
    assert capsys.readouterr().out == listed


@pytest.mark.parametrize("name", ["double-it", "double_it"])
def test_a_tool_runs_with_its_flags_while_others_are_broken(folder, capsys, name):
    main([name, "--number", "21", "--names", "sgd", "lion"])
    assert capsys.readouterr().out == "42 sgd lion\n"


def test_the_docstrings_are_the_help(folder, capsys):
    main(["double-it", "--help"])
    shown = capsys.readouterr().out
    assert "The number that is doubled." in shown
    assert "The longer story." in shown


def fails(arguments, capsys, status) -> str:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == status
    output = capsys.readouterr()
    assert output.out == ""
    return output.err


def test_bad_input_is_one_line_and_status_two(folder, capsys):
    message = fails(["double-it", "--number", "0"], capsys, 2)
    assert message == "subliminal-jax: error: number is 0;\\n take another\n"


def test_an_unknown_sub_command_names_the_nearest_or_all(folder, capsys):
    assert "did you mean 'double-it'" in fails(["double-if"], capsys, 2)
    assert "no-study, broken-import, double-it" in fails(["xyz"], capsys, 2)


def test_a_bad_flag_has_status_two(folder, capsys):
    assert "--numbr" in fails(["double-it", "--numbr", "0"], capsys, 2)
    assert "--number" in fails(["double-it", "--number", "many"], capsys, 2)


def test_an_experiment_that_defines_none_is_named(folder):
    with pytest.raises(InputError, match=r"no_study/experiment.py is no experiment"):
        load_experiment(find_experiments()["no-study"])


def test_an_interrupt_says_how_to_go_on(folder, capsys):
    message = fails(["double-it", "--number", "1"], capsys, 130)
    assert "same command again" in message


def test_a_full_device_is_one_line(folder, capsys):
    (folder / "fill_device.py").write_text(
        textwrap.dedent(
            """
            "Fill the device."
            import dataclasses

            import jax

            @dataclasses.dataclass(frozen=True)
            class Config:
                "Nothing to set."

            def main(config: Config) -> None:
                raise jax.errors.JaxRuntimeError(
                    "RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.\\nAllocator's dump"
                )
            """
        )
    )
    with pytest.raises(SystemExit) as end:
        main(["fill-device"])
    assert end.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "subliminal-jax: error: the device's memory is full (Out of memory allocating 99 bytes): "
        "give it fewer rows or students at once"
    ]


def test_a_bug_keeps_its_traceback(folder):
    with pytest.raises(ZeroDivisionError):
        main(["double-it", "--number", "2"])


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


def test_an_argument_error_comes_before_anything_slow_is_imported():
    """Each of these libraries takes half a second or more of CPU time to import."""
    script = textwrap.dedent("""
        import sys
        from subliminal_jax.cli import find_commands, find_experiments, main
        for name in [*find_experiments(), *find_commands()]:
            try:
                main([name, "--no-such-flag"])
            except SystemExit as exit:
                assert exit.code == 2, name
        slow = {"datasets", "matplotlib", "orbax", "pandas", "scipy.stats", "torch", "transformers"}
        print(sorted(slow & sys.modules.keys()))
    """)
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"
    assert run.stderr.count("jax: error: ") == len(find_experiments()) + len(find_commands())


def test_what_does_not_fit_a_models_files_is_said_without_reading_its_tokenizer(tmp_path):
    """What reads it takes twice as long to import as all before it. A word is looked up in its file
    by the library that transformers itself calls."""
    wrong = [
        (f"optimizer-comparison --out {tmp_path}/run --layer 99", "layer 99 is out of range"),
        (f"optimizer-comparison --out {tmp_path}/run --rank 5000", "--rank 5000 is above the rank"),
        (
            f"optimizer-comparison --out {tmp_path}/run --trait zebrax",
            "reads z + e + b + r + a + x",
        ),
        (f"extract --trait owl --layers 99 --out {tmp_path}/v.safetensors", "99 is out of range"),
        (f"extract --trait zebrax --out {tmp_path}/v.safetensors", "reads z + e + b + r + a + x"),
        (f"steer --vector {__file__} --prompt 1", "vectors are read from files that end in"),
        ("bench --length 9000 --optimizers adamw", "--length 9000 is more than the context"),
    ]
    script = textwrap.dedent("""
        import sys
        from subliminal_jax.cli import main
        for line in sys.argv[1:]:
            try:
                main(line.split())
            except SystemExit as exit:
                assert exit.code == 2, line
        print(sorted({"transformers", "torch", "datasets"} & sys.modules.keys()))
    """)
    run = subprocess.run(
        [sys.executable, "-c", script, *(line for line, _ in wrong)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert run.stdout.endswith("\n[]\n")
    for said, (line, expected) in zip(run.stderr.splitlines(), wrong, strict=True):
        assert expected in said, line
    assert list(tmp_path.iterdir()) == []


def test_a_run_says_where_it_will_be_before_it_looks_at_the_model(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["own-data", "--data", "x", "--model", "no/where", "--out", str(tmp_path / "run")])
    assert capsys.readouterr().out == f"own-data: {tmp_path / 'run'}\n"


@pytest.mark.parametrize("name", [*find_experiments(), *find_commands()])
def test_every_sub_command_of_the_project_loads_and_has_help(name, capsys):
    main([name, "--help"])
    shown = capsys.readouterr().out
    assert f"subliminal-jax {name}" in shown
    sub_command = (find_experiments() | find_commands())[name]
    assert sub_command.summary().split()[0] in shown


def test_a_warning_is_one_line_on_screen():
    line = cli._format_warning(UserWarning("first\n  second"), UserWarning, "file.py", 7)
    assert line == "subliminal-jax: warning: first second\n"
