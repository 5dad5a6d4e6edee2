"""Findings as an editor shows them: each once, with the places that belong to it and what was measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from lsprotocol import types

from vaelint.config.lines import place_of_error
from vaelint.core.errors import ConfigurationError
from vaelint.core.finding import Finding, Severity, Span
from vaelint.core.paths import real
from vaelint.core.visible import visible, visible_lines
from vaelint.report.parts.rows import Row, rows, sentences
from vaelint.report.parts.view import PLAIN
from vaelint.server.positions import Places
from vaelint.server.target_state import Outcome

SOURCE = "vaelint"
_SEVERITIES = {
    Severity.ERROR: types.DiagnosticSeverity.Error,
    Severity.WARNING: types.DiagnosticSeverity.Warning,
    Severity.INFO: types.DiagnosticSeverity.Information,
}
PlacesOf = Callable[[str], Places]
Uri = Callable[[str], str]


def by_file(
    outcomes: Iterable[Outcome], wrong: Iterable[ConfigurationError], places: PlacesOf, uri: Uri
) -> dict[str, list[types.Diagnostic]]:
    """The diagnostics of each file, by its resolved path.

    Args:
        wrong: what is wrong with configurations.
        places: the places in the text that was checked of a file.
        uri: the address of a file.
    """
    found: dict[str, list[types.Diagnostic]] = {}
    for error in wrong:
        span = place_of_error(error)
        file = str(real(error.file))
        text = "\n".join(filter(None, [error.message, error.help]))
        told = types.Diagnostic(places(file).range(span), visible_lines(text), types.DiagnosticSeverity.Error, source=SOURCE)
        found.setdefault(file, []).append(told)
    seen: set[tuple[str, Span, str]] = set()
    for outcome in outcomes:
        for row in rows(outcome.shown, PLAIN):
            span = placed(row.finding, outcome)
            if (key := (row.finding.code, span, row.finding.message)) not in seen:
                seen.add(key)
                found.setdefault(str(real(span.file)), []).append(_diagnostic(row, span, outcome, places, uri))
    return found


def placed(finding: Finding, outcome: Outcome) -> Span:
    """Where a finding is shown: in its file; in the configuration, where that names a file that is not there."""
    if Path(finding.span.file).is_file():
        return finding.span
    return outcome.home() or finding.span


def _diagnostic(row: Row, span: Span, outcome: Outcome, places: PlacesOf, uri: Uri) -> types.Diagnostic:
    f = row.finding
    related = [
        types.DiagnosticRelatedInformation(
            types.Location(uri(os.path.abspath(label.span.file)), places(str(real(label.span.file))).range(label.span)),  # noqa: PTH100
            visible(label.text),
        )
        for label in f.labels
    ]
    return types.Diagnostic(
        range=places(str(real(span.file))).range(span),
        message=message(row),
        severity=_SEVERITIES[f.severity],
        code=f.code,
        source=SOURCE,
        related_information=related,
        data={"fingerprint": f.fingerprint, "fix": f.fingerprint in outcome.fixes},
    )


def message(row: Row) -> str:
    """The headline, then what else there is to say, a line each: the evidence among it."""
    f = row.finding
    shapes = [visible(f"{s.name}: ({', '.join(s.shape)}){f'  {s.remark}' if s.remark else ''}") for s in f.shapes]
    targets = [f"in {', '.join(row.targets)}"] if len(row.targets) > 1 else []
    return "\n".join([visible(" ".join(f.message.split())), *sentences(f), *shapes, *targets])
