"""Weights of a loss that the training code gets from where nobody can look, as a configuration. Runs no user code, imports no torch."""

from __future__ import annotations

import ast
from collections.abc import Sequence

NUMBERS = _ALONE, _SHARED = "1.0", "0.5"
_OPTIONS = frozenset({"ArgumentParser", "parse_args", "parse_known_args"})
_KEPT = frozenset({"wandb.config"})  # where a logger keeps the options


def weighted(body: Sequence[ast.stmt], root: str) -> list[tuple[str, str]] | None:
    """Puts numbers of ours in the place of what statements read from `root` (`args`, `self.config`), where all of that are factors.

    `w * a` gets 1, `w * a + (1 - w) * b` a half. Changes the statements, and returns each expression with its number; None, and nothing
    is changed, where something else than a factor is read from `root`.
    """
    parents = {child: node for part in body for node in ast.walk(part) for child in ast.iter_child_nodes(node)}
    found: dict[ast.expr, str] = {}
    shared = set[str]()
    for node in parents:
        if not isinstance(node, ast.Name | ast.Attribute) or ast.unparse(node) != root or not isinstance(node.ctx, ast.Load):
            continue
        whole = _whole(node, parents)
        above = parents.get(whole)
        if (
            isinstance(above, ast.BinOp)
            and isinstance(above.op, ast.Sub)
            and isinstance(above.left, ast.Constant)
            and above.left.value == 1
        ):
            shared.add(ast.unparse(whole))
            above = parents.get(above)
        if not isinstance(above, ast.BinOp) or not isinstance(above.op, ast.Mult | ast.Div):
            return None
        found[whole] = ast.unparse(whole)
    for node, text in found.items():
        number = ast.copy_location(ast.Constant(float(_SHARED if text in shared else _ALONE)), node)
        _exchange(parents[node], node, number)
    return list({text: _SHARED if text in shared else _ALONE for text in found.values()}.items()) if found else None


def makes_options(node: ast.stmt) -> bool:
    """Whether a statement makes the options of a script: the repository is asked for these, as there is no command line."""
    if not isinstance(node, ast.Assign):
        return False
    called = (p.func for p in ast.walk(node.value) if isinstance(p, ast.Call))
    return ast.unparse(node.value) in _KEPT or any(ast.unparse(func).rpartition(".")[2] in _OPTIONS for func in called)


def _whole(node: ast.expr, parents: dict[ast.AST, ast.AST]) -> ast.expr:
    """`args.loss["beta"]` of the `args` in it."""
    while True:
        above = parents.get(node)
        if not isinstance(above, ast.Attribute | ast.Subscript) or above.value is not node:
            return node
        node = above


def _exchange(parent: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for name, value in ast.iter_fields(parent):
        if value is old:
            setattr(parent, name, new)
        elif isinstance(value, list) and old in value:
            value[value.index(old)] = new
