"""A target that is built because its training could not be observed: what is in the way of that is said first."""

from __future__ import annotations

from dataclasses import replace

from vaelint.core.finding import Finding
from vaelint.core.result import Request, TargetResult
from vaelint.pipeline.gaps import NO_LOSS, NO_TERM

_OF_THE_CHECK = frozenset({"VAE001", "VAE002", "VAE003", "VAE004", "VAE006", "VAE007"})


def say_unseen(request: Request, result: TargetResult) -> None:
    """Where the target could not be built, called, or its loss not be found: the training knows, and one thing keeps it from being seen."""
    if not request.unseen or result.status not in ("failed", "incomplete"):
        return
    script, because, type_this = request.unseen
    note = f"{script} may train it, and was not observed: {because}"
    told = [f for f in result.findings if f.code in _OF_THE_CHECK]
    result.findings[:] = [replace(f, help=_help(f, type_this), notes=(*f.notes, note)) if f in told else f for f in result.findings]
    for row in result.incomplete:
        if row["reason"] in (NO_LOSS, NO_TERM):
            row["help"] = type_this
    if not told:
        result.notes.append(note)


def _help(finding: Finding, type_this: str) -> str:
    """What to type for the training; a package that is not there stands in the way of that, too."""
    return finding.help if "pip install" in finding.help else type_this
