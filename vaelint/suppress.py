"""`# vaelint: ignore[VAE401] reason` and `# noqa: VAE401`: findings people keep on purpose. Imports no torch.

A comment speaks for findings whose primary span starts on its line, and for those inside the statement that starts or ends
there: formatters move a trailing comment to a closing bracket.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vaelint.finding import Finding
from vaelint.result import TargetResult

_IGNORE = re.compile(r"#\s*vaelint:\s*ignore\s*(?:\[(?P<codes>[^\]]*)\])?\s*(?P<reason>[^#]*)", re.I)
_NOQA = re.compile(r"#\s*noqa\s*:\s*(?P<codes>[A-Z]+[0-9]+(?:[\s,]+[A-Z]+[0-9]+)*)", re.I)


@dataclass
class Comment:
    """One suppression comment."""

    file: str
    line: int
    codes: tuple[str, ...]  # codes or names as written; empty if it names none
    reason: str = ""
    used: set[str] = field(default_factory=set)

    def covers(self, finding: Finding) -> str | None:
        """The entry that names this finding's rule."""
        return next((c for c in self.codes if c.upper() == finding.code or c.lower() == finding.name), None)


class Source:
    """The comments and statements of one file."""

    def __init__(self, file: str, text: str) -> None:
        self.comments = list(_comments(file, text))
        self._statements: list[tuple[int, int]] = []
        self._blocks: list[tuple[int, int]] = []
        if self.comments:  # most files have none: then nothing else is needed
            try:
                tree = ast.parse(text)
            except (SyntaxError, ValueError):
                return
            simple = (n for n in ast.walk(tree) if isinstance(n, ast.stmt))
            self._statements = [(n.lineno, n.end_lineno or n.lineno) for n in simple]
            self._blocks = [(n.lineno, n.end_lineno or n.lineno) for n in tree.body]

    def lines_for(self, line: int) -> set[int]:
        """The lines where a comment may stand that speaks for a finding at `line`."""
        around = [(a, b) for a, b in self._statements if a <= line <= b]
        if not around:
            return {line}
        first, last = max(around)  # the innermost starts last
        inner = any(first < a <= last for a, _ in self._statements)  # it holds a block: its end is another statement's
        return {line, first} | (set() if inner else {last})

    def block(self, line: int) -> tuple[int, int]:
        """The top-level statement around a line: the unit that is "checked" or not."""
        return next(((a, b) for a, b in self._blocks if a <= line <= b), (line, line))


def apply(results: Sequence[TargetResult]) -> None:
    """Takes suppressed findings out and says so in the notes, with the comments that suppress nothing."""
    sources: dict[str, Source | None] = {}
    for result in results:
        kept = []
        for finding in result.findings:
            comment = _speaks(finding, sources)
            if comment is None:
                kept.append(finding)
                continue
            why = f" ({comment.reason})" if comment.reason else ""
            result.notes.append(f"suppressed: {finding.code} {finding.name} at {finding.span.file}:{finding.span.line}{why}")
        result.findings = kept
        result.settle()
    for result in results:
        if result.status != "failed":
            result.notes += _unused(result, sources)


def _speaks(finding: Finding, sources: dict[str, Source | None]) -> Comment | None:
    source = _source(finding.span.file, sources)
    if source is None or not source.comments:
        return None
    lines = source.lines_for(finding.span.line)
    for comment in source.comments:
        if comment.line in lines and (entry := comment.covers(finding)):
            comment.used.add(entry)
            return comment
    return None


def _unused(result: TargetResult, sources: dict[str, Source | None]) -> Iterator[str]:
    """Comments in code that this target ran, that name a rule which ran too and had nothing to say there."""
    seen = [s for s in _spans({"a": result.anatomy, "l": result.loss}) if _source(s[0], sources)]
    quiet = {c.upper() for c in result.quiet} | {f.code for f in result.findings}
    for file in sorted({f for f, _ in seen}):
        source = sources[file]
        assert source is not None
        blocks = {source.block(line) for f, line in seen if f == file}
        for comment in source.comments:
            if not any(a <= comment.line <= b for a, b in blocks):
                continue
            if not comment.codes:
                yield f"{file}:{comment.line}: this comment suppresses nothing: write # vaelint: ignore[CODE] reason"
            for code in comment.codes:
                if code.upper() in quiet and code not in comment.used:
                    yield f"{file}:{comment.line}: unused suppression of {code.upper()}"
                    comment.used.add(code)  # once, however many targets run this code


def _spans(value: Any) -> Iterator[tuple[str, int]]:
    if isinstance(value, dict):
        if isinstance(value.get("file"), str) and isinstance(value.get("line"), int):
            yield value["file"], value["line"]
        for v in value.values():
            yield from _spans(v)
    elif isinstance(value, list | tuple):
        for v in value:
            yield from _spans(v)


def _source(file: str, sources: dict[str, Source | None]) -> Source | None:
    if file not in sources:
        try:
            sources[file] = Source(file, Path(file).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            sources[file] = None
    return sources[file]


def _comments(file: str, text: str) -> Iterator[Comment]:
    if "vaelint" not in text and "noqa" not in text:
        return
    for line, comment in _tokens(text):
        if m := _IGNORE.search(comment):
            yield Comment(file, line, _split(m["codes"] or ""), m["reason"].strip())
        elif m := _NOQA.search(comment):
            codes = tuple(c for c in _split(m["codes"]) if c.upper().startswith("VAE"))
            if codes:
                yield Comment(file, line, codes)


def _split(codes: str) -> tuple[str, ...]:
    return tuple(c for c in re.split(r"[\s,]+", codes) if c)


def _tokens(text: str) -> Iterable[tuple[int, str]]:
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string
    except (tokenize.TokenError, SyntaxError):
        return
