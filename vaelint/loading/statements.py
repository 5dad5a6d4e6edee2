"""Which statements of a file's top level are run, and how. Runs no user code, imports no torch."""

from __future__ import annotations
import __future__

import ast

from vaelint.repository.dataflow import is_main_guard


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
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
    kept: list[ast.stmt] = []
    skipped: list[int] = []
    for node in tree.body:
        is_definition = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom)
        if is_definition or not _trains(node, functions, set()):
            kept.append(node)
        elif not is_main_guard(node):  # never run anyway
            skipped.append(node.lineno)
    return kept, skipped


def _trains(node: ast.AST, functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef], seen: set[str]) -> bool:
    for part in ast.walk(node):
        if not isinstance(part, ast.Call):
            continue
        if isinstance(part.func, ast.Attribute) and part.func.attr == "backward":
            return True
        if isinstance(part.func, ast.Name) and part.func.id in functions and part.func.id not in seen:
            seen.add(part.func.id)
            if _trains(functions[part.func.id], functions, seen):
                return True
    return False
