"""A single optimizer whose gradients are cleared and computed in each turn, and that nothing steps."""

from __future__ import annotations

import ast
from typing import Any

from vaelint.core.finding import Label, Span
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken
from vaelint.rule import Found


def never_stepped(bench: Bench, optimizer: Any) -> Broken | None:
    """Where a run of the step fills the gradients of all that an optimizer holds and moves none of it, and the function that clears them
    neither steps what it clears with nor hands it on to what may. A step that a caller takes is the caller's."""
    record = bench.trained
    if any(u.kind in ("stepped", "empty", "stale") for u in record.uses):
        return None
    filled = [c for c in record.backwards if c.leaves & optimizer.parameters and c.span is not None]
    if not filled or filled[-1].span is None:
        return None
    last: Span = filled[-1].span
    tree = bench.model.source.file(last.file).tree
    around = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.lineno <= last.line <= (n.end_lineno or n.lineno)]
    clears = _clears(around[-1]) if around else None
    if clears is None or _may_step(around[-1], clears) or _is_part_of_a_turn(tree, around[-1], clears):
        return None
    found = Found(
        Span(last.file, clears.lineno, clears.col_offset + 1, clears.end_lineno, (clears.end_col_offset or 0) + 1),
        label="clears gradients that no step has used",
        labels=(Label(last, "computes them, and nothing steps along them"),),
        why="no parameter moves: each turn clears what the turn before has computed",
        help="step after backward(): zero_grad(), backward(), step()",
    )
    return Broken("optimizer-never-steps", found, "an optimizer whose gradients are computed steps", "no parameter of it moves in a step")


def _clears(function: ast.FunctionDef) -> ast.Call | None:
    """The last clearing of gradients in a function, where one thing alone clears them."""
    calls = [n for n in ast.walk(function) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr == "zero_grad"]
    return max(calls, key=lambda c: c.lineno) if len({ast.unparse(c.func) for c in calls}) == 1 else None


def _may_step(function: ast.FunctionDef, clears: ast.Call) -> bool:
    """Whether a function steps what it clears gradients with, or gives it to another that may. A network steps by any optimizer."""
    assert isinstance(clears.func, ast.Attribute)
    own = ast.unparse(clears.func.value)
    calls = [n for n in ast.walk(function) if isinstance(n, ast.Call)]
    steps = {ast.unparse(c.func.value) for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "step"}
    given = {ast.unparse(a) for c in calls for a in (*c.args, *(k.value for k in c.keywords))}
    is_called = any(ast.unparse(c.func) == own for c in calls)
    renamed = any(isinstance(n, ast.Assign) and own in _parts(n.value) for n in ast.walk(function))
    returned = any(isinstance(n, ast.Return | ast.Yield) and n.value is not None and own in _parts(n.value) for n in ast.walk(function))
    return own in steps | given or renamed or returned or (is_called and bool(steps))


def _parts(value: ast.expr) -> set[str]:
    return {ast.unparse(n) for n in ast.walk(value) if isinstance(n, ast.Name | ast.Attribute)}


def _is_part_of_a_turn(tree: ast.Module, function: ast.FunctionDef, clears: ast.Call) -> bool:
    """Whether another function of the file calls it and steps something that goes by the same name there."""
    assert isinstance(clears.func, ast.Attribute)
    own = ast.unparse(clears.func.value).rpartition(".")[2]
    for other in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n is not function):
        calls = [n.func for n in ast.walk(other) if isinstance(n, ast.Call)]
        if function.name not in {ast.unparse(f).rpartition(".")[2] for f in calls}:
            continue
        if any(isinstance(f, ast.Attribute) and f.attr == "step" and own in ast.unparse(f.value).split(".") for f in calls):
            return True
    return False
