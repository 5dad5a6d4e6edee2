"""Where training code has its loss: the statements that end a step. Runs no user code, imports no torch."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from vaelint.repository.objects import last_name
from vaelint.repository.scopes import Function
from vaelint.step.meaning import TOTAL_NAME, is_step_name

Path = list[tuple[list[ast.stmt], int]]
"""The blocks around a statement from the outside in, each with the place in it."""

MARKS = ("backward(", "def training_step(")
"""One of these stands in every file that trains."""


def endings(module: ast.Module, target: str) -> Iterator[Path]:
    """The way to every `.backward()`, and to what a `training_step` returns to Lightning where its class is another than the target."""

    def go(body: list[ast.stmt], path: Path, owner: ast.ClassDef | None, function: str) -> Iterator[Path]:
        for place, node in enumerate(body):
            here = [*path, (body, place)]
            returned = isinstance(node, ast.Return) and owner is not None and is_step_name(function)
            if (isinstance(node, ast.Expr) or returned) and loss_of(node) is not None:
                yield here
            inside = node if isinstance(node, ast.ClassDef) and node.name != target and _is_lightning(node) else owner
            name = node.name if isinstance(node, Function) else function
            for block in ("body", "orelse", "finalbody"):
                yield from go(getattr(node, block, []) if not isinstance(node, ast.Expr) else [], here, inside, name)

    yield from go(module.body, [], None, "")


def _is_lightning(node: ast.ClassDef) -> bool:
    names = {n.name for n in node.body if isinstance(n, Function)}
    return "training_step" in names and bool(node.bases)


def loss_of(end: ast.stmt) -> ast.expr | None:
    """The expression that a statement ends training with; None where it does not say which of several values it is."""
    if isinstance(end, ast.Expr):
        return backward_of(end.value)
    value = end.value if isinstance(end, ast.Return) else None
    if isinstance(value, ast.Dict):
        named = zip(value.keys, value.values, strict=True)
        return next((v for k, v in named if isinstance(k, ast.Constant) and k.value == "loss"), None)
    if isinstance(value, ast.Tuple):
        return next((part for part in value.elts if TOTAL_NAME.fullmatch(last_name(part))), None)
    return value if isinstance(value, ast.Name | ast.Subscript | ast.BinOp | ast.Call) else None


def backward_of(node: ast.expr) -> ast.expr | None:
    """What `backward()` is called on: `loss` in `loss.backward()`, `scaler.scale(loss).backward()`, `self.manual_backward(loss)`."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return None
    if node.func.attr == "manual_backward" and node.args:
        return node.args[0]
    if node.func.attr != "backward":
        return None
    owner = node.func.value
    if isinstance(owner, ast.Call) and isinstance(owner.func, ast.Attribute) and owner.func.attr == "scale" and len(owner.args) == 1:
        return owner.args[0]
    if node.args and ast.unparse(owner).rpartition(".")[2] in ("accelerator", "fabric"):
        return node.args[0]
    return owner


def around(path: Sequence[tuple[list[ast.stmt], int]]) -> tuple[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, ...]:
    """The functions and classes around the end of a path, from the outside in."""
    return tuple(n for body, place in path if isinstance(n := body[place], Function | ast.ClassDef))
