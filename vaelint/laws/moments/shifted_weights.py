"""Law C1, for the weights of components: adding one number to all of their logits changes nothing.

Prediction: logits that are normalised somewhere (softmax, logsumexp over their axis) stand for shares of a whole, and the loss is the same
with all of them moved alike. Where it falls or rises in proportion, they are read raw as well, as logarithms of weights that add up to
another number: the loss falls without end as they grow, and nothing is learned by it.

Exempt is a loss that does not move in proportion: a penalty on the logits themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import fx

from vaelint.anatomy.attribute_use import usage_of
from vaelint.core.finding import Span
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_NORMALISES = frozenset({"softmax", "log_softmax", "logsumexp"})
_BY = (1.0, 3.0)
_SAME = 1e-6


@law(
    "shares-are-of-a-whole",
    "one number added to all logits of a mixture's weights changes nothing",
    covered=("VAE40", "VAE423", "VAE424", "VAE425", "VAE433"),
    cost="replay",
)
def shares_are_of_a_whole(bench: Bench) -> Iterator[Broken]:
    """Learned logits, one for each component, that a softmax reads and no decoder."""
    model, flow = bench.model, bench.model.flow
    loss = model.record.loss
    decoded = flow.ancestors(*(r.pair.recon for r in model.recons))
    for node in flow.order if loss is not None and model.terms_of("kl") else ():
        if node.op != "get_attr" or not node.meta.get("parameter") or node in decoded or not shape(node) or shape(node)[-1] < 2:
            continue
        ends = _ends(bench, node)
        if not any(ops.op(n) in _NORMALISES for n in ends) or all(ops.op(n) in _NORMALISES for n in ends):
            continue
        assert loss is not None
        try:
            slope = _slope(bench, loss, node)
        except ReplayError as error:
            raise CannotMeasureError(f"the loss does not run by itself: {message_of(error)}") from error
        if slope is not None:
            yield _broken(bench, node, slope)
            return


def _ends(bench: Bench, node: fx.Node) -> set[fx.Node]:
    """The first operations that do more with logits than to add something to them and to lay them out."""
    flow, seen, ends = bench.model.flow, {node}, set[fx.Node]()
    waiting = [node]
    while waiting:
        for user in flow.users.get(waiting.pop(), ()):
            if user in seen:
                continue
            seen.add(user)
            if ops.op(user) in ops.ADD | ops.SHAPE | ops.CAST:
                waiting.append(user)
            else:
                ends.add(user)
    return ends


def _slope(bench: Bench, loss: fx.Node, node: fx.Node) -> float | None:
    """By how much the loss moves for each unit added to all, where it moves in proportion; None where it stays, or bends."""
    replay, sizes = bench.model.replay, dict(bench.model.record.sizes)
    own = replay([node], {}, sizes)[node].detach().double()
    at = [float(replay([loss], {node: own + by}, sizes)[loss].detach().sum()) for by in (0.0, *_BY)]
    slopes = [(value - at[0]) / by for value, by in zip(at[1:], _BY, strict=True)]
    if not all(map(math.isfinite, slopes)) or abs(slopes[0]) < _SAME * max(1.0, abs(at[0])):
        return None
    return slopes[0] if abs(slopes[1] - slopes[0]) < 1e-4 * abs(slopes[0]) else None


def _read_at(bench: Bench, node: fx.Node) -> Span | None:
    """Where the class reads the attribute, if at one place; else where the step reads it without normalising."""
    model, flow = bench.model, bench.model.flow
    owner, _, name = str(node.target).rpartition(".")
    reads = usage_of(model).reads(model.record.model.get_submodule(owner), name)
    if len(reads) == 1:
        return reads[0]
    users = flow.sorted(set(flow.users.get(node, ())))
    raw = [u for u in users if not any(ops.op(n) in _NORMALISES for n in _ends(bench, u) | {u})]
    return next((place for u in (*raw, *users) if (place := model.where(u)) is not None), None)


def _broken(bench: Bench, node: fx.Node, slope: float) -> Broken:
    name = str(node.target)
    found = Found(
        _read_at(bench, node),
        label=f"read as logarithms of weights that do not add up to one: the loss moves by {slope:.3g} for each unit added to all",
        why="log p is not a log-density: the loss falls without end as these numbers grow together, and nothing is learned by it",
        help=f"log_softmax({name}, dim=-1) gives the logarithms of weights that add up to one",
    )
    text = f"the loss moves by {slope:.3g} for each unit that is added to all of {name}, in proportion"
    return Broken("latent-density-formula", found, "with one number added to all logits the loss is the same", text)
