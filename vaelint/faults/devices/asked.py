"""Devices that are asked for by name, on a machine that may not have them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from vaelint.core.finding import Span
from vaelint.faults.devices.devices import asks_for_gpu, last_name
from vaelint.late import dataclass

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


@dataclass(frozen=True)
class Asked:
    """A GPU asked for by name."""

    span: Span
    what: str


def asked_devices(model: Model) -> list[Asked]:
    """VAE602: places that name a GPU and are not behind a question whether there is one; one for each line.

    A device that is kept under a name may have been chosen where it got that name. On a machine with a GPU such a choice was made in
    favour of it, and is no fault: the text of the choice decides, so that the answer is the same on all machines.
    """
    found: dict[tuple[str, int], Asked] = {}
    for place, what in model.record.asked_for_cuda:
        if not _guarded(model, place) and not _chosen(model, place):
            found.setdefault((place.file, place.line), Asked(place, what))
    return list(found.values())


def _guarded(model: Model, place: Span) -> bool:
    return any(_covers(parts, place.line) for parts in _branches(model.source.file(place.file).tree))


@lru_cache(maxsize=16)
def _branches(tree: ast.AST) -> tuple[Sequence[ast.AST], ...]:
    return tuple(_branches_in(tree))


def _branches_in(tree: ast.AST) -> Iterator[Sequence[ast.AST]]:
    """What only happens where a question about a GPU was answered with yes: a branch, or what follows a way out on no."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If | ast.IfExp) and asks_for_gpu(node.test, tree):
            chosen = node.orelse if _is_denied(node.test) else node.body
            yield chosen if isinstance(chosen, list) else [chosen]
        blocks: list[list[ast.stmt]] = [b for field in ("body", "orelse") if isinstance(b := getattr(node, field, None), list)]
        for block in blocks:
            for i, part in enumerate(block):
                if isinstance(part, ast.If) and _is_denied(part.test) and asks_for_gpu(part.test, tree) and _leaves(part.body[-1]):
                    yield block[i + 1 :]  # a list, or it had no parts


def _is_denied(test: ast.expr) -> bool:
    return isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)


def _leaves(last: ast.stmt) -> bool:
    return isinstance(last, ast.Return | ast.Raise | ast.Continue | ast.Break)


def _covers(parts: Sequence[ast.AST], line: int) -> bool:
    placed = (p for p in parts if isinstance(p, ast.expr | ast.stmt))
    return any(p.lineno <= line <= (p.end_lineno or p.lineno) for p in placed)


def _chosen(model: Model, place: Span) -> bool:
    """Whether the device comes by a name that was given a choice: `device = "cuda" if torch.cuda.is_available() else "cpu"`.

    The default of a parameter is one too: whoever calls it says another. So is a setting of another file, which all files read.
    """
    file = model.source.file(place.file)
    expression = file.at(place) or file.statement(place.line)
    known = _definitions(file.tree)
    if expression is not None and any(is_default and expression in ast.walk(value) for _, value, is_default in known):
        return True  # `def load(data, device=torch.device("cuda"))`: made where the function is defined, whether it is called or not
    if expression is None or _names_a_gpu(expression):
        return False
    if _given_by_caller(expression, file.tree) or _is_setting(expression, file.tree):
        return True
    used = {last_name(n) for n in ast.walk(expression) if isinstance(n, ast.Name | ast.Attribute)}
    while more := {last_name(v) for name, v, _ in known if name in used and isinstance(v, ast.Name | ast.Attribute)} - used:
        used |= more  # `self.where = device`
    for name, value, is_default in known:
        behind = any(_covers(parts, value.lineno) for parts in _branches(file.tree))
        if name in used and _names_a_gpu(value) and (is_default or behind or _is_choice(value, file.tree)):
            return True
    return False


def _given_by_caller(expression: ast.AST, tree: ast.AST) -> bool:
    """Whether a place takes its device from a parameter of the function that it is in: `self.to(device)`.

    Or from an attribute that is never anything else: `self.device = device`.
    """
    said = _devices_said(expression)
    if any(isinstance(n, ast.Name) and n.id in _parameters_at(n, tree) for n in said):
        return True
    attributes = {n.attr for n in said if isinstance(n, ast.Attribute)}
    kept = [value for name, value, is_default in _definitions(tree) if name in attributes and not is_default]
    return bool(kept) and all(isinstance(v, ast.Name) and v.id in _parameters_at(v, tree) for v in kept)


def _is_setting(expression: ast.AST, tree: ast.AST) -> bool:
    """Whether a place takes its device from what another file holds: `device=config.DEVICE`, `from settings import DEVICE`."""
    names = {a.asname or a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}
    roots = []
    for said in _devices_said(expression):
        while isinstance(said, ast.Attribute):
            said = said.value
        roots.append(said.id if isinstance(said, ast.Name) else "")
    return any(root in names - {"torch"} for root in roots)


def _devices_said(expression: ast.AST) -> list[ast.expr]:
    """What calls are given as a device."""
    calls = [n for n in ast.walk(expression) if isinstance(n, ast.Call)]
    said = [a for c in calls if isinstance(c.func, ast.Name | ast.Attribute) and last_name(c.func) in ("to", "device") for a in c.args]
    return said + [k.value for c in calls for k in c.keywords if k.arg == "device"]


def _parameters_at(name: ast.expr, tree: ast.AST) -> set[str]:
    """The parameters of the innermost function around a place."""
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    around = [f for f in functions if f.lineno <= name.lineno <= (f.end_lineno or f.lineno)]
    inner = max(around, key=lambda f: f.lineno, default=None)
    return {a.arg for a in (*inner.args.posonlyargs, *inner.args.args, *inner.args.kwonlyargs)} if inner is not None else set()


def _names_a_gpu(node: ast.AST) -> bool:
    """Whether a GPU is named in the text itself."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value.startswith("cuda"):
            return True
        if isinstance(part, ast.Attribute) and part.attr == "cuda" and not (isinstance(part.value, ast.Name) and part.value.id == "torch"):
            return True
        if isinstance(part, ast.Attribute) and part.attr.endswith("Tensor") and "cuda" in ast.unparse(part):
            return True
    return False


def _is_choice(node: ast.AST, tree: ast.AST) -> bool:
    return any(isinstance(n, ast.IfExp) and asks_for_gpu(n.test, tree) for n in ast.walk(node))


@lru_cache(maxsize=16)
def _definitions(tree: ast.AST) -> tuple[tuple[str, ast.expr, bool], ...]:
    return tuple(_definitions_in(tree))


def _definitions_in(tree: ast.AST) -> Iterator[tuple[str, ast.expr, bool]]:
    """Names, attributes and parameters of a file, each with a value that it gets, and whether that is a parameter's default."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            yield from ((last_name(t), node.value, False) for t in node.targets if isinstance(t, ast.Name | ast.Attribute))
        elif isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name | ast.Attribute):
            yield last_name(node.target), node.value, False
        elif isinstance(node, ast.arguments):
            given = [*node.posonlyargs, *node.args]
            yield from ((a.arg, d, True) for a, d in zip(given[len(given) - len(node.defaults) :], node.defaults, strict=True))
            yield from ((a.arg, d, True) for a, d in zip(node.kwonlyargs, node.kw_defaults, strict=True) if d is not None)
