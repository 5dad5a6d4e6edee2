"""`--output-format gitlab`: a Code Quality report (https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from vaelint.core.finding import Severity
from vaelint.core.result import TargetResult
from vaelint.core.visible import visible
from vaelint.report.parts.rows import Row, dumps, headline, level, place, rows
from vaelint.report.parts.view import PLAIN, View

_LEVELS = {Severity.ERROR: "critical", Severity.WARNING: "major", Severity.INFO: "info"}


def render(results: Sequence[TargetResult], view: View = PLAIN) -> str:
    """A list of issues. Their fingerprints are the findings' own, so that GitLab knows them across commits."""
    seen: dict[str, int] = {}
    return dumps([_issue(row, view, seen) for row in rows(results, view)])


def _issue(row: Row, view: View, seen: dict[str, int]) -> dict[str, Any]:
    f = row.finding
    name = f.fingerprint or f.code
    seen[name] = seen.get(name, 0) + 1
    if seen[name] > 1:  # GitLab drops a second issue of the same name
        name = hashlib.sha256(f"{name}\0{seen[name]}".encode()).hexdigest()[:16]
    return {
        "description": headline(f) + (f" ({visible(' '.join(f.label.split()))})" if f.label else ""),
        "check_name": f.code,
        "fingerprint": name,
        "severity": _LEVELS[level(f)],
        "location": {"path": place(f.span.file, view.root), "lines": {"begin": f.span.line, "end": f.span.end_line or f.span.line}},
    }
