"""`--output-format sarif`: SARIF 2.1.0 as code scanning reads it (https://docs.github.com/code-security, "SARIF support").

Addresses are relative to the checkout, every result has a place, and the fingerprint is the one that GitHub would compute. Braces
are doubled: `{0}` is a placeholder in every message (SARIF 2.1.0, section 3.11.5), and user code may well say `{0}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vaelint.core.finding import Certainty, Finding, Label, Span
from vaelint.core.result import TargetResult
from vaelint.core.version import __version__
from vaelint.core.visible import visible_lines
from vaelint.report.parts.line_hash import line_hashes
from vaelint.report.parts.rows import Row, dumps, headline, place, rows, sentences
from vaelint.report.parts.view import PLAIN, RulePage, View
from vaelint.report.parts.window import Sources

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_PROBLEMS = {"error": "error", "warning": "warning", "info": "recommendation"}


def render(results: Sequence[TargetResult], view: View = PLAIN) -> str:
    """One run for all targets: GitHub takes 20 runs a file, and there may be more targets."""
    found = rows(results, view)
    pages = {p.code: p for p in view.pages()}
    rules = [pages.get(code) or _bare(found, code, view) for code in sorted({r.finding.code for r in found})]
    index = {rule.code: i for i, rule in enumerate(rules)}
    hashes: dict[str, list[str]] = {}
    sources = Sources()
    run = {
        "tool": {"driver": {"name": "vaelint", "semanticVersion": __version__, "version": __version__, "rules": [_rule(r) for r in rules]}},
        "automationDetails": {"id": "vaelint/"},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"%SRCROOT%": {"uri": _root(view.root)}},
        "invocations": [_invocation(results)],
        "results": [_result(row, index, view, hashes, sources) for row in found],
    }
    return dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def _words(text: str) -> dict[str, str]:
    """A message without placeholders."""
    return {"text": visible_lines(text).replace("{", "{{").replace("}", "}}")}


def _message(text: str) -> dict[str, str]:
    """The same without embedded links (section 3.11.6), which `self.heads[0](h)` looks like."""
    return _words(text.replace("](", "] ("))


def _bare(found: Sequence[Row], code: str, view: View) -> RulePage:
    """What is known of a rule that is not at hand, such as of a saved report."""
    f = next(r.finding for r in found if r.finding.code == code)
    return RulePage(code, f.name, f.severity.value, f.message, url=view.address(f))


def _rule(rule: RulePage) -> dict[str, Any]:
    text = rule.doc.strip() or rule.summary or rule.name
    made = {
        "id": rule.code,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": _words(rule.summary or rule.name),
        "fullDescription": _words(rule.summary or rule.name),
        "help": _words(text) | {"markdown": _words(text)["text"]},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {"tags": ["vae"], "precision": "high", "problem.severity": _PROBLEMS[rule.severity]},
    }
    return made | ({"helpUri": rule.url} if rule.url else {})


def _invocation(results: Sequence[TargetResult]) -> dict[str, Any]:
    """Whether every target was analysed completely, and what was noted of each."""
    notes = [
        {"level": "error" if r.status == "failed" else "note", "message": _message(f"{r.target}: {note}")}
        for r in results
        for note in (["could not be analysed"] if r.status == "failed" else []) + r.notes
    ] + [{"level": "error", "message": _message(f"{r.target}: {gap}")} for r in results for gap, _ in r.gaps()]
    return {"executionSuccessful": all(r.whole for r in results), "toolExecutionNotifications": notes}


def _result(row: Row, index: dict[str, int], view: View, hashes: dict[str, list[str]], sources: Sources) -> dict[str, Any]:
    f = row.finding
    refuted = f.certainty is Certainty.REFUTED
    made: dict[str, Any] = {
        "ruleId": f.code,
        "ruleIndex": index[f.code],
        "kind": "pass" if refuted else "fail",
        "level": "none" if refuted else _LEVELS[f.severity.value],
        "message": _message("\n".join((headline(f), *sentences(f)))),
        "locations": [{"physicalLocation": _physical(f.span, view)}],
        "properties": {"certainty": f.certainty.value, "targets": list(row.targets), "fingerprint": f.fingerprint},
    }
    if f.labels:
        made["relatedLocations"] = [_related(x, i, view) for i, x in enumerate(f.labels)]
    line_hash = _line_hash(f.span, hashes)
    if line_hash:
        made["partialFingerprints"] = {"primaryLocationLineHash": line_hash}
    if f.fix is not None:
        made["fixes"] = [_fix(f, view, sources)]
    return made


def _physical(span: Span, view: View) -> dict[str, Any]:
    region: dict[str, Any] = {"startLine": span.line, "startColumn": span.column, "endLine": span.end_line or span.line}
    if span.end_column is not None and (span.end_line or span.line, span.end_column) > (span.line, span.column):
        region["endColumn"] = span.end_column
    return {"artifactLocation": _artifact(span.file, view), "region": region}


def _artifact(file: str, view: View) -> dict[str, Any]:
    path = place(file, view.root)
    if path.startswith("/"):  # outside of the checkout
        return {"uri": "file://" + _quoted(path)}
    return {"uri": _quoted(path), "uriBaseId": "%SRCROOT%"}


def _quoted(path: str) -> str:
    """As an address has it: the bytes of the name, also where they are no UTF-8 (PEP 383)."""
    try:
        return quote(path.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:  # no file has this name
        return quote(path.encode("utf-8", "replace"))


def _root(root: Path) -> str:
    return "file://" + _quoted(root.resolve().as_posix().rstrip("/") + "/")


def _related(label: Label, number: int, view: View) -> dict[str, Any]:
    return {"id": number, "message": _message(label.text), "physicalLocation": _physical(label.span, view)}


def _line_hash(span: Span, hashes: dict[str, list[str]]) -> str:
    if span.file not in hashes:
        try:
            hashes[span.file] = line_hashes(Path(span.file).read_bytes().decode("utf-8", "replace"))
        except (OSError, ValueError):  # not there, or no name that a file can have
            hashes[span.file] = []
    lines = hashes[span.file]
    return lines[span.line - 1] if 0 < span.line <= len(lines) else ""


def _fix(f: Finding, view: View, sources: Sources) -> dict[str, Any]:
    fix = f.fix
    assert fix is not None
    gone = {"startLine": fix.line, "startColumn": 1, "endLine": fix.end_line}
    if not fix.new:  # with its line break
        gone |= {"endLine": fix.end_line + 1, "endColumn": 1}
    elif (last := sources.line(fix.file, fix.end_line)) is not None:  # without: where no column is told, a region ends before it as well
        gone |= {"endColumn": len(last) + 1}
    change = {"deletedRegion": gone, "insertedContent": {"text": fix.new.removesuffix("\n").removesuffix("\r")}}
    return {
        "description": _message(f.help or "replace it"),
        "artifactChanges": [{"artifactLocation": _artifact(fix.file, view), "replacements": [change]}],
    }
