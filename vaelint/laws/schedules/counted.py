"""Whether a number is a counter that the user's code counts up, and a weight is reckoned from it."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator

from vaelint.laws.bench import Bench
from vaelint.laws.schedules.reckoned import Reckoned
from vaelint.source.arithmetic import NotArithmetic

_CLOSE = 1e-6
_SINCE = 20  # a step may be several iterations of training


def is_counted(bench: Bench, weight: Reckoned, counter: str) -> bool:
    """Whether code of the weight's file counts it up: `step += 1`, `step.add_(1)`, `for step in range(n)`; and nothing counts it down."""
    name = counter.rpartition(".")[2]
    tree = bench.model.source.file(weight.place.file).tree
    in_place = [n for n, of in changes_in_place(tree) if of == name]
    moved = [n for n in ast.walk(tree) if isinstance(n, ast.AugAssign) and _last_name(n.target) == name]
    loops = [n for n in ast.walk(tree) if isinstance(n, ast.For) and any(_last_name(t) == name for t in ast.walk(n.target))]
    up = any(isinstance(n.op, ast.Add) for n in moved) or any(_counts(n.iter) for n in loops) or "add_" in in_place
    return up and not any(isinstance(n.op, ast.Sub) for n in moved) and "sub_" not in in_place


def changes_in_place(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The methods that change a tensor in place, each with the last name of what it is called on."""
    for node in ast.walk(tree):
        func = node.func if isinstance(node, ast.Call) else None
        name = _last_name(func.value) if isinstance(func, ast.Attribute) else None
        if isinstance(func, ast.Attribute) and name is not None and func.attr.endswith("_") and not func.attr.endswith("__"):
            yield func.attr, name


def _counts(iterated: ast.expr) -> bool:
    return isinstance(iterated, ast.Call) and (
        _last_name(iterated.func) in ("enumerate", "count") or (_last_name(iterated.func) == "range" and len(iterated.args) < 3)
    )


def _last_name(node: ast.AST) -> str | None:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None


def is_made_by(weight: Reckoned, counter: str, now: float) -> bool:
    """Whether the weight has its value of the run at the counter's value, or at one shortly before: the step has counted since."""
    for at in (now - since for since in range(_SINCE)):
        try:
            if math.isclose(weight.at(counter, at), weight.value, rel_tol=_CLOSE, abs_tol=_CLOSE):
                return True
        except NotArithmetic:
            return False
    return False
