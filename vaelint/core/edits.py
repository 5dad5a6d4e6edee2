"""Edits of source text: exact spans and what stands there instead. What is outside is kept, comments included. Imports no torch."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from vaelint.core.finding import Span, Suggestion
from vaelint.late import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """New text in the place of a span. A span that ends where it starts is an insertion."""

    span: Span
    new: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """Edits that belong together, and what they change, in words that follow "this": "draws eps in the shape of std"."""

    says: str
    edits: tuple[Edit, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Proposal:
        """The inverse of `to_json`."""
        return Proposal(data["says"], tuple(Edit(Span(**e["span"]), e["new"]) for e in data["edits"]))

    @property
    def files(self) -> set[str]:
        """The files it changes."""
        return {e.span.file for e in self.edits}


def applied(text: str, edits: Iterable[Edit]) -> str | None:
    """The text with all edits made; None where two of them overlap or a span lies outside."""
    starts = _line_starts(text)
    places: list[tuple[int, int, str]] = []
    for edit in edits:
        start, end = _offset(starts, edit.span.line, edit.span.column), _offset(starts, edit.span.end_line, edit.span.end_column)
        if start is None or end is None or not start <= end <= len(text):
            return None
        places.append((start, end, edit.new))
    places = sorted(set(places))
    if any(after[0] < before[1] for before, after in itertools.pairwise(places)):
        return None
    for start, end, new in reversed(places):
        text = text[:start] + new + text[end:]
    return text


def parses(text: str | None) -> bool:
    """Whether a text is Python."""
    if text is None:
        return False
    try:
        ast.parse(without_mark(text))
    except (SyntaxError, ValueError):
        return False
    return True


def suggestion(text: str, proposal: Proposal) -> Suggestion | None:
    """A proposal as whole lines of its file; None when it touches several files."""
    if len(proposal.files) != 1 or (new := applied(text, proposal.edits)) is None:
        return None
    first = min(e.span.line for e in proposal.edits)
    last = max(e.span.end_line or e.span.line for e in proposal.edits)
    before, after = without_mark(text).split("\n"), without_mark(new).split("\n")
    return Suggestion(next(iter(proposal.files)), first, last, "\n".join(after[first - 1 : len(after) - (len(before) - last)]))


def _line_starts(text: str) -> Sequence[int]:
    """Where each line's first column is. A byte order mark stands before that of line 1, as for Python's own columns."""
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    return [len(text) - len(without_mark(text)), *starts[1:]]


def without_mark(text: str) -> str:
    """The text behind its byte order mark, which editors and Python's parser leave out."""
    return text.removeprefix("\ufeff")


def _offset(starts: Sequence[int], line: int | None, column: int | None) -> int | None:
    if line is None or column is None or not 1 <= line < len(starts):
        return None
    return starts[line - 1] + column - 1
