"""Which names statements read and give values to, and which statements of a file others need. Runs no user code, imports no torch."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator, Sequence

from vaelint.core.reach import reachable


def needed_of(tree: ast.Module, names: set[str]) -> list[ast.stmt]:
    """The top-level statements of a file that `names` need, in order: imports, definitions and values, and what these need in turn."""
    run = {i: n for i, n in enumerate(tree.body) if not isinstance(n, ast.For | ast.While | ast.With) and not is_main_guard(n)}
    given = {i: stores(n) | (fills(n) if isinstance(n, ast.Expr | ast.Assign) else set()) for i, n in run.items()}
    seen = reachable(names, lambda name: [needed for i, own in given.items() if name in own for needed in loads(tree.body[i])])
    kept = {i for i, own in given.items() if own & seen}
    kept |= {i for i, n in enumerate(tree.body) if _fills_a_parser(n, seen)}
    open_names = seen - set().union(*(stores(tree.body[i]) for i in kept)) - set(vars(builtins)) if kept else set()
    if open_names:  # one of these may come from `from x import *`
        kept |= {i for i, n in enumerate(tree.body) if isinstance(n, ast.ImportFrom) and n.names[0].name == "*"}
    future = {i for i, n in enumerate(tree.body) if isinstance(n, ast.ImportFrom) and n.module == "__future__"}
    return [node for i, node in enumerate(tree.body) if i in kept | future]


def loads(node: ast.AST) -> set[str]:
    """The names that a node takes from outside: not those bound by its own comprehensions, lambdas and functions."""
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Load) else set()
    found = set().union(*(loads(child) for child in ast.iter_child_nodes(node)))
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        found.add(node.target.id)
    if isinstance(node, ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef):
        bound = {part.arg for part in ast.walk(node.args) if isinstance(part, ast.arg)}
        found -= bound | (set() if isinstance(node, ast.Lambda) else set().union(*(stores(inner) for inner in node.body)))
    elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        found -= set().union(*(stores(c.target) for c in node.generators))
    return found


def stores(node: ast.AST) -> set[str]:
    """The names that a statement gives a value to."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    inner = set().union(*(stores(child) for child in ast.iter_child_nodes(node)))
    return inner | ({node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else set())


FILLS = frozenset({"append", "extend", "add", "update", "insert", "setdefault"})


def fills(node: ast.AST) -> set[str]:
    """The names of lists, dicts and sets that a statement puts something into."""
    return {
        n.value.id
        for n in ast.walk(node)
        if isinstance(n, ast.Attribute | ast.Subscript)
        and isinstance(n.value, ast.Name)
        and (n.attr in FILLS if isinstance(n, ast.Attribute) else isinstance(n.ctx, ast.Store))
    }


def read_before_stored(name: str, body: Sequence[ast.stmt]) -> bool:
    """Whether the statements read `name` before one of them gives it a value."""
    for node in _simple(body):
        if name in loads(node):
            return True
        if name in stores(node):
            return False
    return False


def _simple(body: Sequence[ast.stmt]) -> Iterator[ast.AST]:
    """The statements in order, blocks taken apart: first what their head reads, then what they hold."""
    for node in body:
        if not hasattr(node, "body") or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node
            continue
        yield from (part for part in ast.iter_child_nodes(node) if not isinstance(part, ast.stmt))
        for block in ("body", "orelse", "finalbody"):
            yield from _simple(getattr(node, block, []))


def _fills_a_parser(node: ast.stmt, names: set[str]) -> bool:
    """`parser.add_argument(...)`, for a parser among the names: what is read from its options would be missing without."""
    func = node.value.func if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
    if not isinstance(func, ast.Attribute) or func.attr not in ("add_argument", "set_defaults"):
        return False
    return isinstance(func.value, ast.Name) and func.value.id in names


def is_main_guard(node: ast.AST) -> bool:
    """Whether a statement is `if __name__ == "__main__":`, which an import does not run."""
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def top_level(module: ast.Module) -> set[str]:
    """The names that importing a file gives values to."""
    return set().union(*(stores(n) for n in module.body if not isinstance(n, ast.For | ast.While | ast.With) and not is_main_guard(n)))
