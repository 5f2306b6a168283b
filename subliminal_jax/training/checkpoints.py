"""Checkpoints with Orbax: a resumed run ends bit for bit as one that was not interrupted."""

import logging
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from subliminal_jax import processes
from subliminal_jax.errors import InputError
from subliminal_jax.files import storage_errors
from subliminal_jax.ledger import note_written

logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax logs every step at INFO


class Checkpoints:
    """The newest states of a run, in a folder that holds nothing else.

    A checkpoint is written under a temporary name and renamed. One that is incomplete all the same
    (the machine lost power, or the folder was copied in part) is set aside as `STEP.damaged`, and
    the one before it is used.

    Every process writes and reads its own shards. What is stored does not depend on the mesh: a run
    may resume under another one.
    """

    def __init__(self, folder: str | Path, keep: int = 2):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=True,
            enable_async_checkpointing=False,
        )
        self.folder = Path(folder).absolute()
        self._manager = ocp.CheckpointManager(
            self.folder, options=options, item_handlers=ocp.StandardCheckpointHandler()
        )
        for step in self._manager.all_steps():
            if not self._is_committed(step):
                self._set_aside(step, "it is incomplete")

    def latest(self) -> int | None:
        """The step of the newest checkpoint, None where there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Write `state`, a pytree of arrays, as the checkpoint of `step`.

        Raises InputError where there is one of this step or a later one: it is another run's, or
        this run should have resumed from it.
        """
        latest = self.latest()
        if latest is not None and latest >= step:
            raise InputError(
                f"{self.folder} already holds a checkpoint of step {latest}, so step {step} is not "
                "saved; continue from it or give another output folder"
            )
        if processes.is_first():
            note_written(self.folder / str(step), tree=True)
        with storage_errors(self.folder / str(step)):
            self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, like: Any) -> Any:
        """The newest state that can be read, in the structure, dtypes and shardings of `like`.

        Arrays that are not committed to a device in `like` are not committed either, so that the
        programs compiled for `like` serve. Raises InputError where a checkpoint does not fit `like`
        (it is another run's), and where none can be read.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        while (step := self.latest()) is not None:
            try:
                self._check_fits(self._describe(step), _describe_arrays(abstract))
                restored = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
                return jax.tree.map(_match_commitment, restored, like)
            except InputError:
                raise
            except (ValueError, KeyError, FileNotFoundError) as error:
                reason = str(error).splitlines()[0]
                if self._is_readable(step):
                    raise InputError(self._misfit(reason)) from error
                self._set_aside(step, reason)
        raise InputError(f"{self.folder} holds no checkpoint that can be read; start from scratch")

    def close(self) -> None:
        self._manager.close()

    def _describe(self, step: int) -> dict[str, str]:
        metadata = self._manager.item_metadata(step)
        if metadata is None:
            raise FileNotFoundError("the description of its arrays is missing")
        return _describe_arrays(metadata.tree)

    def _is_committed(self, step: int) -> bool:
        try:
            return self._manager.metadata(step).commit_timestamp_nsecs is not None
        except (ValueError, FileNotFoundError):
            return False

    def _set_aside(self, step: int, reason: str) -> None:
        path = self.folder / str(step)
        aside = path.with_suffix(".damaged")
        while aside.exists():
            aside = aside.with_name(f"{aside.name}.damaged")
        processes.barrier()  # all processes have read the checkpoint
        if processes.is_first():
            path.rename(aside)
        processes.barrier()
        self._manager.reload()
        warnings.warn(f"checkpoint {path} is set aside as {aside.name}: {reason}", stacklevel=3)

    def _is_readable(self, step: int) -> bool:
        """Whether the checkpoint's arrays can be read, into whatever structure."""
        try:
            with warnings.catch_warnings(action="ignore"):  # of the missing shardings
                self._manager.restore(step, args=ocp.args.StandardRestore())
        except (ValueError, KeyError, FileNotFoundError):
            return False
        return True

    def _check_fits(self, stored: dict[str, str], wanted: dict[str, str]) -> None:
        for name in sorted(stored.keys() | wanted.keys()):
            in_file, in_run = stored.get(name, "missing"), wanted.get(name, "missing")
            if in_file != in_run:
                raise InputError(
                    self._misfit(f"{name} is {in_file} in the checkpoint, {in_run} in the run")
                )

    def _misfit(self, reason: str) -> str:
        return (
            f"{self.folder}: the checkpoint does not fit this run ({reason}); give another "
            "output folder or the settings that it was made with"
        )


def _match_commitment(array: jax.Array, like: jax.Array) -> jax.Array:
    return array if like.committed else jnp.asarray(np.asarray(array))


def _describe_arrays(tree: Any) -> dict[str, str]:
    """Name -> dtype and shape of every array."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
