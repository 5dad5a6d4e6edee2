"""What a constructor takes as `**kwargs`: the parameters of the base class it hands them to, and the keys it reads. Imports no torch."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator

_NAMELESS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def constructors(cls: type) -> list[type]:
    """The classes of the user's that have a constructor of their own, the nearest first."""
    return [
        base
        for base in cls.__mro__
        if "__init__" in vars(base) and inspect.isfunction(vars(base)["__init__"]) and base.__module__[:6] != "torch."
    ]


def full_signature(cls: type) -> inspect.Signature:
    """The signature of a class with what its `**kwargs` stand for, as keywords. Raises TypeError or ValueError where there is none."""
    signature = inspect.signature(cls)
    return signature.replace(parameters=_completed(list(signature.parameters.values()), constructors(cls)))


def _completed(own: list[inspect.Parameter], chain: list[type]) -> list[inspect.Parameter]:
    star = next((p for p in own if p.kind is p.VAR_KEYWORD), None)
    tree = constructor_tree(chain[0]) if chain and star is not None else None
    if star is None or tree is None:
        return own
    found: dict[str, inspect.Parameter] = {}
    for key in _keys_read(tree, star.name):
        found.setdefault(key, inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY))
    handed = _handed_on(tree, star.name)
    more = False
    if handed is not None and len(chain) > 1:
        base = list(inspect.signature(vars(chain[1])["__init__"]).parameters.values())[1:]
        base = _completed(base, chain[1:])
        taken = {k.arg for k in handed.keywords} | {p.name for p in base[: sum(not isinstance(a, ast.Starred) for a in handed.args)]}
        more = any(p.kind is p.VAR_KEYWORD for p in base)
        for p in base:
            if p.name not in taken and p.kind not in _NAMELESS:
                found.setdefault(p.name, p.replace(kind=p.KEYWORD_ONLY))
    added = [p for name, p in found.items() if name not in {q.name for q in own}]
    keeps_star = more or handed is None
    return [*(p for p in own if p is not star), *added, *([star] if keeps_star or not added else [])]


def constructor_tree(cls: type) -> ast.AST | None:
    """The constructor that a class itself has, as a tree; None where there is no source."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(vars(cls)["__init__"])))
    except (OSError, TypeError, SyntaxError, ValueError, KeyError):
        return None


def _handed_on(tree: ast.AST, star: str) -> ast.Call | None:
    """The call of the base's constructor that gets `**kwargs`; without `self` where that is handed over."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr != "__init__":
            continue
        if any(k.arg is None and isinstance(k.value, ast.Name) and k.value.id == star for k in node.keywords):
            is_super = isinstance(node.func.value, ast.Call)
            return node if is_super else ast.Call(node.func, node.args[1:], node.keywords)
    return None


def _keys_read(tree: ast.AST, star: str) -> Iterator[str]:
    """`size` of `kwargs["size"]` and of `kwargs.pop("size")`, which must be there."""
    for node in ast.walk(tree):
        key: ast.expr | None = None
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and ast.unparse(node.value) == star:
            key = node.slice
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == f"{star}.pop" and len(node.args) == 1:
            key = node.args[0]
        if isinstance(key, ast.Constant) and isinstance(key.value, str) and key.value.isidentifier():
            yield key.value
