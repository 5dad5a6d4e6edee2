"""Numbers that the code multiplies the KL with beside the way to the loss: weights of the KL by what they weigh, not by a name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vaelint.core.finding import Span
from vaelint.record.record import span

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def kl_products(model: Model) -> frozenset[str]:
    """What is multiplied with a value that the KL, and no reconstruction, went into: `self.kl_coeff`, `beta`."""
    known = _names_of_kls(model)
    files = sorted({place.file for place, _ in known})
    found: set[str] = set()
    for file in files:
        for function in model.source.file(file).functions():
            inside = {name for place, name in known if place.file == file and function.lineno <= place.line <= (function.end_lineno or 0)}
            found |= {ast.unparse(one) for one, other in _products(function) if _mentions(other, inside)} if inside else set()
    return frozenset(found)


def _names_of_kls(model: Model) -> set[tuple[Span, str]]:
    """The names that values made of a KL alone are assigned to, and where."""
    cores = [fact.term.core for fact in model.kls if fact.term.core is not None]
    compared = [fact.pair.meet for fact in model.recons]
    below = model.flow.descendants(*cores) - model.flow.descendants(*compared)
    named = ((place, model.source.assigned(place)) for node in below if (place := span(node)) is not None)
    return {(place, name) for place, name in named if name}


def _products(function: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    for node in ast.walk(function):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            yield node.left, node.right
            yield node.right, node.left


def _mentions(expression: ast.expr, names: set[str]) -> bool:
    return any(isinstance(n, ast.Name) and n.id in names for n in ast.walk(expression))
