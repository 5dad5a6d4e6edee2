"""A step with another value for an argument that vaelint chose, and the place that asks for it."""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Callable
from typing import Any

from vaelint.core.finding import Span
from vaelint.core.paths import relative

Resolve = Callable[[str], Any]
"""The object that an expression of the step names, None where it names none."""

_LAST = "1000"  # a counter late in training


def other_value(text: str) -> str | None:
    """Another value for a weight or a counter of vaelint's; None for what is no number."""
    try:
        value = float(text)
    except ValueError:
        return None
    return _LAST if value == 0 else f"{value / 2:g}"


class Exchange(ast.NodeTransformer):
    """Puts a value in the place of a literal that is assigned to a name, or given to a parameter of that name."""

    def __init__(self, name: str, value: str | None, resolve: Resolve) -> None:
        self._name, self._resolve = name, resolve
        self._value = ast.parse(value, mode="eval").body if value is not None else None
        self.found, self.where = 0, Span("", 0)

    def _exchanged(self, node: ast.expr, callee: Any = None) -> ast.expr:
        if not isinstance(node, ast.Constant) or isinstance(node.value, str | bytes | bool | None):
            return node
        self.found += 1
        code = getattr(inspect.unwrap(callee), "__code__", None) if callable(callee) else None
        if code is not None and not self.where.line:
            self.where = Span(relative(code.co_filename), code.co_firstlineno)
        return ast.copy_location(copy.deepcopy(self._value), node) if self._value is not None else node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """`beta = 1.0`."""
        self.generic_visit(node)
        if any(isinstance(t, ast.Name) and t.id == self._name for t in node.targets):
            node.value = self._exchanged(node.value)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """`loss_fn(x, beta=1.0)`, and `loss_fn(x, 1.0)` where the parameter there is `beta`."""
        self.generic_visit(node)
        callee = self._resolve(ast.unparse(node.func))
        for keyword in node.keywords:
            if keyword.arg == self._name:
                keyword.value = self._exchanged(keyword.value, callee)
        at = _position(callee, self._name)
        if at is not None and at < len(node.args):
            node.args[at] = self._exchanged(node.args[at], callee)
        return node


def _position(callee: Any, name: str) -> int | None:
    """Which positional argument a parameter is; a function that is read from a class loses its first."""
    if not callable(callee):
        return None
    try:
        names = list(inspect.signature(callee).parameters)
    except (TypeError, ValueError):
        return None
    own = names[1:] if names[:1] == ["self"] else names
    return own.index(name) if name in own else None
