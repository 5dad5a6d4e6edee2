"""Time and memory of a watched script: it is stopped at its limit, at a line that can be named."""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vaelint.core.memory import readable

_LARGEST = 8 << 30
_SHARE = 0.6  # of the time of a target, for the script; the rest is for what is made of it


class TimeIsUpError(BaseException):
    """The script had its time."""


def memory_allowed() -> int:
    """Half of what is free, at most 8 GB."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        rows = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(row.split()[1]) for row in rows if row.startswith("MemAvailable"))
        return min(_LARGEST, free * 1024 // 2)
    return _LARGEST


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[str]:
    """Within the block, `TimeIsUpError` is raised after a share of `seconds`, and allocations beyond `memory_allowed` fail.

    Gives the limit of memory in words. Works in the main thread.
    """

    def up(*_: Any) -> None:
        raise TimeIsUpError

    allowed = memory_allowed()
    kept = resource.getrlimit(resource.RLIMIT_DATA)
    if sys.platform == "linux":
        held, hard = _held(), kept[1]
        allowed = allowed if hard == resource.RLIM_INFINITY else min(allowed, max(hard - held, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (held + allowed if hard == resource.RLIM_INFINITY else min(held + allowed, hard), hard))
    before = signal.signal(signal.SIGALRM, up)
    signal.setitimer(signal.ITIMER_REAL, _SHARE * seconds)
    try:
        yield readable(allowed)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_DATA, kept)


def _held() -> int:
    """What the process holds by now."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("VmData")) * 1024
