"""Every stored run again: what the claims and findings rest on.

    make evidence                       # needs SUBLIMINAL_JAX_RUNS, a folder outside the checkout
    make evidence EVIDENCE="--minutes 40 --names optimizer-transmission-chat"
    make evidence EVIDENCE="--names steering-reliability-smollm2"   # a real model: only by name

Runs one after the other, each in a process and a folder of its own. A finished one leaves its
summary in `experiments/<name>/results/`, to be committed at once, and is not run again. After
`--minutes` the run of the moment is asked to end, and the exit status is 75; the same command goes
on where it was. Five to eight hours on 2 CPU cores in all.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from subliminal_jax.bounds import Positive, check_fields
from subliminal_jax.errors import InputError
from subliminal_jax.interrupts import Interrupted, handle_signals
from subliminal_jax.runs.summaries import read_summary, summarise, write_summary

CHECKOUT = Path(__file__).parents[2]
UNFINISHED = 75  # the exit status of a stage that leaves runs to do (EX_TEMPFAIL)
PATIENCE = 300.0  # seconds in which a run that is asked to end must do so


@dataclass(frozen=True)
class Run:
    """One run: its name, which is that of its folder and of its summary, and its flags."""

    name: str
    experiment: str
    flags: str = ""
    needs_data: bool = False  # SUBLIMINAL_JAX_DATA
    by_name: bool = False  # left out unless it is named: hours, mostly on a real model

    def write_command(self, root: Path) -> list[str]:
        """The command line."""
        return [
            "subliminal-jax",
            self.experiment,
            *self.flags.split(),
            "--out",
            str(root / self.name),
        ]

    @property
    def folder(self) -> Path:
        """Where its summary is kept."""
        return CHECKOUT / "experiments" / self.experiment.replace("-", "_") / "results"


def _on_both(experiment: str, flags: str = "", part: str = "") -> Iterator[Run]:
    """The experiment on both shipped models."""
    for model, suffix in (("shipped", ""), ("shipped-small", "-small")):
        yield Run(f"{experiment}{part}{suffix}", experiment, f"{flags} --model {model}".strip())


TRAITS = "--traits cat dog tiger eagle fox bear whale dolphin"
RUNS = (
    *_on_both("optimizer-transmission"),
    *_on_both("optimizer-transmission", "--preset chat", "-chat"),
    *_on_both("optimizer-mechanics"),
    *_on_both("trait-transmission"),
    *_on_both("teacher-vector"),
    *_on_both("student-vector"),
    *_on_both("objective"),
    *_on_both("paraphrase-transmission"),
    Run("paraphrase-transmission-optimizers", "paraphrase-transmission", "--preset toy-optimizers"),
    *_on_both("distil-vectors"),
    *_on_both("gradient-alignment", TRAITS),
    *_on_both("scaling"),
    *_on_both("blocking"),
    Run("cross-model", "cross-model"),
    Run("log-linearity", "log-linearity"),
    *_on_both("logit-linear-selection"),
    Run(
        "logit-linear-selection-crossed",
        "logit-linear-selection",
        "--model shipped --student shipped-small",
    ),
    Run(
        "logit-linear-selection-optimizers",
        "logit-linear-selection",
        "--preset toy-optimizers --model shipped-small",
    ),
    Run(
        "logit-linear-selection-real",
        "logit-linear-selection",
        "--preset real-pairs --model models/tinystories-656k",
        needs_data=True,
    ),
    Run(
        "steering-reliability",
        "steering-reliability",
        "--model models/tinystories-656k",
        needs_data=True,
    ),
    *_on_both("steering-bridge"),
    *_on_both("mixing-ratio"),
    *_on_both("coverage"),
    *_on_both("divergence-tokens"),
    *_on_both("divergence-tokens", "--preset chat", "-chat"),
    Run("optimizer-atlas", "optimizer-atlas"),
    Run("optimizer-atlas-small", "optimizer-atlas", "--preset small"),
    Run("optimizer-atlas-penalty", "optimizer-atlas", "--preset penalty"),
    Run("optimizer-atlas-factorial", "optimizer-atlas", "--preset factorial"),
    Run("divergence-tokens-unanimous", "divergence-tokens", "--preset unanimous"),
    Run("audit-benchmark", "audit-benchmark", needs_data=True),
    Run("forecast-benchmark", "forecast-benchmark"),
    Run("auxiliary-logits", "auxiliary-logits", needs_data=True),
    *_on_both("optimizer-transmission", "--preset last-block", "-last-block"),
    *(
        Run(name, experiment, flags, needs_data=True, by_name=True)
        for name, experiment, flags in (
            ("steering-reliability-smollm2", "steering-reliability", "--preset real"),
            ("teacher-choice-smollm2", "teacher-choice", "--preset real"),
            ("teacher-choice-gemma", "teacher-choice", "--preset real-gemma"),
            ("optimizer-comparison-smollm2", "optimizer-comparison", "--preset real"),
            ("optimizer-transmission-smollm2", "optimizer-transmission", "--preset real"),
            ("logit-linear-selection-smollm2", "logit-linear-selection", "--preset real"),
            (
                "logit-linear-selection-smollm2-languages",
                "logit-linear-selection",
                "--preset real-languages",
            ),
            (
                "logit-linear-selection-gemma",
                "logit-linear-selection",
                "--preset real --student gemma-3-270m",
            ),
            ("paraphrase-transmission-smollm2", "paraphrase-transmission", "--preset real"),
            ("audit-benchmark-smollm2", "audit-benchmark", "--preset real"),
            ("audit-benchmark-full", "audit-benchmark", "--preset full"),  # hours, all methods
        )
    ),
)


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      names: runs; if none, all but those on real models.
      minutes: after which the stage ends.
      show: list the runs and what is done, and run nothing.
    """

    names: tuple[str, ...] = ()
    minutes: Positive = 40.0
    show: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


