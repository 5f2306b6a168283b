"""Several processes that run one program together (JAX's multi-process mode, one a host or device).

All of them run the same Python; JAX sees the devices of all. What must happen once, above all
writing files, the first process does for the others. In a run of one process nothing here costs
anything.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from subliminal_jax.errors import InputError

_alone = False  # inside `run_on_first`: no other process takes part in what happens


def connect(coordinator: str, processes: int | None = None, process_id: int | None = None) -> None:
    """Join the other processes of this run, before anything is computed.

    `coordinator` "auto" leaves everything to JAX, which finds the processes of a Slurm step, an
    Open MPI launch, a Kubernetes job or a TPU pod; HOST:PORT names the first process's address, and
    then their number and which one this is. Joining twice does nothing.

    Raises InputError where JAX finds no such environment or the processes do not meet.
    """
    import jax

    if jax.distributed.is_initialized():
        return
    if coordinator != "auto" and (processes is None or process_id is None):
        raise InputError(
            f"the coordinator {coordinator} needs the number of processes and which one this is; "
            "only auto finds them out"
        )
    try:
        if coordinator == "auto":
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(coordinator, processes, process_id)
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        raise InputError(f"the processes did not meet at {coordinator}: {error}") from error


def is_multi_process() -> bool:
    """Whether other processes take part here."""
    jax = sys.modules.get("jax")  # where it is not even imported, nobody joined anybody
    if _alone or jax is None or not jax.distributed.is_initialized():
        return False
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this is the process that writes."""
    return not is_multi_process() or sys.modules["jax"].process_index() == 0


def barrier() -> None:
    """Until every process is here."""
    if is_multi_process():
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("wait")


def run_on_first(f: Callable[[], Any]) -> Any:
    """What `f` returns on the first process, on all of them; elsewhere it is not called.

    The value must be plain JSON. An InputError reaches all processes. `f` must not compute on
    devices of other processes.
    """
    if not is_multi_process():
        return f()
    told = _encoded(f) if is_first() else b""
    size = int(_from_first(np.array(1 << len(told).bit_length(), np.int32)))
    text = np.frombuffer(told.ljust(size), np.uint8) if told else np.zeros(size, np.uint8)
    kind, value = json.loads(_from_first(text).tobytes())
    if kind == "error":
        raise InputError(value)
    return value


def _encoded(f: Callable[[], Any]) -> bytes:
    try:
        with _on_its_own():
            told = ["value", f()]
    except InputError as error:
        told = ["error", str(error)]
    return json.dumps(told).encode()


def _from_first(array: np.ndarray) -> np.ndarray:
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.broadcast_one_to_all(array))


@contextlib.contextmanager
def _on_its_own() -> Iterator[None]:
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False
