"""The command `subliminal-jax <sub-command> [flags]`: the experiments, and tools beside them.

An experiment is a folder of `experiments/` whose `config.py` defines `Config` and `PRESETS`, and
whose `experiment.py` defines `EXPERIMENT`; a tool is a module of `subliminal_jax/commands/` that
defines `Config` and `main(config)`, or a folder there with a `config.py` and a `command.py`. `main`
may have the parameters `experiments` and `settings` (the tables of experiments, and of what may be
asked of them) and `command` (the command line). A tool may define `check(config)`, which is called
before anything slow is imported, and `RESUMES = False`, where a command that is given again starts
anew. Only the chosen modules are imported, and `config.py` first: flags are checked, and a line
says where the run will be, before what takes seconds to import.
"""

import ast
import contextlib
import dataclasses
import difflib
import importlib
import inspect
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import subliminal_jax
import subliminal_jax.commands
import subliminal_jax.experiments
from subliminal_jax import interrupts
from subliminal_jax.bounds import as_flag
from subliminal_jax.effects import check_effects, defaults
from subliminal_jax.errors import InputError
from subliminal_jax.escaping import print_line
from subliminal_jax.flags import parse_flags
from subliminal_jax.standard_files import drop_unread_output, leave_threads, open_standard_files

if TYPE_CHECKING:
    from subliminal_jax.runs.experiment import Experiment
    from subliminal_jax.runs.presets import ExperimentSettings

PROGRAM = "subliminal-jax"


@dataclasses.dataclass(frozen=True)
class SubCommand:
    """A sub-command: its name, its file and its module."""

    name: str
    file: Path
    module: str

    def docstring(self) -> str:
        """Its docstring, read without importing it."""
        try:
            return ast.get_docstring(ast.parse(self.file.read_text(encoding="utf-8"))) or ""
        except SyntaxError:
            return "(does not parse)"

    def summary(self) -> str:
        """The first line of its docstring."""
        return self.docstring().partition("\n")[0]

    def load(self) -> ModuleType:
        return importlib.import_module(self.module)

    def load_config(self) -> ModuleType:
        """The module of its `Config`: the `config.py` of its folder, or where it has none, all."""
        package, _, stem = self.module.rpartition(".")
        if stem not in _STEMS or not self.file.with_name("config.py").exists():
            return self.load()
        return importlib.import_module(f"{package}.config")


_STEMS = ("experiment", "command")  # the files of those that have a folder


def find_experiments() -> dict[str, SubCommand]:
    """The folders with an `experiment.py`, by sub-command, sorted."""
    return _find(subliminal_jax.experiments, "experiment")


def find_commands() -> dict[str, SubCommand]:
    """The tools, by sub-command, sorted: modules, or folders with a `command.py`."""
    commands = _find(subliminal_jax.commands, "command")
    for folder in map(Path, subliminal_jax.commands.__path__):
        for file in folder.glob("[!_]*.py"):
            name = file.stem.replace("_", "-")
            module = f"{subliminal_jax.commands.__name__}.{file.stem}"
            commands[name] = SubCommand(name, file, module)
    return dict(sorted(commands.items()))


def _find(package: ModuleType, stem: str) -> dict[str, SubCommand]:
    sub_commands = {}
    for file in (f for path in package.__path__ for f in Path(path).glob(f"[!_]*/{stem}.py")):
        name = file.parent.name.replace("_", "-")
        module = f"{package.__name__}.{file.parent.name}.{stem}"
        sub_commands[name] = SubCommand(name, file, module)
    return dict(sorted(sub_commands.items()))


def load_experiment(sub_command: SubCommand) -> "Experiment":
    """Import an experiment.

    Raises InputError where its module defines no `EXPERIMENT`.
    """
    module = sub_command.load()
    if not hasattr(module, "EXPERIMENT"):
        raise InputError(f"{sub_command.file} is no experiment: it defines no EXPERIMENT")
    return module.EXPERIMENT


