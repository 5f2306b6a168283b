"""Checkpoints with Orbax: an interrupted run goes on and ends as if it had not been interrupted."""

import logging
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from subliminal_jax.errors import InputError

logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax narrates every step at INFO


class Checkpoints:
    """The newest states of a run in one folder. A checkpoint exists whole or not at all."""

    def __init__(self, folder: str | Path, keep: int = 2):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=True, enable_async_checkpointing=False
        )
        self.folder = Path(folder).absolute()
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def latest(self) -> int | None:
        """The step of the newest whole checkpoint, None where there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Write `state`, a pytree of arrays, as the checkpoint of `step`."""
        self._manager.save(step, args=ocp.args.StandardSave(state))
        self._manager.wait_until_finished()

    def restore(self, like: Any) -> Any:
        """The newest state, in the structure, dtypes and shardings of `like`.

        Raises InputError where the checkpoint does not fit `like`: it is another run's.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            return self._manager.restore(self.latest(), args=ocp.args.StandardRestore(abstract))
        except (ValueError, KeyError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{self.folder}: the checkpoint does not fit this run ({reason}); "
                "give another output folder or the settings it was made with"
            ) from error

    def close(self) -> None:
        self._manager.close()
