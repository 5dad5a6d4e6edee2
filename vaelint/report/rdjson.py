"""`--output-format rdjson`: the Reviewdog Diagnostic Format (https://github.com/reviewdog/reviewdog/tree/master/proto/rdf)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vaelint.core.finding import Severity, Span
from vaelint.core.result import TargetResult
from vaelint.core.visible import visible_lines
from vaelint.report.parts.rows import Row, dumps, headline, level, place, rows, sentences
from vaelint.report.parts.view import PLAIN, View
from vaelint.report.parts.window import Sources

_LEVELS = {Severity.ERROR: "ERROR", Severity.WARNING: "WARNING", Severity.INFO: "INFO"}


def render(results: Sequence[TargetResult], view: View = PLAIN) -> str:
    """One document. Columns count bytes of UTF-8, as the format has it."""
    sources = Sources()
    return dumps({"source": {"name": "vaelint"}, "diagnostics": [_diagnostic(row, view, sources) for row in rows(results, view)]})


def _diagnostic(row: Row, view: View, sources: Sources) -> dict[str, Any]:
    f = row.finding
    made: dict[str, Any] = {
        "message": "\n".join((headline(f), *sentences(f))),
        "location": _location(f.span, view, sources),
        "severity": _LEVELS[level(f)],
        "code": {"value": f.code},
    }
    if url := view.address(f):
        made["code"]["url"] = url
    if f.labels:
        made["related_locations"] = [{"message": visible_lines(x.text), "location": _location(x.span, view, sources)} for x in f.labels]
    if f.fix is not None and f.fix.file == f.span.file:
        lines = {"start": {"line": f.fix.line}, "end": {"line": f.fix.end_line}}  # without columns: whole lines
        made["suggestions"] = [{"range": lines, "text": f.fix.new.removesuffix("\n")}]
    return made


def _location(span: Span, view: View, sources: Sources) -> dict[str, Any]:
    start = {"line": span.line, "column": _bytes(span.file, span.line, span.column, sources)}
    found: dict[str, Any] = {"path": place(span.file, view.root), "range": {"start": start}}
    if span.end_column is not None:
        line = span.end_line or span.line
        found["range"]["end"] = {"line": line, "column": _bytes(span.file, line, span.end_column, sources)}
    return found


def _bytes(file: str, line: int, column: int, sources: Sources) -> int:
    text = sources.line(file, line) or ""
    return len(text[: column - 1].encode("utf-8", "replace")) + 1 if text else column