def main(config: Config) -> int:
    """Run what is not finished until the time is up.

    Returns 1 where a run failed, else `UNFINISHED` where some are left to do, else 0.

    Raises InputError without SUBLIMINAL_JAX_RUNS, for a folder in the checkout, and for a name that
    no run has.
    """
    root, runs = find_root(), choose_runs(config.names)
    end = time.monotonic() + 60 * config.minutes
    failed, left = [], []
    for i, run in enumerate(runs):
        if is_stored(run, root):
            print(f"{run.name}: done")
            continue
        if config.show:
            print(f"{run.name}: to do: {' '.join(run.write_command(root))}")
            continue
        if run.needs_data and not os.environ.get("SUBLIMINAL_JAX_DATA"):
            print(f"{run.name}: left out, it needs SUBLIMINAL_JAX_DATA")
            left.append(run.name)
            continue
        print(f"{run.name}: {' '.join(run.write_command(root))}", flush=True)
        status = execute(run.write_command(root), end - time.monotonic())
        if status is None:
            left += [other.name for other in runs[i:] if not is_stored(other, root)]
            break
        if status != 0:
            failed.append(run.name)
            print(
                f"{run.name}: failed with status {status}{advise(status, root / run.name)}",
                file=sys.stderr,
            )
            continue
        print(f"{run.name}: commit {store(run, root)}")
    if left:
        print(f"left to do: {', '.join(left)}; the same command goes on with them", file=sys.stderr)
    if failed:
        return 1
    return UNFINISHED if left else 0


def advise(status: int, folder: Path) -> str:
    """What to do about a run that was refused, where its folder holds one."""
    if status != 2 or not (folder / "config.json").exists():
        return ""
    return (
        f"; {folder} is kept: if it holds a run of other settings, from before they changed, "
        "remove it and give the same command again"
    )


def find_root() -> Path:
    """The folder of the runs."""
    named = os.environ.get("SUBLIMINAL_JAX_RUNS")
    if not named:
        raise InputError("SUBLIMINAL_JAX_RUNS is not set: name a folder outside the checkout")
    root = Path(named).resolve()
    if root.is_relative_to(CHECKOUT):
        raise InputError(f"SUBLIMINAL_JAX_RUNS={named} is in the checkout: name one outside of it")
    root.mkdir(parents=True, exist_ok=True)
    return root


def choose_runs(names: Sequence[str]) -> list[Run]:
    """The runs of these names, in the order of `RUNS`; if none is named, all that are not run by
    name alone."""
    known = {run.name: run for run in RUNS}
    for name in names:
        if name not in known:
            raise InputError(f"--names {name} is no run; there are {', '.join(known)}")
    return [run for run in RUNS if (run.name in names if names else not run.by_name)]


def is_stored(run: Run, root: Path) -> bool:
    """Whether the run is finished and its summary is the one that is stored."""
    try:
        return summarise(root / run.name) == read_summary(run.folder / f"{run.name}.json")
    except InputError:
        return False


def store(run: Run, root: Path) -> Path:
    """Write the summary of a finished run; returns its path in the checkout."""
    run.folder.mkdir(parents=True, exist_ok=True)
    return write_summary(summarise(root / run.name), run.folder).relative_to(CHECKOUT)


def execute(
    command: Sequence[str],
    seconds: float,
    start: Callable[[Sequence[str]], subprocess.Popen] | None = None,
) -> int | None:
    """Run `subliminal-jax ...` for at most `seconds`; returns its status, None where the time was
    up and it was asked to end."""
    process = (start or _start)(command)
    try:
        return process.wait(max(seconds, 0.0))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return None
    except BaseException:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise


def _start(command: Sequence[str]) -> subprocess.Popen:
    script = "import sys; from subliminal_jax.cli import main; main(sys.argv[1:])"
    return subprocess.Popen([sys.executable, "-c", script, *command[1:]])


if __name__ == "__main__":
    try:
        with handle_signals():  # a run goes on alone where its parent dies at once
            sys.exit(main(tyro.cli(Config, description=(__doc__ or "").split("\n\n")[0])))
    except InputError as error:
        sys.exit(str(error))
    except Interrupted as interrupted:
        print("the same command goes on where it was", file=sys.stderr)
        sys.exit(128 + interrupted.number)
