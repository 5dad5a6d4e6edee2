"""Statements of training code as those of a step: read, renamed, added to. Runs no user code, imports no torch."""

from __future__ import annotations

import ast
from collections.abc import Sequence

OF_TRAINER = ("self", "self.forward")


def attributes_of(name: str, body: Sequence[ast.AST]) -> set[str]:
    """The attributes that statements read from a name; none if they use it in another way as well."""
    found, owners = set[str](), set[int]()
    for part in (p for node in body for p in ast.walk(node)):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == name:
            found.add(part.attr)
            owners.add(id(part.value))
    bare = any(isinstance(p, ast.Name) and p.id == name and id(p) not in owners for node in body for p in ast.walk(node))
    return set() if bare else found


class Rename(ast.NodeTransformer):
    """Calls the model `model`, whatever the file calls it."""

    def __init__(self, models: set[str], through: bool) -> None:
        self._models, self._through = models, through

    def statement(self, node: ast.stmt) -> ast.stmt:
        """The statement, changed in place."""
        self.visit(node)
        return node

    def visit(self, node: ast.AST) -> ast.AST:
        """The node, or `model` in its place."""
        if self._through and isinstance(node, ast.Call) and ast.unparse(node.func) in OF_TRAINER:
            node.func = ast.copy_location(ast.Name("model", ast.Load()), node.func)
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load) and ast.unparse(node) in self._models:
            return ast.copy_location(ast.Name("model", ast.Load()), node)
        return self.generic_visit(node)


def assign(name: str, value: str, line: int) -> ast.stmt:
    return statement(f"{name} = {value}", line)


def statement(text: str, line: int) -> ast.stmt:
    """A statement that stands at a line of the user's file."""
    node = ast.parse(text).body[0]
    for part in ast.walk(node):
        if hasattr(part, "lineno"):
            part.lineno = part.end_lineno = line  # type: ignore[attr-defined]
    return node


def root_of(node: ast.expr) -> str | None:
    """`x` of `x`, `x.view(-1, 784)`, `x.to(device)`."""
    while isinstance(node, ast.Call | ast.Attribute):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None
