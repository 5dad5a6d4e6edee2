"""The values of plain expressions: literals, arithmetic, comparisons, attributes and subscripts. Runs no user code, imports no torch."""

from __future__ import annotations

import argparse
import ast
import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vaelint.repository.lookups import Names
from vaelint.repository.objects import Definition, Instance, Unknown
from vaelint.repository.scopes import Scope

_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b, ast.Is: lambda a, b: _same(a, b),
    ast.IsNot: lambda a, b: not _same(a, b),
}  # fmt: skip


class Expressions(Names):
    """Reads expressions without calls."""

    def _read_constant(self, node: ast.Constant, scope: Scope) -> Any:
        return node.value

    def _read_name(self, node: ast.Name, scope: Scope) -> Any:
        return self.lookup(node.id, scope)

    def _read_list(self, node: ast.List, scope: Scope) -> Any:
        return list(self._items(node.elts, scope))

    def _read_tuple(self, node: ast.Tuple, scope: Scope) -> Any:
        return tuple(self._items(node.elts, scope))

    def _items(self, nodes: list[ast.expr], scope: Scope) -> Iterator[Any]:
        for node in nodes:
            if isinstance(node, ast.Starred):
                yield from self._value(node.value, scope)
            else:
                yield self._value(node, scope)

    def _read_dict(self, node: ast.Dict, scope: Scope) -> Any:
        found: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                found.update(self._value(value, scope))
                continue
            try:
                found[self._value(key, scope)] = self._value(value, scope)
            except Unknown:
                continue  # the other keys are known all the same
        return found

    def _read_binop(self, node: ast.BinOp, scope: Scope) -> Any:
        left, right = self._value(node.left, scope), self._value(node.right, scope)
        if isinstance(left, Path) and isinstance(node.op, ast.Div):
            return left / str(right)
        plain = (int, float, str, list, tuple)
        if not isinstance(left, plain) or not isinstance(right, plain) or (isinstance(node.op, ast.Pow) and not _small(right)):
            raise Unknown
        return _BINARY[type(node.op)](left, right)

    def _read_unaryop(self, node: ast.UnaryOp, scope: Scope) -> Any:
        value = self._value(node.operand, scope)
        if isinstance(node.op, ast.Not):
            return not value
        return -value if isinstance(node.op, ast.USub) else +value

    def _read_boolop(self, node: ast.BoolOp, scope: Scope) -> Any:
        value: Any = None
        for part in node.values:
            value = self._value(part, scope)
            if bool(value) is isinstance(node.op, ast.Or):
                return value
        return value

    def _read_compare(self, node: ast.Compare, scope: Scope) -> Any:
        left = self._value(node.left, scope)
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            right = self._value(right_node, scope)
            if not _COMPARE[type(op)](left, right):
                return False
            left = right
        return True

    def _read_ifexp(self, node: ast.IfExp, scope: Scope) -> Any:
        return self._value(node.body if self._value(node.test, scope) else node.orelse, scope)

    def _read_joinedstr(self, node: ast.JoinedStr, scope: Scope) -> Any:
        return "".join(str(self._value(p.value if isinstance(p, ast.FormattedValue) else p, scope)) for p in node.values)

    def _read_subscript(self, node: ast.Subscript, scope: Scope) -> Any:
        if (given := self._stored(ast.unparse(node), scope)) is not None:
            return given
        owner = self._value(node.value, scope)
        if isinstance(node.slice, ast.Slice):
            bounds = [self._value(b, scope) if b is not None else None for b in (node.slice.lower, node.slice.upper, node.slice.step)]
            return owner[slice(*bounds)]
        return owner[self._value(node.slice, scope)]

    def _read_attribute(self, node: ast.Attribute, scope: Scope) -> Any:
        if (given := self._stored(ast.unparse(node), scope)) is not None:
            return given
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            return self._of_self(node.attr, scope)
        owner = self._value(node.value, scope)
        if isinstance(owner, argparse.Namespace):
            if not hasattr(owner, node.attr):
                raise Unknown
            return getattr(owner, node.attr)
        if isinstance(owner, dict):
            return owner[node.attr]
        if isinstance(owner, Instance):
            return self._of_instance(owner, node.attr)
        if isinstance(owner, Definition):
            return self._member(owner, node.attr)
        raise Unknown


def _same(left: Any, right: Any) -> bool:
    """`is`: a class or function is the same wherever it is read."""
    if isinstance(left, Definition) and isinstance(right, Definition):
        return (left.node, left.name) == (right.node, right.name)
    return left is right


def _small(value: Any) -> bool:
    """Whether a power of it is no matter of memory."""
    return isinstance(value, int | float) and abs(value) <= 16
