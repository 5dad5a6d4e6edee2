"""Whether code cannot do without a path: `assert exists(p)`, `if not exists(p): raise`, or download; no `try` around what reads it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import lru_cache
from types import FrameType

from vaelint.source.notebook import source_of_file

_LEAVES = frozenset({"exit", "quit", "_exit", "error"})
_FETCHES = re.compile(r"download|fetch|urlretrieve|wget|gdown", re.IGNORECASE)
_MAKES = frozenset({"makedirs", "mkdir"})


def is_wanted(frames: Iterable[FrameType]) -> bool:
    """Whether the answer "no" would end the script, or make it fetch what is not there. `frames`: the user's, innermost first."""
    for frame in frames:
        around = _around(frame.f_code.co_filename, frame.f_lineno)
        if any(isinstance(node, ast.Assert) for node in around):
            return True
        condition = next((n for n in around if isinstance(n, ast.If) and _spans(n.test, frame.f_lineno)), None)
        if condition is not None:
            return _refuses(condition)
        if not any(isinstance(node, ast.Return) for node in around):
            return False  # else the caller asks
    return False


def is_caught(frames: Iterable[FrameType]) -> bool:
    """Whether one of the frames, the user's, is in a `try` that has an answer to a file that is not there."""
    return any(_answered(frame) for frame in frames)


def _answered(frame: FrameType) -> bool:
    tries = [n for n in _around(frame.f_code.co_filename, frame.f_lineno) if isinstance(n, ast.Try) and n.handlers]
    return any(_spans(statement, frame.f_lineno) for found in tries for statement in found.body)


def _refuses(condition: ast.If) -> bool:
    """Whether the branch that is taken without the path ends or fetches, and does not make a folder of its own."""
    negated = any(isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.Not) for n in ast.walk(condition.test))
    branch = condition.body if negated else condition.orelse
    called = {_called(n) for statement in branch for n in ast.walk(statement) if isinstance(n, ast.Call)}
    ends = any(isinstance(n, ast.Raise) for statement in branch for n in ast.walk(statement)) or bool(called & _LEAVES)
    return (ends or any(map(_FETCHES.search, called))) and not called & _MAKES


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""


def _around(file: str, line: int) -> list[ast.stmt]:
    """The statements that a line is in, innermost first."""
    return [n for n in reversed(_statements(file)) if _spans(n, line)]


def _spans(node: ast.stmt | ast.expr, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


@lru_cache(maxsize=64)
def _statements(file: str) -> list[ast.stmt]:
    """All statements of a file by the lines where they begin, the inner ones after those around them."""
    try:
        tree = ast.parse(source_of_file(file))
    except (OSError, SyntaxError, ValueError):
        return []
    return sorted((n for n in ast.walk(tree) if isinstance(n, ast.stmt)), key=lambda n: (n.lineno, -(n.end_lineno or 0)))
