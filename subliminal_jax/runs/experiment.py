"""What an experiment is, and how one is run."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from subliminal_jax.errors import InputError
from subliminal_jax.escaping import print_line
from subliminal_jax.evaluation.claims import Claim
from subliminal_jax.reporting.measures import measures_table, summarise_measures
from subliminal_jax.reporting.page import Page, publish
from subliminal_jax.runs.check_run import check_given, check_models
from subliminal_jax.runs.plan_settings import KeepSettings
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.samples import read_samples
from subliminal_jax.runs.sessions import describe_run, read_sessions, record_session
from subliminal_jax.runs.settings import FILTER_SETTINGS, DataSettings, RunSettings
from subliminal_jax.runs.student_files import describe_students
from subliminal_jax.runs.student_texts import read_student_texts
from subliminal_jax.serialization import from_json, to_json

_COMPUTE_AGAIN = "remove it and repeat the run's command, which computes it again"
# What drawing a page raises on values that it does not expect.
_MISFITS = (LookupError, TypeError, ArithmeticError, AttributeError, ValueError, AssertionError)

C = TypeVar("C", bound=RunSettings)
M = TypeVar("M")
R = TypeVar("R")


def no_claims(results: Any) -> Sequence[Claim]:
    """No claims: for an experiment that tests no statement of a paper."""
    return ()


@dataclass(frozen=True)
class Experiment(Generic[C, M, R]):
    """A question, as one sub-command of `subliminal-jax`.

    Attributes:
      name: the sub-command.
      Config: its settings, a frozen dataclass whose fields are the flags.
      Results: its numbers, a frozen dataclass; results.json holds them (`serialization.to_json`).
      run: computes the measurements from settings and an open run folder. Called again on the
        folder of an interrupted run, it continues.
      analyse: from measurements to results, without a model.
      page: from the results to the page.
      claims: from the results to verdicts on what papers state.
      presets: named settings, each with the fields that differ from the defaults of `Config`; the
        first is the default.
    """

    name: str
    Config: type[C]
    Results: type[R]
    run: Callable[[C, RunFolder], M]
    analyse: Callable[[M], R]
    page: Callable[[R], Page]
    claims: Callable[[R], Sequence[Claim]] = no_claims
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"default": {}})

    @property
    def question(self) -> str:
        """The first line of its module's docstring."""
        return (sys.modules[self.run.__module__].__doc__ or "").strip().partition("\n")[0]


Experiments = Mapping[str, Callable[[], Experiment]]  # by name; the call imports the experiment


def run_experiment(experiment: Experiment[C, M, R], config: C, command: str = "") -> R:
    """Run an experiment in the folder `config.out`, unless it is finished, and write its page.

    The page is written each time, from results.json alone.

    Args:
      command: the command line of the run, stored in config.json and shown on the page.

    Raises:
      InputError: invalid settings (`check_given`, `check_models`), a folder that cannot be used
        (`RunFolder.open`), or bad input found by `experiment.run`.
    """
    check_given(config, experiment.presets, command)
    check_models(config)
    return run_checked(experiment, config, command)


def run_checked(experiment: Experiment[C, M, R], config: C, command: str = "") -> R:
    """`run_experiment` of settings that were checked."""
    settings = {"experiment": experiment.name, **config.recorded()}
    with RunFolder.open(
        config.out,
        settings,
        overwrite=config.overwrite,
        command=command,
        keep_students=config.save_students if isinstance(config, KeepSettings) else "none",
        report_to=config.report_to if isinstance(config, KeepSettings) else (),
        free=FILTER_SETTINGS if isinstance(config, DataSettings) else (),
        defaults={f.name: f.default for f in fields(config) if f.default is not MISSING},
    ) as folder:
        if folder.spared:
            spared = ", ".join(folder.spared)
            print_line(f"kept in {folder.path}, as no run wrote it: {spared}", sys.stderr)
        if not folder.finished:
            with record_session(folder):
                results = experiment.analyse(experiment.run(config, folder))
            claims = experiment.claims(results)
            further: dict[str, Any] = {"claims": to_json(list(claims))}
            if names := settings.get("measures"):
                further["measures"] = summarise_measures(folder.read_metrics(), names)
            folder.write_results({**to_json(results), **further})
            page = write_report(experiment, folder)
        else:
            print_line("this run is finished: only its page is drawn again")
            page = draw_again(experiment, folder)
        results = read_results(experiment, folder.path)
    print_line(f"report: {page}")
    if students := describe_students(config.out):
        print_line(students)
    return results


def read_results(experiment: Experiment[Any, Any, R], folder: Path) -> R:
    """The results of a finished run.

    Raises InputError for results of another experiment or of an incompatible version.
    """
    stored = RunFolder(folder, None).read_results()
    try:
        return from_json(experiment.Results, stored, str(folder / "results.json"))
    except InputError as error:
        raise InputError(f"{error}; {_COMPUTE_AGAIN}") from None


def draw_again(
    experiment: Experiment[Any, Any, Any], folder: RunFolder, out: Path | None = None
) -> Path:
    """`write_report` of stored results, which another version of the experiment may have made, or
    somebody may have changed.

    Raises InputError for results that the page cannot be drawn from.
    """
    try:
        return write_report(experiment, folder, out)
    except InputError:
        raise
    except _MISFITS as error:
        raise InputError(
            f"{folder.path}/results.json does not hold what the page of {experiment.name} needs "
            f"({type(error).__name__}: {error}); {_COMPUTE_AGAIN}"
        ) from error


def write_report(
    experiment: Experiment[Any, Any, Any], folder: RunFolder, out: Path | None = None
) -> Path:
    """Print the tables of a finished run and write its page, to the folder `out` if that is given;
    returns the page's path."""
    results = read_results(experiment, folder.path)
    settings, command = folder.read_config()
    page = experiment.page(results)
    if rows := folder.read_results().get("measures"):
        table = measures_table(rows, settings["measures"])
        page = replace(page, blocks=[*page.blocks, table])
    for texts in (read_student_texts(folder.path), read_samples(folder.path)):
        if texts:
            page = replace(page, blocks=[*page.blocks, texts])
    facts = describe_run(settings, read_sessions(folder.path))
    return publish(
        page,
        out or folder.path,
        command=command,
        config=settings,
        claims=experiment.claims(results),
        facts=facts,
    )
