"""A sigmoid that the class puts on the decoder's output somewhere else than on the way to the loss."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.core.finding import Label, Span
from vaelint.faults.likelihood.likelihood import target_range
from vaelint.record.record import route, span
from vaelint.replay.ranges import value_range

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def squashed_elsewhere(model: Model, fact: ReconFact) -> Label | None:
    """VAE316: a sigmoid that another method of the class puts on the decoder's output: the loss then sees logits."""
    call = _call(model, fact)
    place = span(fact.pair.raw[0]) if call is not None else None
    if call is None or place is None:
        return None
    where = Span(place.file, call.lineno, call.col_offset + 1, call.end_lineno, (call.end_col_offset or 0) + 1)
    return Label(where, "a sigmoid is applied here")


def _call(model: Model, fact: ReconFact) -> ast.Call | None:
    if fact.probe.kernel not in ("squared_error", "absolute_error") or model.activation(fact.pair.recon) is not None:
        return None
    data = target_range(model, fact)
    if data is None or data[0] < 0 or data[1] > 1:
        return None
    reach = value_range(model, fact.pair.recon)
    if reach is None or (reach.bounded_below or reach.bounded_above):
        return None
    place = span(fact.pair.raw[0]) if fact.pair.raw else None
    if place is None:
        return None
    decoders = _decoders(model, fact)
    for function in model.source.file(place.file).functions():
        bound: set[str] = set()
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _of_self(node.value.func) in decoders:
                bound |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        for node in ast.walk(function):
            inner = _squashes(model, node)
            decoded = isinstance(inner, ast.Call) and _of_self(inner.func) in decoders
            if isinstance(node, ast.Call) and (decoded or (isinstance(inner, ast.Name) and inner.id in bound)):
                return node
    return None


def _decoders(model: Model, fact: ReconFact) -> set[str]:
    """What the attributes and methods are called that the reconstruction, and not the posterior, was made in."""
    made_of = [n for n in (fact.pair.recon, *fact.pair.raw) if isinstance(n, fx.Node)]
    heads = [h for site in model.sites for h in site.heads]
    return _around(model, made_of) - _around(model, heads)


def _around(model: Model, nodes: list[fx.Node]) -> set[str]:
    functions = {f.name for n in nodes for place in route(n) if (f := model.source.function(place)) is not None}
    return functions | {part for n in nodes for part in str(n.meta.get("module") or "").split(".")}


def _of_self(called: ast.expr) -> str | None:
    """`decoder` of `self.decoder`."""
    return called.attr if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "self" else None


def _squashes(model: Model, node: ast.AST) -> ast.expr | None:
    """What a call of a sigmoid gets: torch's function, the method of a tensor, or a layer of the model."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return None
    layer = getattr(model.record.model, _of_self(node.func) or "", None)
    if node.func.attr != "sigmoid" and not isinstance(layer, torch.nn.Sigmoid):
        return None
    return node.args[0] if node.args else node.func.value
