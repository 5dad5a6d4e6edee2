"""A target that could not be analysed, as a finding about the check itself. Imports no torch."""

from __future__ import annotations

from vaelint.core.errors import TargetError
from vaelint.core.finding import Certainty, Finding, Severity, Span, fingerprint
from vaelint.core.paths import in_project
from vaelint.core.result import TargetResult


def fail(result: TargetResult, error: TargetError) -> None:
    """Notes the error as the result's only finding, and that the target failed."""
    result.status = "failed"
    place = error.span or Span(result.target.rsplit(":", 1)[0], 1)
    result.findings.append(
        Finding(
            error.code,
            SETUP.get(error.code, "setup"),
            Severity.ERROR,
            error.message,
            place,
            Certainty.PROVED,
            help=error.help,
            notes=error.notes,
            fingerprint=fingerprint(error.code, in_project(place.file), result.target.rpartition(":")[2], 0),
        )
    )


SETUP = {
    "VAE001": "cannot-import", "VAE002": "cannot-construct", "VAE003": "cannot-bind-inputs", "VAE004": "no-loss-found",
    "VAE005": "not-variational", "VAE006": "analysis-incomplete", "VAE007": "code-raises",
}  # fmt: skip
"""Names of the findings about the check itself."""
