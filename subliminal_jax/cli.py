"""The command `subliminal-jax <sub-command> [flags]`: the experiments, and tools beside them.

An experiment is a folder of `experiments/` whose `experiment.py` defines `EXPERIMENT`; a tool is a
module of `subliminal_jax/commands/` that defines `Config` and `main(config)`. `main` may
have the parameters `experiments` (the table of experiments) and `command` (the command line). A
tool may define `check(config)`, which is called before anything slow is imported, and
`RESUMES = False`, where a command that is given again starts anew. Only the chosen module is
imported.
"""

import ast
import contextlib
import dataclasses
import difflib
import importlib
import inspect
import io
import os
import select
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
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
from subliminal_jax.flags import parse_flags

if TYPE_CHECKING:
    from subliminal_jax.runs.experiment import Experiment, Experiments

PROGRAM = "subliminal-jax"


@dataclasses.dataclass(frozen=True)
class SubCommand:
    """A sub-command: its name, its file and its module."""

    name: str
    file: Path
    module: str

    def summary(self) -> str:
        """The first line of its docstring, read without importing it."""
        try:
            docstring = ast.get_docstring(ast.parse(self.file.read_text(encoding="utf-8")))
        except SyntaxError:
            return "(does not parse)"
        return docstring.splitlines()[0] if docstring else ""

    def load(self) -> ModuleType:
        return importlib.import_module(self.module)


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exits with 2 on bad input, with 130 when interrupted and with 143 when terminated, after one
    line on stderr; a second signal ends it at once. Where the reader of its output has gone
    (`| head`), it ends with 141 and says nothing.

    Args:
      arguments: what follows the program's name; default `sys.argv[1:]`.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _open_standard_files()
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
            _leave_threads(status)
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
    if isinstance(error, BrokenPipeError) and _drop_unread_output():
        return 128 + signal.SIGPIPE
    if isinstance(error, InputError):
        message = str(error)
    elif isinstance(error, OSError) and error.errno is not None:
        what = error.filename if error.filename is not None else "standard output"
        message = f"{what}: {error.strerror}"
        _drop_unread_output()
    elif isinstance(error, MemoryError):
        message = "out of memory: give it less at once, or more memory"
    else:
        return None
    _say(f"{PROGRAM}: error: {' '.join(message.split())}")
    return 2


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # the terminal may have gone
        print(line, file=sys.stderr, flush=True)


def _open_standard_files() -> None:
    """Make standard output and error usable where they are closed, and for every character."""
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        try:
            os.fstat(number)
        except OSError:  # else the next file that is opened would get what is printed
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_unread_output() -> bool:
    """Drop what goes to a pipe or terminal that nobody reads any more; returns whether one does."""
    dropped = False
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            if _is_unread(stream.fileno()):
                dropped = True
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
            stream.flush()
    return dropped


def _is_unread(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _leave_threads(status: int) -> None:
    """End at once where threads are left that Python would wait for: requests to a judge, say."""
    others = (t for t in threading.enumerate() if t is not threading.main_thread())
    if any(not thread.daemon for thread in others):
        _drop_unread_output()
        os._exit(status)


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
        table = {key: partial(load_experiment, value) for key, value in experiments.items()}
        command = shlex.join([PROGRAM, *arguments])
        context: dict[str, Experiments | str] = {"experiments": table, "command": command}
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
    experiment = load_experiment(sub_command)
    config = parse_config(experiment, flags, sub_command.load().__doc__ or "")
    from subliminal_jax.runs.experiment import run_experiment

    with _prepare_process(config):
        run_experiment(experiment, config, command)


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


def _run_command(
    sub_command: SubCommand, context: "Mapping[str, Experiments | str]", flags: list[str]
) -> None:
    """Run a tool, giving its `main` those values of `context` that it has parameters for."""
    module = sub_command.load()
    config = parse_flags(
        module.Config,
        flags,
        prog=f"{PROGRAM} {sub_command.name}",
        description=module.__doc__,
    )
    check_effects(config, defaults(type(config)), as_flag)
    if hasattr(module, "check"):
        module.check(config)
    with _prepare_process(config):
        wanted = context.keys() & inspect.signature(module.main).parameters.keys()
        module.main(config, **{name: context[name] for name in wanted})


@contextlib.contextmanager
def _prepare_process(config: Any):
    """Enable the compilation cache and the mesh; of several processes only the first prints."""
    from subliminal_jax.compilation import enable_compilation_cache
    from subliminal_jax.processes import is_first
    from subliminal_jax.runs.checks import check_settings
    from subliminal_jax.runs.settings import RunSettings

    enable_compilation_cache()
    if isinstance(config, RunSettings):
        check_settings(config)
        config.use_devices()  # before the run's folder is opened: one of the processes writes it
    with contextlib.ExitStack() as stack:
        if not is_first():
            silent = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(silent))
        yield


def parse_config(experiment: "Experiment", flags: Sequence[str], description: str = "") -> Any:
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
