"""Scales of a draw that can be negative: raw outputs of layers, activations that go below zero."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import fx

from vaelint.core.finding import Span
from vaelint.faults.numerics.below_zero import negative_in_logs
from vaelint.faults.sampling.clash import clashes
from vaelint.faults.sampling.renamed import renamed_value
from vaelint.record import ops
from vaelint.record.record import MadeDistribution, route, span
from vaelint.replay.per_model import per_model
from vaelint.replay.ranges import value_range

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_NORMS = frozenset({"batch_norm", "layer_norm", "group_norm", "instance_norm"})


@per_model
def negative_scales(model: Model) -> list[tuple[MadeDistribution, fx.Node]]:
    """Distributions whose scale is a layer's raw output, or bounded below zero."""
    found = []
    asked: set[tuple[object, ...]] = set()  # of the turns of a loop, one
    for made in model.record.distributions:
        scale = made.parameters.get("scale")
        given = _behind(scale, ops.SHAPE | {"expand"}) if scale is not None else None
        raw = given
        while raw is not None and (ops.op(raw) in ops.SHAPE | ops.SELECT or _is_affine(raw)) and ops.value_inputs(raw):
            raw = ops.value_inputs(raw)[0]
        if (
            scale is not None
            and raw in model.flow.data
            and raw is not None
            and ops.uses_parameter(raw)
            and ops.op(raw) in ops.LAYERS | _NORMS
        ):
            found.append((made, given if given is not None and _is_affine(given) else scale))
        elif scale is not None and scale in model.flow.data and scale in model.flow.learned:
            turn = (tuple(made.stack), route(scale), ops.op(scale), model.record.shapes.get(scale, ()))
            if turn in asked:
                continue
            asked.add(turn)
            reach = value_range(model, scale)  # a bounded activation that goes below zero: a tanh, an ELU
            if reach is not None and reach.bound_by is not None and -math.inf < reach.low < -1e-6:
                found.append((made, scale))
    return found


def negative_draws(model: Model) -> list[fx.Node]:
    """Scales of draws written out that layers drive below zero, where the loss takes their logarithm."""
    told = {c.scale for c in clashes(model) if c.negative} | {n for _, n in negative_scales(model)}
    made = {n for d in model.record.distributions for n in d.parameters.values()}
    drawn = [s.scale for s in model.gaussian_sites if s.kind == "gaussian" and s.scale is not None]
    return [n for n in dict.fromkeys(drawn) if n not in told | made and negative_in_logs(model, n)]


def scale_place(model: Model, made: MadeDistribution, scale: fx.Node) -> Span:
    """Where a distribution gets its scale: where that is computed or renamed, else the constructor."""
    while ops.op(scale) in ops.SHAPE | ops.SELECT | {"expand"} and ops.value_inputs(scale):
        scale = ops.value_inputs(scale)[0]
    computed = span(scale) if ops.op(scale) in ops.ARITHMETIC else None
    return computed or renamed_value(model, made.stack[0], 1, "scale") or made.stack[0]


def _behind(node: fx.Node, through: frozenset[str]) -> fx.Node:
    while ops.op(node) in through and ops.value_inputs(node):
        node = ops.value_inputs(node)[0]
    return node


def _is_affine(node: fx.Node) -> bool:
    """Whether a value is another one multiplied with a number, or with one added: it goes below zero where the other is unbounded."""
    return (
        ops.op(node) in ops.ADD | ops.MUL | ops.DIV | {"neg", "negative"}
        and len(ops.value_inputs(node)) == 1
        and node.args[0] in node.all_input_nodes
    )
