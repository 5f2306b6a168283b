"""Several processes that run one program (JAX's multi-process mode, one process a host or device).

All of them run the same Python, and JAX sees the devices of all. What must happen once, above all
writing files, only the first process does. With one process all of this is free.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from subliminal_jax.errors import InputError

_alone = False  # inside `run_on_first`, which the other processes do not execute


def connect(coordinator: str, processes: int | None = None, process_id: int | None = None) -> None:
    """Join the other processes of this run; call it before anything is computed.

    `coordinator` "auto" leaves everything to JAX, which finds the processes of a Slurm step, an
    Open MPI launch, a Kubernetes job or a TPU pod. HOST:PORT is the first process's address, and
    needs the number of processes and the id of this one. Joining twice does nothing.

    Raises InputError where JAX finds no such environment or the processes do not meet.
    """
    import jax

    if jax.distributed.is_initialized():
        return
    if coordinator != "auto" and (processes is None or process_id is None):
        raise InputError(
            f"the coordinator {coordinator} needs the number of processes and the id of this one; "
            "only auto finds them"
        )
    try:
        if coordinator == "auto":
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(coordinator, processes, process_id)
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        raise InputError(f"the processes did not meet at {coordinator}: {error}") from error


def is_multi_process() -> bool:
    """Whether other processes execute this code too."""
    jax = sys.modules.get("jax")  # not imported: no process has joined
    if _alone or jax is None or not jax.distributed.is_initialized():
        return False
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this is the process that writes."""
    return not is_multi_process() or sys.modules["jax"].process_index() == 0


def barrier() -> None:
    """Wait until every process is here."""
    if is_multi_process():
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("barrier")


def run_on_first(f: Callable[[], Any]) -> Any:
    """Call `f` on the first process only, and return its value on all of them.

    The value must be plain JSON. An InputError reaches all processes. `f` must not compute on
    devices of other processes.
    """
    if not is_multi_process():
        return f()
    message = _encode_result(f) if is_first() else b""
    size = int(_broadcast_from_first(np.array(1 << len(message).bit_length(), np.int32)))
    text = np.frombuffer(message.ljust(size), np.uint8) if message else np.zeros(size, np.uint8)
    kind, value = json.loads(_broadcast_from_first(text).tobytes())
    if kind == "error":
        raise InputError(value)
    return value


def _encode_result(f: Callable[[], Any]) -> bytes:
    try:
        with _single_process():
            result = ["value", f()]
    except InputError as error:
        result = ["error", str(error)]
    return json.dumps(result).encode()


def _broadcast_from_first(array: np.ndarray) -> np.ndarray:
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.broadcast_one_to_all(array))


@contextlib.contextmanager
def _single_process() -> Iterator[None]:
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False
