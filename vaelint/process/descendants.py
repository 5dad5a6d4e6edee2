"""The processes below one: which there are, what memory they hold, and their end. Linux tells; elsewhere it is as if there were none."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time

from vaelint.core.reach import walked

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_EVERY = 100.0  # milliseconds from one look to the next
_SHARE = 20  # and at least so many times what a look takes
_MORE = 1.05  # how much more there must be before what is shared is counted again
_END = 2.0  # seconds that killed processes get to be gone


def adopt() -> None:
    """Makes this process the parent of what its descendants leave behind, in whatever session that is."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def below(pid: int) -> list[int]:
    """All descendants of a process."""
    children: dict[int, list[int]] = {}
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):  # noqa: PTH208 - names, no paths
            if name.isdecimal() and (parent := _parent(name)) is not None:
                children.setdefault(parent, []).append(int(name))
    return [child for child in walked([pid], lambda parent: children.get(parent, ())) if child != pid]


def memory_of(pids: list[int]) -> int:
    """Bytes of memory that they hold; what several share counts for each."""
    return sum(int(fields[1]) * _PAGE for pid in pids if len(fields := _read(f"/proc/{pid}/statm").split()) > 1)


def memory_shared_out(pids: list[int]) -> int:
    """The same, where what several share counts once. Takes long for large processes; 0 where the system does not say."""
    lines = (line for pid in pids for line in _read(f"/proc/{pid}/smaps_rollup").splitlines())
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


class Watch:
    """Whether a process and all below it have taken more than so many bytes of memory."""

    def __init__(self, pid: int, limit: int) -> None:
        """`limit` 0: nothing is looked at."""
        self.limit, self._pid, self._told = limit, pid, False
        self._had = memory_of([pid])  # what it shares with the server it was forked off
        self._doubtful = limit  # from where on what is shared has to be counted once, which takes long
        self.wait: float | None = _EVERY if limit else None  # milliseconds until it is to be asked again

    def exceeded(self) -> bool:
        """True once, at most: then it is being ended."""
        if not self.limit or self._told:
            return False
        started = time.monotonic()
        pids = [self._pid, *below(self._pid)]
        taken = memory_of(pids) - self._had
        if taken > self._doubtful:
            shared_out = memory_shared_out(pids)
            self._told = (shared_out or taken) > self.limit
            self._doubtful = max(self.limit, int(taken * _MORE))
        self.wait = max(_EVERY, 1000 * _SHARE * (time.monotonic() - started))
        return self._told


def end_below(spare: frozenset[int] = frozenset()) -> None:
    """Ends all descendants of this process but those of `spare`, and takes note of their ends. `adopt` must have been called."""
    limit = time.monotonic() + _END
    while time.monotonic() < limit:
        left = [pid for pid in below(os.getpid()) if pid not in spare]
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for pid in left:
            with contextlib.suppress(OSError):  # not a child of ours yet: its parent is ending
                os.waitpid(pid, os.WNOHANG)
        if not left:
            return
        time.sleep(0.002)


def _parent(pid: str) -> int | None:
    """The parent of a process that still runs, or waits for its end to be taken note of."""
    stat = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(stat[1]) if len(stat) > 1 else None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - a thousand of them a second
            return file.read()
    except OSError:
        return ""
