"""What training code does with its data on the way into the model. Runs no user code, imports no torch."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Mapping, Sequence

_SAME = frozenset({"to", "cuda", "cpu", "float", "double", "half", "long", "contiguous", "clone", "detach", "requires_grad_", "type"})
_LENGTH = "100"


def aliases(data: Mapping[str, str], statements: Sequence[ast.stmt]) -> dict[str, str]:
    """`data`, names with the inputs they stand for, with the names that the same values had before: `trg = sentence`, `x = images.cuda()`.

    `statements` are those that come before the model is called, the last one first.
    """
    found = dict(data)
    for node in statements:
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        target = node.targets[0]
        pairs = [(target, node.value)]
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple) and len(target.elts) == len(node.value.elts):
            pairs = list(zip(target.elts, node.value.elts, strict=True))
        for name, value in pairs:
            source = _unchanged(value)
            if isinstance(name, ast.Name) and name.id in found and source is not None:
                found.setdefault(source, found[name.id])
    return found


def _unchanged(node: ast.expr) -> str | None:
    """`x` of `x`, `x.to(device)`, `Variable(x)`: the name of what is the same values; None for anything else."""
    while isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in _SAME:
            node = node.func.value
        elif isinstance(node.func, ast.Name | ast.Attribute) and ast.unparse(node.func).rpartition(".")[2] == "Variable" and node.args:
            node = node.args[0]
        else:
            return None
    return node.id if isinstance(node, ast.Name) else None


def loaders(path: Sequence[tuple[list[ast.stmt], int]]) -> set[str]:
    """What the loops around the end of a path go over: `loader` of `enumerate(tqdm(loader))`."""
    loops = (body[place] for body, place in path)
    found = {ast.unparse(part) for loop in loops if isinstance(loop, ast.For) for part in _gone_over(loop.iter)}
    for node in (n for body, place in reversed(path) for n in reversed(body[:place])):
        if isinstance(node, ast.Assign) and any(ast.unparse(target) in found for target in node.targets):
            found |= {ast.unparse(part) for part in _gone_over(node.value) if isinstance(node.value, ast.Call)}  # loop = tqdm(loader)
    return found | {f"{name}.dataset" for name in found}


def _gone_over(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.Call):
        for argument in node.args:
            yield from _gone_over(argument)
    elif isinstance(node, ast.Name | ast.Attribute):
        yield node


def without_lengths(node: ast.stmt, over: set[str], said: dict[str, str]) -> ast.stmt:
    """The statement with a number of ours for the length of a loader that is not there; `said` gets each with its number."""
    lengths = [n for n in ast.walk(node) if _length_of(n) in over]
    if not lengths:
        return node
    said.update({ast.unparse(n): _LENGTH for n in lengths})
    changed = _Lengths(over).visit(copy.deepcopy(node))
    assert isinstance(changed, ast.stmt)
    return changed


def _length_of(node: ast.AST) -> str | None:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len" and len(node.args) == 1:
        return ast.unparse(node.args[0])
    return None


class _Lengths(ast.NodeTransformer):
    def __init__(self, over: set[str]) -> None:
        self._over = over

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """The number in the place of the call."""
        if _length_of(node) in self._over:
            return ast.copy_location(ast.Constant(int(_LENGTH)), node)
        return self.generic_visit(node)
