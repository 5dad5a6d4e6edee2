"""Scripts of several commands, `python main.py train --data ...`: the one that trains, and its options. Imports no torch."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator, Sequence

from vaelint.discover.sources import TRAINS, methods_called

_TRAINS = re.compile(r"(?:^|[_-])(?:train|fit|training|pretrain|learn)(?:$|[_-])", re.IGNORECASE)


def training_command(trees: Sequence[ast.Module]) -> tuple[tuple[str, ...], list[ast.Module]]:
    """The word that starts the training, and the files without the options of the other commands; no word where there are no commands."""
    commands = {variable: name for tree in trees for variable, name in _commands(tree)}
    if not commands:
        return (), list(trees)
    learning = _learning(trees)
    chosen = next((v for v in commands if v in learning), None) or next((v for v, name in commands.items() if _TRAINS.search(name)), None)
    if chosen is None:
        return (), list(trees)
    others = _Without(set(commands) - {chosen})
    return (commands[chosen],), [others.visit(copy.deepcopy(tree)) for tree in trees]


def _commands(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The variables that hold the parser of a command, each with the command: `p = subparsers.add_parser("train")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _calls(node.value, "add_parser"):
            assert isinstance(node.value, ast.Call)
            name = node.value.args[0] if node.value.args else None
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield node.targets[0].id, name.value


def _learning(trees: Sequence[ast.Module]) -> set[str]:
    """The variables of parsers whose function, `p.set_defaults(func=train)`, takes gradients."""
    functions = {n.name: n for tree in trees for n in tree.body if isinstance(n, ast.FunctionDef)}
    found = set()
    for node in (n for tree in trees for n in ast.walk(tree) if _calls(n, "set_defaults")):
        assert isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        called = [functions[k.value.id] for k in node.keywords if isinstance(k.value, ast.Name) and k.value.id in functions]
        if isinstance(node.func.value, ast.Name) and any(methods_called(function) & TRAINS for function in called):
            found.add(node.func.value.id)
    return found


def _calls(node: ast.AST, method: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method


class _Without(ast.NodeTransformer):
    """Takes out what is asked of some variables: `parser_sample.add_argument(...)`."""

    def __init__(self, variables: set[str]) -> None:
        self._variables = variables

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """One statement: what stands in its place."""
        asked = node.value.func.value if isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute) else None
        own = isinstance(asked, ast.Name) and asked.id in self._variables
        return ast.copy_location(ast.Pass(), node) if own else node
