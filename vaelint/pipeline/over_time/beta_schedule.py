"""Beta beyond the observed iterations: where the script reckons it from a counter of steps or epochs, by the same arithmetic.

The expression is read from the source and evaluated at other values of the counter, by source/arithmetic.py: no user code runs. It counts
only if it gives what was observed in each observed iteration.
"""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

from vaelint.observe.seen import Held, Iteration
from vaelint.source.arithmetic import NotArithmetic, value_of
from vaelint.source.written import SourceFile

_POINTS = 240  # that are drawn
_CLOSE = 1e-3  # relative
_LONGEST = 10_000_000  # values of a counter
_Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef


def schedule_of(seen: Sequence[Iteration], betas: Sequence[float | None]) -> dict[str, Any] | None:
    """Beta for each value of the counter that it is reckoned from, to the last; None where it cannot be known.

    Args:
        betas: the effective beta of each iteration of `seen`, None where it is not known.
    """
    known = [(i, beta) for i, beta in zip(seen, betas, strict=True) if beta is not None and i.held]
    if not known or len({len(i.held) for i, _ in known}) != 1:
        return None
    for level in range(len(known[0][0].held)):
        rows = [(i.held[level], beta) for i, beta in known]
        for name in rows[-1][0].names:
            if (factor := _factor(name, rows)) is not None and (made := _reckoned(name, factor, level, known)) is not None:
                return made
    return None


def _named(file: str) -> str:
    """A file as places are named: from the folder of the run, where it is below it."""
    name = os.path.relpath(file)
    return file if name.startswith(os.pardir) else name


def _factor(name: str, rows: Sequence[tuple[Held, float]]) -> float | None:
    """What a variable has to be multiplied with to give beta in all iterations."""
    pairs = [(held.names.get(name), beta) for held, beta in rows]
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v, _ in pairs):
        return None
    values = [(float(v), beta) for v, beta in pairs if isinstance(v, int | float)]
    largest = max(values, key=lambda pair: abs(pair[0]))
    if largest[0] == 0:
        return None
    factor = largest[1] / largest[0]
    if any(abs(v * factor - beta) > _CLOSE * abs(largest[1]) for v, beta in values) or factor == 0:
        return None
    still = len({v for v, _ in values}) == 1
    if still and (values[0][0] == 1 or abs(factor - 1) > _CLOSE):  # many variables keep one value, and many of them are 1
        return None
    return 1.0 if abs(factor - 1) < _CLOSE / 10 else factor  # measured in single precision


