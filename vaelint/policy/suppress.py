"""Findings that people keep on purpose, and comments that keep none. Imports no torch; the comments are read by `comments.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vaelint.core.errors import UsageError
from vaelint.core.finding import Finding, Span
from vaelint.core.result import TargetResult
from vaelint.core.setup import SETUP
from vaelint.core.sign import Found, sign
from vaelint.policy import comments
from vaelint.policy.comments import Comment, Commented

UNUSED = "VAE008"

Sources = dict[str, Commented | None]


def apply(results: Sequence[TargetResult], code_of: Callable[[str], str] = str.upper) -> None:
    """Takes suppressed findings out and says so in the notes; adds a finding for each comment that suppresses nothing.

    `code_of(word)` is the code of the rule that a word means; it raises UsageError where it means none. What stopped the
    analysis of a target stays: a target that was not looked at is never made to look clean.
    """
    sources: Sources = {}
    for result in results:
        kept = []
        for finding in result.findings:
            comment = None if essential(finding, result) else _speaks(finding, sources)
            if comment is None:
                kept.append(finding)
                continue
            why = f" ({comment.reason})" if comment.reason else ""
            result.notes.append(f"suppressed: {finding.code} {finding.name} at {finding.span.file}:{finding.span.line}{why}")
        result.findings = kept
    for result in results:
        if result.status != "failed":
            unused = list(_unused(result, sources, code_of))
            if unused:
                result.quiet = [c for c in result.quiet if c != UNUSED]
                result.findings = sorted([*result.findings, *unused], key=lambda f: (f.span.file, f.span.line, f.span.column, f.code))
        result.settle()


def essential(finding: Finding, result: TargetResult) -> bool:
    """Whether this is the finding that says why a target could not be analysed."""
    return result.status == "failed" and finding.code.startswith("VAE0")


def _speaks(finding: Finding, sources: Sources) -> Comment | None:
    source = _source(finding.span.file, sources)
    if source is None or not source.comments:
        return None
    lines = source.lines_for(finding.span.line)
    for comment in source.comments:
        near = not comment.misplaced if comment.whole_file else comment.line in lines
        if near and (entry := comment.covers(finding)):
            comment.used.add(entry)
            return comment
    return None


def _unused(result: TargetResult, sources: Sources, code_of: Callable[[str], str]) -> Iterator[Finding]:
    """Comments in code that this target ran, that name a rule which ran too and had nothing to say there."""
    if UNUSED not in result.quiet:  # not selected
        return
    seen = [s for s in _spans({"a": result.anatomy, "l": result.loss}) if _source(s[0], sources)]
    quiet = {c.upper() for c in result.quiet} | {f.code for f in result.findings}
    for file in sorted({f for f, _ in seen}):
        source = sources[file]
        assert source is not None
        blocks = {source.block(line) for f, line in seen if f == file}
        for comment in source.comments:
            if not comment.whole_file and not any(a <= comment.line <= b for a, b in blocks):
                continue
            for label in _faults(comment, quiet, code_of):
                yield _finding(comment, label)


def _faults(comment: Comment, quiet: set[str], code_of: Callable[[str], str]) -> Iterator[str]:
    """What is wrong with a comment, each thing once, however many targets run its code."""
    if not comment.codes and "" not in comment.used:
        comment.used.add("")
        yield "it names no rule: write # vaelint: ignore[CODE] reason"
    for code in comment.codes:
        if code in comment.used or (comment.foreign and not code.upper().startswith("VAE")):
            continue
        fault = "to apply to the whole file, it must be on its own line" if comment.misplaced else ""
        try:
            if (rule := code_of(code)) in quiet:
                fault = fault or f"{rule} finds nothing here"
        except UsageError as e:
            fault = f"{e.message}; {e.help}"
        if fault:
            comment.used.add(code)
            yield fault


def _finding(comment: Comment, label: str) -> Finding:
    span = Span(comment.file, comment.line, comment.column, comment.line, comment.end_column)
    return sign(SETUP[UNUSED], Found(span, label, help="remove it, or correct it", basis="shapes"), span, label)


def _spans(value: Any) -> Iterator[tuple[str, int]]:
    if isinstance(value, dict):
        if isinstance(value.get("file"), str) and isinstance(value.get("line"), int):
            yield value["file"], value["line"]
        for v in value.values():
            yield from _spans(v)
    elif isinstance(value, list | tuple):
        for v in value:
            yield from _spans(v)


def _source(file: str, sources: Sources) -> Commented | None:
    if file not in sources:
        try:
            sources[file] = Commented(file, comments.read(file))
        except (OSError, ValueError, SyntaxError):
            sources[file] = None
    return sources[file]
