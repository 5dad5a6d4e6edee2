"""Time and memory of a watched script: it is stopped at its limit, at a line that can be named."""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
import threading
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

    Gives the limit of memory in words.
    """

    allowed = memory_allowed()
    kept = resource.getrlimit(resource.RLIMIT_DATA)
    if sys.platform == "linux":
        held, hard = _held(), kept[1]
        allowed = allowed if hard == resource.RLIM_INFINITY else min(allowed, max(hard - held, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (held + allowed if hard == resource.RLIM_INFINITY else min(held + allowed, hard), hard))
    try:
        with stopped_after(_SHARE * seconds):
            yield readable(allowed)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, kept)


@contextlib.contextmanager
def stopped_after(seconds: float) -> Iterator[None]:
    """Within the block, `TimeIsUpError` is raised after `seconds`. Only in the main thread, and where no other alarm is set."""
    if threading.current_thread() is not threading.main_thread() or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def up(*_: Any) -> None:
        raise TimeIsUpError

    before = signal.signal(signal.SIGALRM, up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _held() -> int:
    """What the process holds by now."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("VmData")) * 1024