def _reckoned(name: str, factor: float, level: int, known: Sequence[tuple[Iteration, float]]) -> dict[str, Any] | None:
    """The schedule of a variable, where one assignment makes it of one counter."""
    first, last = known[0][0].held, known[-1][0].held
    own = last[level]
    scope = _scope(own)
    made = [s for s in _inside(scope) if isinstance(s, ast.Assign | ast.AnnAssign) and _makes(s, name)]
    looped = [s for loop in _inside(scope) if isinstance(loop, ast.For | ast.While) for s in _inside(loop) if s in made]
    if len(set(looped or made)) != 1 or (statement := (looped or made)[0]).value is None:
        return None
    for counter in dict.fromkeys(n.id for n in ast.walk(statement.value) if isinstance(n, ast.Name)):
        values = _counted(counter, level, first, last, known[0][0])
        if values is None or len(values) < 2 or any(counter not in i.held[level].names for i, _ in known):
            continue
        pairs = [(i.held[level].names[counter], beta) for i, beta in known]
        try:
            if all(abs(_at(statement.value, counter, n, own) * factor - beta) <= _CLOSE * max(abs(beta), _CLOSE) for n, beta in pairs):
                drawn = sorted({*values[:: max(1, len(values) // _POINTS)], values[-1], *(n for n, _ in pairs if n in values)})
                return {
                    "counter": counter,
                    "expression": ast.unparse(statement),
                    "span": {"file": _named(own.file), "line": statement.lineno},
                    "at": drawn,
                    "beta": [float(f"{factor * _at(statement.value, counter, n, own):.6g}") for n in drawn],
                    "observed": [[n, beta] for n, beta in dict(pairs).items()],
                }
        except NotArithmetic:
            continue
    return None


def _at(expression: ast.expr, counter: str, value: int, held: Held) -> float:
    """The expression where the counter has a value. Raises NotArithmetic."""
    found = value_of(expression, {**held.names, counter: value}, held.outer)
    if not isinstance(found, int | float):
        raise NotArithmetic
    return float(found)


def _counted(counter: str, level: int, first: Sequence[Held], last: Sequence[Held], start: Iteration) -> range | None:
    """All values that a counter takes in the training: those of its loop, or one for each turn of all loops where it is counted up."""
    now = last[level].names.get(counter)
    if not isinstance(now, int) or isinstance(now, bool):
        return None
    for at, held in enumerate(last[level:], level):
        if held.names.get(counter) != now:
            continue
        scope = _scope(held)
        for loop in _inside(scope):
            if isinstance(loop, ast.For) and _around(loop, held.line) and counter in _names(loop.target):
                return _turns(loop, held)
        if (values := _counted_up(counter, scope, held, level, first, last[at + 1 :], start)) is not None:
            return values if len(values) > 1 else None
    return None


def _counted_up(
    counter: str, scope: _Scope, held: Held, level: int, first: Sequence[Held], outside: Sequence[Held], start: Iteration
) -> range | None:
    """The values of a counter that one statement of a function raises by 1, one a turn of the loops around it; empty if not known."""
    up = [s for s in _inside(scope) if isinstance(s, ast.AugAssign) and isinstance(s.op, ast.Add) and _names(s.target) == {counter}]
    if len(up) != 1 or not isinstance(up[0].value, ast.Constant) or up[0].value.value != 1:
        return None
    loops = [(r, held) for r in _inside(scope) if isinstance(r, ast.For) and _around(r, up[0].lineno)][::-1]
    loops += [(r, h) for h in outside for r in _inside(_scope(h)) if isinstance(r, ast.For) and _around(r, h.line)]
    turns = [_turns(loop, where) for loop, where in loops]
    if turns and turns[0] is None and start.batches is not None:  # a loader that no variable holds
        turns[0] = range(start.batches)
    total = math.prod(0 if t is None else len(t) for t in turns)
    begun = first[level].names.get(counter)
    if not isinstance(begun, int) or not 1 < total < _LONGEST:
        return range(0)
    zero = begun - (start.number - 1)
    return range(zero, zero + total)


def _turns(loop: ast.For, held: Held) -> range | None:
    """The values of a loop's counter, one for each turn; None where they cannot be known."""
    over = loop.iter
    while isinstance(over, ast.Call) and isinstance(over.func, ast.Name) and over.func.id in ("enumerate", "tqdm", "trange") and over.args:
        if over.func.id == "trange":
            break
        if over.func.id == "enumerate" and len(over.args) > 1:
            return None
        over = over.args[0]
    if isinstance(over, ast.Call) and isinstance(over.func, ast.Name) and over.func.id == "trange":
        over = ast.Call(ast.Name("range"), over.args, [])
    try:
        found = value_of(over, held.names, held.outer) if not isinstance(over, ast.Call) or _is_range(over) else None
        if isinstance(found, range):
            return found if len(found) < _LONGEST else None
        if found is not None and type(found).__module__.startswith("torch."):
            return range(len(found))
    except (NotArithmetic, TypeError):
        pass
    return None


def _is_range(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "range"


def _scope(held: Held) -> _Scope:
    """The innermost function around the line that runs; the module where there is none."""
    tree = SourceFile(held.file).tree
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and _around(n, held.line)]
    return max(functions, key=lambda f: f.lineno, default=tree)


def _around(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """What is in a scope or a statement, without functions and classes in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield child
            yield from _inside(child)


def _makes(statement: ast.Assign | ast.AnnAssign, name: str) -> bool:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return len(targets) == 1 and isinstance(targets[0], ast.Name) and targets[0].id == name


def _names(target: ast.expr) -> set[str]:
    """The names that a loop gives values to; of `enumerate`, the first alone is a counter."""
    if isinstance(target, ast.Tuple):
        target = target.elts[0]
    return {target.id} if isinstance(target, ast.Name) else set()
