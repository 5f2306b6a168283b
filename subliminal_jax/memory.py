"""How much memory there is, and whether something fits before it is allocated."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from subliminal_jax.errors import InputError

if TYPE_CHECKING:
    import jax

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def host_bytes() -> int:
    """The memory that this process may use, in bytes: the machine's, or its container's limit."""
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not a POSIX system
        return 2**63
    limits = [machine]
    for file in map(Path, _CGROUP_LIMITS):
        try:
            limits.append(int(file.read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such limit ("max")
            continue
    return min(limits)


def device_bytes() -> int:
    """The memory of all devices of this process together, in bytes; on a CPU the host's."""
    import jax

    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    return sum(s.get("bytes_limit", 0) for s in stats) or host_bytes()


def free_bytes() -> int:
    """The memory that one device has left for a program beside what lies there now, in bytes; the
    least of all devices of this process. On a CPU, what arrays leave of the host's."""
    import jax

    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    left = [s["bytes_limit"] - s.get("bytes_in_use", 0) for s in stats if "bytes_limit" in s]
    return min(left) if left else host_bytes() - sum(x.nbytes for x in jax.live_arrays())


def program_bytes(program: "jax.stages.Compiled") -> int | None:
    """The memory that a compiled program needs beside its arguments, in bytes, on each device; None
    where the backend does not say."""
    analysis = program.memory_analysis()
    if analysis is None:
        return None
    return (
        analysis.output_size_in_bytes + analysis.temp_size_in_bytes - analysis.alias_size_in_bytes
    )


def check_fits(what: str, needed: float, available: int, remedy: str) -> None:
    """Raises InputError where `needed` bytes are more than `available`.

    Args:
      what: what needs them, as the subject of the message.
      remedy: what to do.
    """
    if needed > available:
        raise InputError(
            f"{what} needs at least {show_bytes(needed)} of memory, and there are "
            f"{show_bytes(available)}: {remedy}"
        )


def show_bytes(count: float) -> str:
    """1536 as 1.5 kB, in steps of 1024."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 1024:
            return f"{count:.0f} bytes" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} PB"
