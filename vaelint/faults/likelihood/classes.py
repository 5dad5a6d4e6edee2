"""Class scores and probabilities: losses that want logarithms, and softmaxes whose scores are too close to choose."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.ranges import value_range

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_WANT_LOGS = frozenset({"kl_div", "nll_loss"})


@dataclass(frozen=True)
class Capped:
    """A softmax over scores between two bounds, and the largest probability that it can give."""

    node: fx.Node
    scores: fx.Node
    low: float
    high: float
    classes: int
    largest: float


def probabilities_for_logs(model: Model, fact: ReconFact) -> tuple[float, float] | None:
    """The range of what a loss on log-probabilities gets, where none of it can be a logarithm of a probability: nothing is below 0."""
    if ops.op(fact.pair.meet) not in _WANT_LOGS or fact.probe.weight < 0:
        return None
    reach = value_range(model, fact.pair.recon)
    return (reach.low, reach.high) if reach is not None and reach.low >= 0.0 < reach.high < math.inf and reach.bounded_above else None


def capped_softmax(model: Model, fact: ReconFact) -> Capped | None:
    """A softmax before the comparison with the target that cannot give any class even half of the probability."""
    node = model.activation(fact.pair.recon)
    if node is None or ops.op(node) not in ("softmax", "log_softmax") or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    axis, scores = _class_axis(node), node.args[0]
    reach = value_range(model, scores)
    if reach is None or axis is None or not all(math.isfinite(x) for x in (reach.low, reach.high)):
        return None
    classes = shape(scores)[axis]
    if not reach.bounded_above or not reach.bounded_below or classes < 3:
        return None
    largest = 1 / (1 + (classes - 1) * math.exp(reach.low - reach.high))
    return Capped(node, scores, reach.low, reach.high, classes, largest) if largest < 0.5 else None


def squashed_scores(model: Model) -> list[tuple[fx.Node, fx.Node, fx.Node]]:
    """VAE305: cross-entropies of the loss that are no reconstruction, as of a classifier, whose scores have gone through a softmax.

    Returns the comparison, its scores, and the softmax or sigmoid behind them.
    """
    loss = model.record.loss
    if loss is None:
        return []
    compared = {fact.pair.meet for fact in model.recons}
    found = []
    for node in model.flow.sorted(model.flow.ancestors(loss) - compared):
        scores = node.args[0] if ops.op(node) == "cross_entropy" and node.args else None
        squash = model.activation(scores) if isinstance(scores, fx.Node) else None
        if isinstance(scores, fx.Node) and squash is not None and ops.op(squash) in ("softmax", "sigmoid"):
            found.append((node, scores, squash))
    return found


def _class_axis(node: fx.Node) -> int | None:
    """The axis of a softmax; where none is given, the one that torch takes."""
    rank = len(shape(node))
    dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    if dim is None:
        dim = 0 if rank in (0, 1, 3) else 1
    return dim % rank if isinstance(dim, int) and rank else None
