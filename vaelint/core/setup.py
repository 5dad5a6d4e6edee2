"""The findings about the check itself: one table of their names, severities and headlines. Imports no torch."""

from __future__ import annotations

from dataclasses import replace

from vaelint.core.errors import TargetError
from vaelint.core.finding import Severity, Span
from vaelint.core.result import TargetResult
from vaelint.core.sign import Found, Kind, sign

SETUP = {
    kind.code: kind
    for kind in (
        Kind("VAE001", "cannot-import", Severity.ERROR, "the target cannot be imported"),
        Kind("VAE002", "cannot-construct", Severity.ERROR, "the model cannot be built"),
        Kind("VAE003", "cannot-bind-inputs", Severity.ERROR, "the inputs do not fit the model's signature"),
        Kind("VAE004", "no-loss-found", Severity.INFO, "no loss was found"),
        Kind("VAE005", "not-variational", Severity.INFO, "no sampling, no KL: not variational"),
        Kind("VAE006", "analysis-incomplete", Severity.ERROR, "the analysis is incomplete"),
        Kind("VAE007", "code-raises", Severity.ERROR, "the model's own code raises"),
        Kind("VAE008", "unused-suppression", Severity.INFO, "this comment suppresses nothing"),
        Kind("VAE009", "guide-and-model", Severity.ERROR, "Pyro's guide and model do not make a bound", basis="shapes"),
        Kind("VAE010", "symbolic-loss", Severity.ERROR, "the loss needs tensors that training does not give it", basis="shapes"),
    )
}
"""By code. The rule of each code, which has its page, is declared with what stands here."""


def stopped(code: str, message: str) -> Kind:
    """A kind of finding for what ended the check, in the words of what happened."""
    return replace(SETUP[code], severity=Severity.ERROR, message=message, basis="shapes")


def fail(result: TargetResult, error: TargetError) -> None:
    """Notes the error as the result's only finding, and that the target failed."""
    result.status = "failed"
    place = error.span or Span(result.target.rsplit(":", 1)[0], 1)
    found = Found(place, help=error.help, notes=error.notes)
    result.findings.append(sign(stopped(error.code, error.message), found, place, result.target.rpartition(":")[2]))
