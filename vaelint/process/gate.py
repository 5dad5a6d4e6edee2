"""From requests to results: what an earlier run answers, and what the worker has to be asked. Imports no torch."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from vaelint.cache.store import Cache
from vaelint.core.checked import Checked
from vaelint.core.errors import UsageError
from vaelint.core.result import Request
from vaelint.process.front import Worker

Item = TypeVar("Item")


class Hired:
    """The worker of a run: there once it is needed, however many rounds the run has, and gone at its end."""

    def __init__(self, early: Worker | None = None) -> None:
        """`early` is one that was started already."""
        self._worker = early

    def worker(self) -> Worker:
        """The worker; started now if it has not been."""
        self._worker = self._worker or Worker()
        return self._worker

    def __enter__(self) -> Hired:
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.close()


def default_jobs() -> int:
    """As many as there are cores for this process, at most 4: each target may take a model's memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, cores)


def run(
    requests: Sequence[Request],
    hired: Hired,
    *,
    cache: Cache | None = None,
    jobs: int = 1,
    known: Mapping[Request, Checked] = MappingProxyType({}),
    on_stage: Callable[[Request, str], None] | None = None,
    on_done: Callable[[Checked], None] | None = None,
    on_next: Callable[[Checked], None] | None = None,
) -> list[Checked]:
    """The results of the requests, in their order.

    Args:
        cache: where results of earlier runs lie; None to ask for none.
        jobs: how many targets run at once.
        known: results that this run has already; nobody is told of these again.
        on_stage, on_done: told what goes on, for a person who watches.
        on_next: told each result that was not known, in the order of the requests, as soon as it and those before it are there.
    """
    coming = deque(r for r in dict.fromkeys(requests) if r not in known)

    def pass_on() -> None:
        while coming and coming[0] in found:
            checked = found[coming.popleft()]
            if on_next:
                on_next(checked)

    found: dict[Request, Checked] = {r: known[r] for r in requests if r in known}
    for request in requests:
        if request in known:
            continue
        kept = cache.lookup(request) if cache is not None and not request.allow_writes else None
        if kept is not None:
            found[request] = kept
            if on_done:
                on_done(kept)
    pass_on()
    missing = [r for r in dict.fromkeys(requests) if r not in found]
    started = time.time_ns()
    for checked in hired.worker().run_all(missing, jobs, on_stage, on_done) if missing else ():
        found[checked.request] = checked
        if cache is not None and not checked.request.allow_writes:
            cache.store(checked, started)
        pass_on()
    return [found[r] for r in requests]


def shard(text: str) -> tuple[int, int]:
    """`2/4` as (2, 4). Raises UsageError."""
    first, _, last = text.partition("/")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise UsageError(f"--shard must be I/N with I from 1 to N, not {text!r}", "--shard 1/4 is the first of four parts")
    return int(first), int(last)


def part(items: Sequence[Item], text: str) -> tuple[Item, ...]:
    """The targets of one shard: every n-th, so that neighbours, which are alike in cost, go to different ones. Raises UsageError."""
    which, of = shard(text)
    return tuple(items[which - 1 :: of])
