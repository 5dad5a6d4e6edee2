"""`--output-format github`: workflow commands, which GitHub shows as annotations on the lines of a change.

Escaping as in actions/toolkit, `packages/core/src/command.ts`: what would end a command or start a property is written %XX, so
that nothing in a message or a file name can be a command of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from vaelint.core.finding import Finding, Severity
from vaelint.core.result import TargetResult
from vaelint.core.visible import visible_lines
from vaelint.report.parts.rows import headline, level, place, rows, sentences
from vaelint.report.parts.view import PLAIN, View

_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def render(results: Sequence[TargetResult], view: View = PLAIN) -> str:
    """One line a finding."""
    return "".join(_command(row.finding, view) + "\n" for row in rows(results, view))


def _command(f: Finding, view: View) -> str:
    file = place(f.span.file, view.root)
    properties = {"file": file, "line": f.span.line}
    if (f.span.end_line or f.span.line) == f.span.line:  # GitHub refuses columns that span lines
        properties |= {"col": f.span.column}
        properties |= {"endColumn": f.span.end_column} if f.span.end_column else {}
    properties |= {"endLine": f.span.end_line or f.span.line, "title": f"vaelint ({f.code})"}
    said = ",".join(f"{k}={_property(str(v))}" for k, v in properties.items())
    message = "\n".join((f"{file}:{f.span.line}:{f.span.column}: {headline(f)}", *sentences(f), *filter(None, [view.more(f)])))
    return f"::{_LEVELS[level(f)]} {said}::{_data(message)}"


def _data(text: str) -> str:
    return visible_lines(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
