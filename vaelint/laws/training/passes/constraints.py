"""Law B5, for constraints: a multiplier pulls at its constraint with all of its weight.

Intervention: in the recorded step a constraint is moved, and what its multiplier multiplies. Where that is a moving average of the
constraint, of which the new value is a small share, the same share of the gradient comes through, while the multiplier is moved as
if it were all. Exempt are averages without a multiplier that follows them, and those in which the new value has the larger share.

Source: Rezende & Viola 2018, Taming VAEs (GECO), algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import value
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
        at = bench.value(found.average)
        shares = []
        for node in (found.old, found.new):
            moved = bench.after({node: bench.value(node) + 1.0}, [found.average]).get(found.average)
            shares.append(float((moved - at).sum()) if moved is not None else 0.0)
        kept, taken = shares
        if 0 < taken < _SMALL and abs(kept + taken - 1) < _CLOSE:
            yield _weakened(bench, found, taken)
            return


def _averages(bench: Bench) -> Iterator[_Average]:
    loss, flow = bench.model.record.loss, bench.model.flow
    for product in (n for n in flow.sorted(flow.ancestors(loss)) if ops.op(n) in ops.MUL) if loss is not None else ():
        operands = [n for n in ops.value_inputs(product) if bench.is_real(n) and _is_one(n)]
        live = [n for n in operands if n.meta.get("grad")]
        factors = [n for n in operands if n not in live]
        if len(live) != 1 or len(factors) != 1 or not _follows(bench, _root(factors[0]), live[0]):
            continue
        parts = [n for n in ops.value_inputs(live[0]) if bench.is_real(n) and _is_one(n)]
        new, old = ([_bare(n) for n in parts if bool(n.meta.get("grad")) is grows] for grows in (True, False))
        if len(new) == len(old) == 1 and old[0] not in flow.data | flow.learned and all(bench.knows(n) for n in (live[0], old[0], new[0])):
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
