"""Checkpoints with Orbax: a resumed run ends bit for bit as one that was not interrupted."""

import contextlib
import logging
import re
import sys
import warnings
from collections.abc import Iterator
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
from subliminal_jax.seals import find_damage, is_sealed, seal_folder, set_aside

# Orbax logs every step, and tracebacks of the errors that it raises.
logging.getLogger("absl").setLevel(logging.CRITICAL)


class Checkpoints:
    """The newest states of a run, in a folder that holds nothing else.

    A checkpoint is written under a temporary name, renamed, and sealed with the digests of its
    files. One that is not sealed or whose files are not those that were written (the process was
    killed, the folder was copied in part, a disk lost bits) is set aside as `STEP.damaged` with a
    warning, and the newest whole one counts.

    Every process writes and reads its own shards; the first one writes and checks the digests. What
    is stored does not depend on the mesh: a run may resume under another one.
    """

    def __init__(self, folder: str | Path, keep: int = 2):
        self.folder = Path(folder).absolute()
        for line in processes.run_on_first(self._set_damaged_aside):
            warnings.warn(line, stacklevel=2)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=True,
            enable_async_checkpointing=False,
        )
        self._manager = ocp.CheckpointManager(
            self.folder, options=options, item_handlers=ocp.StandardCheckpointHandler()
        )

    def latest(self) -> int | None:
        """The step of the newest checkpoint, None where there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Write `state`, a pytree of arrays, as the checkpoint of `step`.

        Raises InputError where there is one of this step or a later one (it is another run's, or
        this run should have resumed from it), and where it cannot be written.
        """
        latest = self.latest()
        if latest is not None and latest >= step:
            raise InputError(
                f"{self.folder} already holds a checkpoint of step {latest}, so step {step} is not "
                "saved; continue from it or give another output folder"
            )
        path = self.folder / str(step)
        if processes.is_first():
            note_written(path, tree=True)
        with storage_errors(path):
            with _no_late_tracebacks():
                self._manager.save(step, args=ocp.args.StandardSave(state))
            processes.barrier()
            processes.run_on_first(lambda: seal_folder(path, path.name))

    def restore(self, like: Any) -> Any:
        """The newest state, in the structure, dtypes and shardings of `like`.

        Arrays that are not committed to a device in `like` are not committed either, so that the
        programs compiled for `like` serve. Raises InputError where it does not fit `like` (it is
        another run's), and where there is none.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        step = self.latest()
        if step is None:
            raise InputError(
                f"{self.folder} holds no checkpoint that can be read; start from scratch"
            )
        try:
            self._check_fits(self._describe(step), _describe_arrays(abstract))
            restored = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise InputError(self._misfit(_first_line(error))) from error
        return jax.tree.map(_match_commitment, restored, like)

    def close(self) -> None:
        self._manager.close()

    def _describe(self, step: int) -> dict[str, str]:
        metadata = self._manager.item_metadata(step)
        if metadata is None:
            raise FileNotFoundError("the description of its arrays is missing")
        return _describe_arrays(metadata.tree)

    def _set_damaged_aside(self) -> list[str]:
        """Rename damaged checkpoints, and say so in a line each. The files of those before the
        newest whole one are not read."""
        if not self.folder.exists():
            return []
        if not self.folder.is_dir():
            raise InputError(
                f"{self.folder} is no folder: remove it, or give another output folder"
            )
        names = [p.name for p in self.folder.iterdir() if re.fullmatch("[0-9]+", p.name)]
        lines, newest = [], None
        for name in sorted(names, key=int, reverse=True):
            path = self.folder / name
            damage = None
            if newest is None:
                damage = find_damage(path, name)
            elif not is_sealed(path):
                damage = "it is not complete"
            if damage is None:
                newest = name if newest is None else newest
            else:
                aside = set_aside(path).name
                lines.append(f"checkpoint {path} is set aside as {aside}: {damage}")
        following = "from the beginning" if newest is None else f"from step {newest}"
        return [f"{line}; the run goes on {following}" for line in lines]

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


@contextlib.contextmanager
def _no_late_tracebacks() -> Iterator[None]:
    """Keep TensorStore silent about a save that failed.

    Orbax raises the first error and closes its event loop; the other writes fail later, in threads,
    find the loop closed, and print that (`sys.unraisablehook`). So the hook stays after a failure.
    """
    previous = sys.unraisablehook

    def hook(report: Any) -> None:
        if str(report.exc_value) != "Event loop is closed":
            previous(report)

    sys.unraisablehook = hook
    yield
    sys.unraisablehook = previous


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _match_commitment(
    array: jax.Array | np.ndarray, like: jax.Array | np.ndarray
) -> jax.Array | np.ndarray:
    return array if getattr(like, "committed", False) else jnp.asarray(np.asarray(array))


def _describe_arrays(tree: Any) -> dict[str, str]:
    """Name -> dtype and shape of every array."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
