"""`--output-format concise`: `path:line:col: CODE message`, one line a finding."""

from __future__ import annotations

from collections.abc import Sequence

from vaelint.finding import Certainty
from vaelint.report.view import PLAIN, View
from vaelint.result import TargetResult


def render(results: Sequence[TargetResult], view: View = PLAIN) -> str:
    """One line a finding, in the order of targets and findings."""
    lines = []
    for result in results:
        for f in result.findings:
            if f.certainty is not Certainty.REFUTED or view.show_refuted:
                mark = " (refuted)" if f.certainty is Certainty.REFUTED else ""
                message = " ".join(f.message.split())
                lines.append(f"{f.span.file}:{f.span.line}:{f.span.column}: {f.code} {message}{mark}")
    return "".join(line + "\n" for line in lines)
