"""What a check did not look at, although nothing failed: without a loss, without a term that is known, without a real pass.

A target is clean when its loss was found, its terms were identified, and the real pass ran or was switched off by the user.
"""

from __future__ import annotations

import shlex

from vaelint.anatomy.model import Model
from vaelint.core.result import Request, TargetResult

NO_LOSS = "no loss was found: neither reconstruction nor KL nor their weights were looked at"
NO_TERM = "no term of the loss was identified: it holds neither a reconstruction nor a KL that is known"
_UNKNOWN = ("other", "parameters")


def note_gaps(model: Model | None, request: Request, result: TargetResult) -> None:
    """Leaves out of `result` what was not looked at; nothing where the target failed, or only its trail was asked for."""
    if model is None or result.status == "failed" or request.trail == "only":
        return
    if not model.has_loss:
        if not request.allow_no_loss:
            result.leave_out(NO_LOSS, _name_it(request))
    elif not request.allow_no_loss and all(t.role in _UNKNOWN for t in model.terms):
        result.leave_out(NO_TERM, _name_it(request))


def note_no_run(request: Request, result: TargetResult) -> None:
    """Leaves out the real pass where it was asked for and did not run; what it raised is a finding of its own."""
    outcome = result.confirm.get("outcome")
    if request.device == "none" or outcome == "ran" or result.status == "failed":
        return
    if outcome == "raised" and any(f.severity.rank > 0 for f in result.findings):
        return
    why = result.confirm.get("reason") or outcome
    other = "" if request.device in ("auto", "cpu") else "--device cpu runs it there; "
    result.leave_out(f"the real pass did not run: {why}", f"{other}--device none checks without it, and says so")


def note_cut_short(request: Request, result: TargetResult) -> None:
    """Leaves out the real pass of an observed iteration for which there was no time or no memory."""
    if result.cut_short:
        fewer = "" if request.rows else f"run it with smaller batches: vaelint run --rows 4 {shlex.join(request.run)}"
        result.leave_out(f"the real pass did not run: {result.confirm['reason']}", fewer)


def _name_it(request: Request) -> str:
    """The line to type."""
    words = ["vaelint", "check", request.target, *(w for text in request.inputs for w in ("--input", text))]
    words += [w for text in request.init for w in ("--init", text)]
    line = shlex.join(words)
    return (
        f"name the loss: {line} --loss FILE.py:FUNCTION, or write the step out with --step; "
        "for a target that has none: --allow-no-loss, or allow-no-loss = true in its table"
    )