def load_settings(sub_command: SubCommand) -> "ExperimentSettings":
    """Import what may be asked of an experiment.

    Raises InputError where its folder has no `config.py` with `Config` and `PRESETS`.
    """
    from subliminal_jax.runs.presets import ExperimentSettings

    config = sub_command.load_config()
    if not (hasattr(config, "Config") and hasattr(config, "PRESETS")):
        raise InputError(f"{sub_command.file.with_name('config.py')} defines no Config and PRESETS")
    return ExperimentSettings(
        sub_command.name, sub_command.summary(), config.Config, config.PRESETS
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exits with 2 on bad input, with 130 when interrupted and with 143 when terminated, after one
    line on stderr; a second signal ends it at once. Where the reader of its output has gone
    (`| head`), it ends with 141 and says nothing.

    Args:
      arguments: what follows the program's name; default `sys.argv[1:]`.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    open_standard_files()
    status: int | str | None = 0
    with interrupts.handle_signals():
        try:
            try:
                _run(arguments)
            except SystemExit as error:  # of tyro: --help, and flags that it refuses
                status = error.code
            sys.stdout.flush()
        except BaseException as error:
            status = _report_failure(error, _resumes(arguments))
            if status is None:
                raise
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        if interrupts.received() is not None and isinstance(status, int):
            leave_threads(status)
    if status:
        sys.exit(status)


def _resumes(arguments: Sequence[str]) -> bool:
    """Whether the command, given again, goes on where it was interrupted."""
    name = arguments[0].replace("-", "_") if arguments else ""
    module = sys.modules.get(f"{subliminal_jax.commands.__name__}.{name}")
    return bool(getattr(module, "RESUMES", True))


def _report_failure(error: BaseException, resumes: bool) -> int | None:
    """Say in one line what ended the program; returns its exit status, None for a fault of ours."""
    number = interrupts.received()
    if number is not None or isinstance(error, KeyboardInterrupt):
        number = signal.Signals(number or signal.SIGINT)
        ended = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}.get(number, "hung up")
        start = "\n" if number == signal.SIGINT and sys.stderr.isatty() else ""  # after the ^C
        again = "; the same command again resumes from the last checkpoint" if resumes else ""
        _say(f"{start}{PROGRAM}: {ended}{again}")
        return 128 + number
    if isinstance(error, BrokenPipeError) and drop_unread_output():
        return 128 + signal.SIGPIPE
    if isinstance(error, InputError):
        message = str(error)
    elif isinstance(error, OSError) and error.errno is not None:
        what = error.filename if error.filename is not None else "standard output"
        message = f"{what}: {error.strerror}"
        drop_unread_output()
    elif isinstance(error, MemoryError):
        message = "out of memory: give it less at once, or more memory"
    elif type(error).__name__ == "JaxRuntimeError" and "RESOURCE_EXHAUSTED" in str(error):
        said = str(error).partition("RESOURCE_EXHAUSTED:")[2].splitlines()[0].strip(" .")
        message = f"the device's memory is full ({said}): give it fewer rows or students at once"
    else:
        return None
    _say(f"{PROGRAM}: error: {' '.join(message.split())}")
    return 2


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # the terminal may have gone
        print(line, file=sys.stderr, flush=True)


def _run(arguments: list[str]) -> None:
    _refuse_key(arguments)
    experiments, commands = find_experiments(), find_commands()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help(experiments, commands))
        return
    if arguments[0] == "--version":
        print(f"{PROGRAM} {subliminal_jax.__version__}")
        return
    name, flags = arguments[0].replace("_", "-"), arguments[1:]
    if name not in experiments.keys() | commands.keys():
        raise InputError(_unknown_message(arguments[0], [*experiments, *commands]))

    warnings.formatwarning = _format_warning
    # transformers warns at import where torch is missing, which is not needed here.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if name in experiments:
        run = partial(_run_experiment, experiments[name], shlex.join([PROGRAM, *arguments]))
    else:
        context = {
            "experiments": {k: partial(load_experiment, v) for k, v in experiments.items()},
            "settings": {k: partial(load_settings, v) for k, v in experiments.items()},
            "command": shlex.join([PROGRAM, *arguments]),
        }
        run = partial(_run_command, commands[name], context)
    run(flags)


def _format_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """One line on screen, without the source line that gave the warning."""
    return f"{PROGRAM}: warning: {' '.join(str(message).split())}\n"


def _run_experiment(sub_command: SubCommand, command: str, flags: list[str]) -> None:
    settings = load_settings(sub_command)
    config = parse_config(settings, flags, sub_command.docstring())
    with _prepare_process(settings.name, config, settings.presets, command):
        experiment = load_experiment(sub_command)
        from subliminal_jax.runs.experiment import run_checked

        run_checked(experiment, config, command)


def _refuse_key(arguments: Sequence[str]) -> None:
    """Raises InputError for arguments that hold a judge's key, before a message on one of them
    repeats it: the value of the default variable, or of one that a flag of the judge names."""
    from subliminal_jax.evaluation.endpoint import DEFAULT_KEY_VARIABLE, holds_key

    names = {DEFAULT_KEY_VARIABLE}
    for word, following in zip(arguments, [*arguments[1:], ""], strict=False):
        flag, _, value = word.partition("=")
        if flag.startswith("--judge"):
            names |= {value, following}
    for name in sorted(names & os.environ.keys()):
        if any(holds_key(text, os.environ[name].strip()) for text in arguments):
            raise InputError(
                f"a flag holds the key in ${name}, and a run records its command: leave it out"
            )


