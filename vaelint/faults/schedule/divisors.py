"""Whether a number of some code only divides others: a period, a length of warm-up."""

from __future__ import annotations

import ast

_DIVISIONS = (ast.Div, ast.FloorDiv, ast.Mod)


def divides(body: ast.AST, node: ast.expr) -> bool:
    """Whether an expression stands in a divisor, or all that is named after it does."""
    under = {part for d in _divisors(body) for part in ast.walk(d)}
    if node in under:
        return True
    names = {
        t.id
        for a in ast.walk(body)
        if isinstance(a, ast.Assign) and node in set(ast.walk(a.value))
        for t in a.targets
        if isinstance(t, ast.Name)
    }
    read = [n for n in ast.walk(body) if isinstance(n, ast.Name) and n.id in names and isinstance(n.ctx, ast.Load)]
    return bool(read) and all(n in under for n in read)


def _divisors(body: ast.AST) -> list[ast.expr]:
    return [n.right for n in ast.walk(body) if isinstance(n, ast.BinOp) and isinstance(n.op, _DIVISIONS)]
