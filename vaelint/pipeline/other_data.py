"""Made-up data of a size that vaelint guessed, batches that it cut: what is found with them is found with others, too, or is not reported.

The script runs a second time, in a clean process (`attempts.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def places_of(results: Sequence[TargetResult]) -> set[Place] | None:
    """Where a run found something; None where it was not observed."""
    whole = all(r.rung is not None for r in results)
    return {_place(f) for r in results for f in r.findings if _is_loud(f)} if whole else None


def with_others(request: Request) -> Request:
    """The second run's request: made-up data of other sizes, batches cut elsewhere if it was vaelint that cut them."""
    rows = request.rows + 2 if ROWS in request.ours else request.rows
    return replace(request, other_sizes=True, plot=False, trail="", fixes=False, rows=rows)


def _is_loud(finding: Finding) -> bool:
    return finding.severity is not Severity.INFO


def _place(finding: Finding) -> Place:
    return finding.code, finding.span.file, finding.span.line
