"""Which parameters a piece of the user's text chooses from a model: a filter, a comprehension, a loop that fills lists."""

from __future__ import annotations

import ast
from typing import Any

import torch

_HARMLESS: dict[str, Any] = {
    f.__name__: f for f in (any, all, len, list, tuple, set, filter, isinstance, str, sorted, id, next, iter, map, zip, enumerate, bool)
} | {"torch": torch, "nn": torch.nn}
"""What a choice of parameters may use beside the model."""
_METHODS = frozenset(
    [
        *("parameters", "named_parameters", "modules", "named_modules", "children", "named_children", "append", "extend"),
        *("startswith", "endswith", "lower", "upper", "split", "strip", "find", "count", "dim", "size", "numel", "ndimension"),
    ]
)
"""Methods that a choice may call: none changes a parameter."""
_STATEMENTS = (ast.For, ast.If, ast.Expr, ast.Continue, ast.Pass)


def chosen(node: ast.expr, model: torch.nn.Module, file: str) -> set[str] | None:
    """Names of the parameters that `[p for n, p in model.named_parameters() if ...]` holds, evaluated on the traced model.

    None where it reads anything but the model, torch and a few functions of Python.
    """
    root = _root_of([node], bound=set())
    if root is None:
        return None
    code = compile(ast.fix_missing_locations(ast.Expression(node)), file, "eval")
    return _names(lambda env: eval(code, env), model, root)


def filled(name: str, function: ast.AST, model: torch.nn.Module, file: str) -> set[str] | None:
    """Names of the parameters that a list holds which one loop of a function fills; None where it is filled otherwise, or unreadable."""
    statements = [s for s in ast.walk(function) if isinstance(s, ast.stmt)]
    loops = [s for s in statements if isinstance(s, ast.For) and name in filled_in(s)]
    outer = [s for s in loops if not any(s is not o and s in ast.walk(o) for o in loops)]
    if len(outer) != 1 or not all(isinstance(s, _STATEMENTS) for s in ast.walk(outer[0]) if isinstance(s, ast.stmt)):
        return None
    lists = filled_in(outer[0])
    starts = [(s, n.id) for s in statements if isinstance(s, ast.Assign) for t in s.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    starts = [(s, own) for s, own in starts if own in lists]
    if name not in {own for _, own in starts} or not all(_is_empty(s.value) for s, _ in starts):
        return None
    root = _root_of([outer[0]], bound=lists)
    if root is None:
        return None
    code = compile(ast.fix_missing_locations(ast.Module([outer[0]], [])), file, "exec")

    def run(env: dict[str, Any]) -> Any:
        env |= {other: [] for other in lists}
        exec(code, env)
        return env[name]

    return _names(run, model, root)


def _is_empty(node: ast.expr) -> bool:
    """`[]`, or `[], []`."""
    return isinstance(node, ast.List | ast.Tuple) and (
        all(map(_is_empty, node.elts)) if isinstance(node, ast.Tuple) and node.elts else not node.elts
    )


def filled_in(loop: ast.For) -> set[str]:
    """The names on which a loop calls append() or extend()."""
    calls = (c.func for c in ast.walk(loop) if isinstance(c, ast.Call) and isinstance(c.func, ast.Attribute))
    return {f.value.id for f in calls if f.attr in ("append", "extend") and isinstance(f.value, ast.Name)}


def _root_of(nodes: list[ast.AST], bound: set[str]) -> str | None:
    """The one name of a model that some code reads; None where it reads or calls anything else that is not known to be harmless."""
    parts = [part for node in nodes for part in ast.walk(node)]
    calls = [part.func for part in parts if isinstance(part, ast.Call)]
    if any(isinstance(f, ast.Attribute) and f.attr not in _METHODS for f in calls):
        return None
    if any(isinstance(part, ast.Attribute | ast.Subscript) and not isinstance(part.ctx, ast.Load) for part in parts):
        return None  # it changes something
    asked = (f.value for f in calls if isinstance(f, ast.Attribute) and f.attr in ("parameters", "named_parameters"))
    roots = {base.id for value in asked if isinstance(base := _root(value), ast.Name)}
    own = {n.id for n in parts if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    own |= {a.arg for part in parts if isinstance(part, ast.Lambda) for a in part.args.args}
    free = {n.id for n in parts if isinstance(n, ast.Name)} - own - roots - bound
    return next(iter(roots)) if len(roots) == 1 and free <= _HARMLESS.keys() else None


def _names(choose: Any, model: torch.nn.Module, root: str) -> set[str] | None:
    try:
        held = {id(p) for p in choose({"__builtins__": {}, **_HARMLESS, root: model})}
    except (AttributeError, TypeError, ValueError, LookupError):
        return None  # the text speaks of another model
    return {n for n, p in model.named_parameters() if id(p) in held}


def _root(node: ast.expr) -> ast.expr:
    """`model` of `model.encoder.fc`."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node
