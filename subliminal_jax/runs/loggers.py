"""What a run logs, handed on to TensorBoard or Weights & Biases (extras of these names).

Every column of a student's log is a series, STAGE/DATA/OPTIMIZER/RATE/SEED/COLUMN, over its steps.
Both write into the run's folder; with `WANDB_MODE=offline` nothing is sent. A run that resumes
repeats the steps since its checkpoint, with the same values.
"""

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from subliminal_jax.errors import InputError
from subliminal_jax.ledger import note_written

LoggerName = Literal["tensorboard", "wandb"]
# What tells one student's records from another's, in the order of a series' name.
_IDENTITY = ("stage", "data", "optimizer", "learning_rate", "seed", "rank", "rows")


class Logger(Protocol):
    """Where numbers of a step go."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class Loggers:
    """The loggers of a run; they open when the first record comes."""

    def __init__(
        self,
        names: Sequence[LoggerName] = (),
        folder: Path = Path(),
        config: dict[str, Any] | None = None,
    ):
        self.names, self.folder, self.config = tuple(names), folder, config
        self._open: list[Logger] | None = None

    def log(self, record: Mapping[str, Any]) -> None:
        """Hand on the numbers of a record, as `RunFolder.log` gets it."""
        if not self.names:
            return
        if self._open is None:
            self._open = [_OPEN[name](self.folder, self.config) for name in self.names]
        values = split_record(record)
        for logger in self._open:
            logger.log(int(record.get("step", 0)), values)

    def close(self) -> None:
        for logger in self._open or ():
            logger.close()
        self._open = None


def check_loggers(names: Sequence[str]) -> None:
    """Raises InputError for a logger whose package is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"--report-to {name} needs the package {name}, which is not installed: install "
                f"the extra `{name}` (pip install 'subliminal-jax[{name}]')"
            )


def split_record(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record by the names of their series; texts, lists and None are left out."""
    series = "/".join(f"{record[key]}" for key in _IDENTITY if key in record)
    return {
        f"{series}/{key}" if series else key: float(value)
        for key, value in record.items()
        if key not in (*_IDENTITY, "step") and isinstance(value, int | float)
    }


class _TensorBoard:
    def __init__(self, folder: Path, config: dict[str, Any] | None):
        from tensorboard.summary import Writer

        note_written(folder / "tensorboard", tree=True)
        self._writer = Writer(str(folder / "tensorboard"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, folder: Path, config: dict[str, Any] | None):
        import wandb

        note_written(folder / "wandb", tree=True)
        # The same folder is the same run, also when it resumes.
        name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        self._run = wandb.init(
            dir=str(folder),
            project="subliminal-jax",
            name=folder.name,
            id=name,
            resume="allow",
            config=config,
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.define_metric("*", step_metric="step")  # each stage counts its own

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, "step": step})

    def close(self) -> None:
        self._run.finish()


_OPEN = dict(zip(get_args(LoggerName), (_TensorBoard, _WeightsAndBiases), strict=True))
