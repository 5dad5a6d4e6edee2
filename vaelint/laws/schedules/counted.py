"""Whether a number is a counter that the user's code counts up, and a weight is reckoned from it."""

from __future__ import annotations

import ast
import math

from vaelint.laws.bench import Bench
from vaelint.laws.schedules.reckoned import Reckoned
from vaelint.source.arithmetic import NotArithmetic

_CLOSE = 1e-6
_SINCE = 20  # a step may be several iterations of training


def is_counted(bench: Bench, weight: Reckoned, counter: str) -> bool:
    """Whether code of the weight's file counts it up: `step += 1`, `for step in range(n)`; and nothing counts it down."""
    name = counter.rpartition(".")[2]
    tree = bench.model.source.file(weight.place.file).tree
    moved = [n for n in ast.walk(tree) if isinstance(n, ast.AugAssign) and _last_name(n.target) == name]
    loops = [n for n in ast.walk(tree) if isinstance(n, ast.For) and any(_last_name(t) == name for t in ast.walk(n.target))]
    up = any(isinstance(n.op, ast.Add) for n in moved) or any(_counts(n.iter) for n in loops)
    return up and not any(isinstance(n.op, ast.Sub) for n in moved)


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
