"""Made-up data of a size that vaelint guessed, batches that it cut: what is found with them is found with others, too, or is not reported.

The script runs a second time in a copy of the process that was made before anything of the user's had run: nothing of the first run,
its modules, models and files, is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from vaelint.core.assumption import ROWS, Assumption, withheld
from vaelint.core.finding import Finding, Severity
from vaelint.core.result import Request, TargetResult

Place = tuple[str, str, int]
"""A finding's code, file and line."""

Again = Callable[[float], "set[Place] | None"]
"""What is found in the second run, within so many seconds; None where it does not come so far."""

_SHARE = 0.85  # of the time that a target has: the second run may not cost the result of the first


def hold_at_both_sizes(results: Sequence[TargetResult], request: Request, again: Again, seconds: float) -> None:
    """Takes out of the results what is not found in the second run, with a note.

    Nothing where no size was chosen by vaelint, or the other one does not fit.

    Args:
        results: of the first run.
        request: of the first run.
        again: the second run.
        seconds: that were spent.
    """
    if ROWS in request.ours:
        cut = Assumption("data", ROWS, str(request.rows), "a whole batch takes too long, or too much memory", varied=True)
        for result in results:
            result.assumptions.append(cut)
    chosen = list(dict.fromkeys(a for r in results for a in r.assumptions if a.kind == "data" and a.varied))
    if not chosen or not any(_is_loud(f) for r in results for f in r.findings):
        return
    there = again(_SHARE * request.timeout - seconds)
    if there is None:
        return
    for result in results:
        gone = [f for f in result.findings if _is_loud(f) and _place(f) not in there]
        result.notes += [withheld(f, chosen) for f in gone]
        result.findings[:] = [f for f in result.findings if f not in gone]
        result.settle()


@contextlib.contextmanager
def second_run(check: Callable[[], Sequence[TargetResult]]) -> Iterator[Again]:
    """A copy of this process that waits, and runs `check` where it is asked to; what it prints is dropped."""
    asked, ask = os.pipe()
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ask)
        os.close(told)
        _wait(asked, tell, check)
    os.close(asked)
    os.close(tell)

    def again(seconds: float) -> set[Place] | None:
        os.write(ask, b"1")
        if not select.select([told], [], [], max(0.0, seconds))[0]:
            return None
        with os.fdopen(os.dup(told), "rb") as reader:
            said = reader.read()
        found = json.loads(said) if said else None
        return {(code, file, line) for code, file, line in found} if found is not None else None

    try:
        yield again
    finally:
        os.close(ask)
        os.close(told)
        with contextlib.suppress(ProcessLookupError, ChildProcessError):  # the script may have waited for all its children
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _wait(asked: int, tell: int, check: Callable[[], Sequence[TargetResult]]) -> None:
    """Ends the process."""
    try:
        if os.read(asked, 1):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            results = check()
            whole = all(r.rung is not None for r in results)
            found = [_place(f) for r in results for f in r.findings if _is_loud(f)] if whole else None
            with os.fdopen(tell, "wb") as writer:
                writer.write(json.dumps(found).encode())
    finally:
        os._exit(0)  # what the run raised: it does not fit at this size, and nothing is told


def with_others(request: Request) -> Request:
    """The second run's request: made-up data of other sizes, batches cut elsewhere if it was vaelint that cut them."""
    rows = request.rows + 2 if ROWS in request.ours else request.rows
    return replace(request, other_sizes=True, plot=False, trail="", fixes=False, rows=rows)


def _is_loud(finding: Finding) -> bool:
    return finding.severity is not Severity.INFO


def _place(finding: Finding) -> Place:
    return finding.code, finding.span.file, finding.span.line