def _run_command(sub_command: SubCommand, context: Mapping[str, Any], flags: list[str]) -> None:
    """Run a tool, giving its `main` those values of `context` that it has parameters for."""
    module = sub_command.load_config()
    config = parse_flags(
        module.Config,
        flags,
        prog=f"{PROGRAM} {sub_command.name}",
        description=sub_command.docstring(),
    )
    check_effects(config, defaults(type(config)), as_flag)
    if hasattr(module, "check"):
        module.check(config)
    presets = getattr(module, "PRESETS", {})
    with _prepare_process(sub_command.name, config, presets, context["command"]):
        main = sub_command.load().main
        wanted = context.keys() & inspect.signature(main).parameters.keys()
        main(config, **{name: context[name] for name in wanted})


@contextlib.contextmanager
def _prepare_process(
    name: str, config: Any, presets: Mapping[str, Mapping[str, Any]], command: str
) -> Iterator[None]:
    """Check the settings, enable the compilation cache and the mesh, and say where a run will be;
    of several processes only the first prints."""
    from subliminal_jax.compilation import enable_compilation_cache
    from subliminal_jax.processes import is_first
    from subliminal_jax.runs.check_run import check_given, check_models
    from subliminal_jax.runs.settings import RunSettings

    enable_compilation_cache()
    if isinstance(config, RunSettings):
        check_given(config, presets, command)
        config.use_devices()  # before the run's folder is opened: one of the processes writes it
    with contextlib.ExitStack() as stack:
        if not is_first():
            silent = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(silent))
        if isinstance(config, RunSettings):
            print_line(f"{name}: {config.out}")
            check_models(config)
        yield


def parse_config(
    experiment: "Experiment | ExperimentSettings", flags: Sequence[str], description: str = ""
) -> Any:
    """The experiment's `Config` that the flags ask for, starting from the preset they name.

    Raises InputError for a preset that the experiment does not have, and as `parse_flags` does.
    """
    preset, rest = _split_preset(experiment.presets, list(flags))
    names = ", ".join(experiment.presets)
    return parse_flags(
        experiment.Config,
        rest,
        prog=f"{PROGRAM} {experiment.name}",
        description=f"{description}\n\nPresets (--preset NAME, further flags change it): {names}",
        default=_from_preset(experiment.Config, experiment.presets, preset),
    )


def _split_preset(
    presets: Mapping[str, Mapping[str, Any]], flags: list[str]
) -> tuple[str, list[str]]:
    """The preset that `flags` name (else the first one), and the other flags."""
    first = next(iter(presets))
    kind = dataclasses.make_dataclass("Preset", [("preset", str, first)], frozen=True)
    if any(flag in ("-h", "--help") for flag in flags):
        chosen, rest = first, flags
    else:
        parsed: Any
        parsed, rest = parse_flags(kind, flags, return_unknown_args=True, add_help=False)
        chosen = parsed.preset
    if chosen not in presets:
        raise InputError(f"unknown preset {chosen!r}; there are: {', '.join(presets)}")
    return chosen, rest


def _from_preset(config: type, presets: Mapping[str, Mapping[str, Any]], name: str) -> Any:
    """A `Config` with the preset's values; required fields stay required."""
    import tyro

    needed = {
        field.name: tyro.MISSING
        for field in dataclasses.fields(config)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    return config(**{**needed, **presets[name], "preset": name})


def _help(experiments: Mapping[str, SubCommand], commands: Mapping[str, SubCommand]) -> str:
    width = max(map(len, [*experiments, *commands]), default=0)
    lines = [f"usage: {PROGRAM} <sub-command> [flags]", ""]
    lines += (subliminal_jax.__doc__ or "").splitlines()
    for title, table in (("studies", experiments), ("tools", commands)):
        lines += ["", f"{title}:"]
        lines += [f"  {name:<{width}}  {entry.summary()}" for name, entry in table.items()]
    lines += [
        "",
        f"{PROGRAM} <sub-command> --help lists its flags; {PROGRAM} --version says the version.",
    ]
    return "\n".join(lines)


def _unknown_message(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"unknown sub-command {name!r}; did you mean {close[0]!r}?"
    return f"unknown sub-command {name!r}; there are: {', '.join(names) or 'none'}"


if __name__ == "__main__":
    main()
