"""Offsets that a loop moves on: where `start` of `values[:, start:start + width]` gets its next value."""

from __future__ import annotations

import ast

from vaelint.core.finding import Span
from vaelint.source.written import Source, SourceFile


def moved_on_at(source: Source, place: Span | None) -> Span | None:
    """The one statement of the loop around a slice that moves the slice's lower bound on; None where there is none, or several."""
    if place is None:
        return None
    file = source.file(place.file)
    name = _lower_bound(file, place)
    loops = [n for n in file.nodes if isinstance(n, ast.For | ast.While) and n.lineno <= place.line <= (n.end_lineno or n.lineno)]
    if not name or not loops:
        return None
    innermost = max(loops, key=lambda n: n.lineno)
    moves = [n for n in ast.walk(innermost) if isinstance(n, ast.Assign | ast.AugAssign) and _sets(n, name)]
    return file.place(place.file, moves[0]) if len(moves) == 1 else None


def _lower_bound(file: SourceFile, place: Span) -> str:
    """The name that a slice on the lines of a place begins with."""
    here = (n for n in file.nodes if isinstance(n, ast.Slice) and place.line <= n.lineno <= (place.end_line or place.line))
    names = {n.lower.id for n in here if isinstance(n.lower, ast.Name)}
    return names.pop() if len(names) == 1 else ""


def _sets(node: ast.Assign | ast.AugAssign, name: str) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(isinstance(t, ast.Name) and t.id == name for t in targets)
