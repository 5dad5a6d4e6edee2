"""A posterior that the loss holds against the prior while nothing is drawn from it: the decoder gets its mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy import ops
from vaelint.anatomy.cuts import reconstruction_ends
from vaelint.graph import shape

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_SQUARE = frozenset({"pow", "square", "mul", "multiply"})


@dataclass(frozen=True)
class Undrawn:
    """The mean that is decoded, the scale that only the loss reads, and what reads the mean first on the way to the reconstruction."""

    mu: fx.Node
    scale: fx.Node
    reader: fx.Node


def undrawn_posterior(model: Model) -> Undrawn | None:
    """Two values alike in shape, learned from the data: the loss squares the one and has the other both plain and exponentiated, as the
    KL of a Gaussian does; the reconstruction depends on the first and not on the second. None where anything is drawn.
    """
    loss, flow = model.record.loss, model.flow
    if loss is None or model.variational or flow.random:
        return None
    ends = reconstruction_ends(model)
    decoded, below = flow.ancestors(*ends), flow.ancestors(loss)
    learned = [n for n in flow.sorted(below) if n in flow.learned and n in flow.data]
    squared = [a for n in learned if (a := _squared(n)) is not None and a in decoded]
    for node in learned:
        if ops.op(node) != "exp" or not isinstance(node.args[0], fx.Node) or node.args[0] in decoded:
            continue
        head = node.args[0]
        is_plain = any(ops.op(u) in ops.ADD and u in below for u in flow.users.get(head, ()))
        mu = next((a for a in squared if shape(a) == shape(head) and a is not head), None)
        if is_plain and mu is not None:
            readers = [u for u in flow.users.get(mu, ()) if u in decoded]
            if readers and mu not in ends:
                return Undrawn(mu, head, flow.sorted(set(readers))[0])
    return None


def _squared(node: fx.Node) -> fx.Node | None:
    """What a node squares."""
    name = ops.op(node)
    if name not in _SQUARE or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    if name == "square" or (len(node.args) > 1 and (node.args[1] is node.args[0] or (name == "pow" and node.args[1] == 2))):
        return node.args[0]
    return None
