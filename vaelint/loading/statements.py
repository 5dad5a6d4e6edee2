"""Which statements of a file's top level are run, and how. Runs no user code, imports no torch."""

from __future__ import annotations
import __future__

import ast
from typing import Any

from vaelint.repository.dataflow import fills, is_main_guard


def defines(node: ast.stmt) -> bool:
    """A definition, an assignment, an import; or a choice between such: `if torch.cuda.is_available(): device = ...`."""
    if isinstance(node, ast.If):
        return not is_main_guard(node) and all(defines(n) or _prints(n) for n in (*node.body, *node.orelse))
    return isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign)


def _prints(node: ast.stmt) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and ast.unparse(call.func) == "print"


def fills_a_parser(node: ast.stmt) -> bool:
    """`parser.add_argument(...)`: what the definitions after it read from the arguments would be missing without it."""
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in ("add_argument", "set_defaults")


def definitions_of(stopped: ast.stmt, rest: list[ast.stmt]) -> tuple[list[ast.stmt], set[str]]:
    """What can be run after a statement that raised: definitions, less empty containers that what is left out would fill.

    And the names of all that it would fill.
    """
    kept = [n for n in rest if defines(n) or fills_a_parser(n)]
    dropped = [stopped, *(n for n in rest if n not in kept)]
    filled = set().union(*map(fills, dropped))
    known = [n for n in kept if not (isinstance(n, ast.Assign) and _is_empty(n.value) and {ast.unparse(t) for t in n.targets} & filled)]
    return known, filled


def _is_empty(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return not node.args and not node.keywords and ast.unparse(node.func) in ("list", "dict", "set")
    return (isinstance(node, ast.List) and not node.elts) or (isinstance(node, ast.Dict) and not node.keys)


def future_flags(tree: ast.Module) -> int:
    names = [a.name for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__" for a in n.names]
    flags: list[int] = [getattr(__future__, name).compiler_flag for name in names]
    return sum(flags)


def late_futures(body: list[ast.stmt]) -> list[ast.stmt]:
    """Imports from `__future__` behind other statements, which Python takes in a notebook only."""
    futures = [n for n in body if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
    first = next((i for i, n in enumerate(body) if n not in futures and not (i == 0 and isinstance(n, ast.Expr))), len(body))
    return [n for n in futures if body.index(n) > first]


def without_training(tree: ast.Module) -> tuple[list[ast.stmt], list[int]]:
    """The top-level statements less those that train (they call `.backward()`, if only through the file's functions), and their lines."""
    fitted = _fitted(tree)
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
    kept: list[ast.stmt] = []
    skipped: list[int] = []
    over = False  # a Keras model was fitted at the top level: what follows uses what was trained
    for node in tree.body:
        is_definition = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom)
        if is_definition or not (over or _trains(node, functions, set(), fitted)):
            kept.append(node)
        elif not is_main_guard(node):  # never run anyway
            if not over:
                skipped.append(node.lineno)
            over = over or (bool(fitted) and isinstance(node, ast.Expr | ast.Assign) and _fits(node, fitted))
    return kept, skipped


_FITS = frozenset({"fit", "fit_generator", "train_on_batch", "evaluate", "predict"})
"""What runs a Keras model over a data set."""


def _fitted(tree: ast.Module) -> frozenset[str]:
    """What the file compiles as a Keras model, as it is written there."""
    calls = (n.func for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr == "compile")
    return frozenset(ast.unparse(f.value) for f in calls) - {"torch", "re"}


def _is_fit(function: ast.expr, fitted: frozenset[str]) -> bool:
    return isinstance(function, ast.Attribute) and function.attr in _FITS and ast.unparse(function.value) in fitted


def _fits(node: ast.stmt, fitted: frozenset[str]) -> bool:
    return any(isinstance(n, ast.Call) and _is_fit(n.func, fitted) and ast.unparse(n.func).endswith(".fit") for n in ast.walk(node))


def _trains(
    node: ast.AST, functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef], seen: set[str], fitted: frozenset[str] = frozenset()
) -> bool:
    for part in ast.walk(node):
        if not isinstance(part, ast.Call):
            continue
        if isinstance(part.func, ast.Attribute) and part.func.attr == "backward":
            return True
        if _is_fit(part.func, fitted):
            return True
        if isinstance(part.func, ast.Name) and part.func.id in functions and part.func.id not in seen:
            seen.add(part.func.id)
            if _trains(functions[part.func.id], functions, seen, fitted):
                return True
    return False


def forget_empty(names: set[str], held: dict[str, Any]) -> None:
    """Takes away the lists, dictionaries and sets that nothing has filled: an empty one would pass for what it was to hold."""
    for name in names & held.keys():
        if type(held[name]) in (list, dict, set) and not held[name]:
            del held[name]
