"""Law B5, for constraints: a multiplier pulls at its constraint with all of its weight.

Intervention: in the recorded step a constraint is moved, and what its multiplier multiplies. Where that is a moving average of the
constraint, of which the new value is a small share, the same share of the gradient comes through, while the multiplier is moved as
if it were all. Exempt are averages without a multiplier that follows them, and those in which the new value has the larger share.

Source: Rezende & Viola 2018, Taming VAEs (GECO), algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import value
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_SMALL = 0.5  # of the new value
_CLOSE = 1e-4
_SAME = ops.CAST | {"detach", "attribute", "data", "requires_grad_"}


@dataclass(frozen=True)
class _Average:
    """A product in the loss of a multiplier and a moving average, the value that the average holds from before, and the new one."""

    product: fx.Node
    average: fx.Node
    old: fx.Node
    new: fx.Node


@law(
    "constraints-pull-in-full",
    "a multiplier pulls at its constraint with all of its weight",
    covered=("VAE902", "VAE905", "VAE919"),
)
def constraints_pull_in_full(bench: Bench) -> Iterator[Broken]:
    """Numbers that a multiplier multiplies in the loss, and follows."""
    for found in _averages(bench):
        try:
            kept, taken = (_moved(bench, found, node) for node in (found.old, found.new))
        except ReplayError as error:
            raise CannotMeasureError(f"the average does not run by itself: {message_of(error)}") from error
        if 0 < taken < _SMALL and abs(kept + taken - 1) < _CLOSE:
            yield _weakened(bench, found, taken)
            return


def _moved(bench: Bench, found: _Average, node: fx.Node) -> float:
    """How far the average moves where one of the two that it is made of moves by 1."""
    model = bench.model
    at = {n: torch.zeros(tuple(value(n).shape), dtype=torch.float64) for n in (found.old, found.new)}
    values = [model.replay([found.average], put, model.record.sizes)[found.average] for put in (at, {**at, node: at[node] + 1.0})]
    return float((values[1] - values[0]).sum())


def _averages(bench: Bench) -> Iterator[_Average]:
    """In each pass of the step: an average that has no value from before at the first one has it at the next."""
    record, flow = bench.model.record, bench.model.flow
    passes = [c.node for c in record.backwards if c.kind == "backward"] or ([record.loss] if record.loss is not None else [])
    begin = -1
    for loss in passes:
        for product in (n for n in flow.sorted(flow.ancestors(loss)) if ops.op(n) in ops.MUL and flow.order[n] > begin):
            yield from _averaged(bench, product, begin)
        begin = flow.order[loss]


def _averaged(bench: Bench, product: fx.Node, begin: int) -> Iterator[_Average]:
    """A product in the loss of a pass that begins after some operation, if one of its two is such an average."""
    flow = bench.model.flow
    operands = [n for n in ops.value_inputs(product) if bench.is_real(n) and _is_one(n)]
    live = [n for n in operands if n.meta.get("grad")]
    factors = [n for n in operands if n not in live]
    if len(live) != 1 or len(factors) != 1 or not _follows(bench, _root(factors[0]), live[0]):
        return
    parts = [n for n in ops.value_inputs(live[0]) if bench.is_real(n) and _is_one(n)]
    new, old = ([_bare(n) for n in parts if bool(n.meta.get("grad")) is grows] for grows in (True, False))
    if len(new) == len(old) == 1 and (flow.order[old[0]] <= begin or old[0] not in flow.data | flow.learned):
        yield _Average(product, live[0], old[0], new[0])


def _follows(bench: Bench, multiplier: fx.Node, constraint: fx.Node) -> bool:
    """Whether the multiplier's next value is made of it and of what it multiplies, beside the loss."""
    flow = bench.model.flow
    both = flow.descendants(multiplier) & flow.descendants(constraint)
    return any(not n.meta.get("grad") and bench.is_real(n) and _is_one(n) for n in both)


def _is_one(node: fx.Node) -> bool:
    return bool(value(node).numel() == 1)


def _root(node: fx.Node) -> fx.Node:
    """What a number is the same as."""
    while ops.op(node) in _SAME and node.args and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def _bare(node: fx.Node) -> fx.Node:
    """A number without those that it is multiplied by."""
    node = _root(node)
    while ops.op(node) in ops.MUL | ops.DIV and len(inner := ops.value_inputs(node)) == 1:
        node = _root(inner[0])
    return node


def _weakened(bench: Bench, found: _Average, taken: float) -> Broken:
    model = bench.model
    one = Found(
        model.where(found.product),
        label="multiplies a moving average of the constraint",
        labels=model.labels((found.average, f"only {taken:.3g} of the constraint's gradient comes through this")),
        why="the multiplier is moved as if it weighed the constraint, and pulls at it with a small part of that weight: the other terms "
        "win, and the multiplier has to grow as many times larger",
        help="take the average's value and the constraint's gradient: constraint + (average - constraint).detach()",
    )
    text = f"where the constraint moves by 1, what the multiplier multiplies moves by {taken:.3g}"
    return Broken("constraint-weakened", one, "it moves by as much as the constraint", text)
