"""Law C5, for bounds of several draws: a draw that explains the data better never makes the loss larger.

Intervention: the log-weight of each draw of a sample is moved by itself. The slope of -log 1/K sum_k w_k in log w_k is minus the share of
the draw; a sum of shares times log-weights whose shares move with the draws has slopes of both signs.

Source: Burda et al. 2016, Importance Weighted Autoencoders, eq. 8 and 14.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.loss.logsums import is_axis_of_draws
from vaelint.faults.bounds.importance import decodes_after, inverted_weights, slope_at, softmaxed
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_NOTHING = 1e-4  # of the largest slope
_LAST = ops.DIV | ops.MUL | {"exp"}  # what the last step of shares that are written out may be


@law("better-draws-cost-less", "a draw that explains the data better never raises the loss", covered=("VAE422",), cost="replay")
def better_draws_cost_less(bench: Bench) -> Iterator[Broken]:
    """Softmaxes over the draws of one input, called or written out, of scores that data and decoder made.

    Exempt: shares that are detached, which is what the gradient of the bound asks for.
    """
    model = bench.model
    if not model.has_loss or inverted_weights(model):
        return
    candidates = model.flow.sorted(set(model.reaching_loss) & model.flow.noisy & model.decoded)
    written = _adding_up_to_one(bench, candidates)
    for node in candidates:
        scored = softmaxed(node) or (_shared_out(bench, node) if node in written else None)
        held = not node.meta.get("grad")  # made under no_grad
        if scored is None or held or scored[0] not in model.decoded & model.flow.data or decodes_after(model, node):
            continue
        turned = _turned(bench, *scored)
        if turned is not None:
            yield _broken(bench, node, scored[0], turned)
            return


def _adding_up_to_one(bench: Bench, candidates: list[fx.Node]) -> set[fx.Node]:
    """Those that are a softmax written out as far as their own values tell, in one run of them all; all, where that does not run."""
    last = [n for n in candidates if ops.op(n) in _LAST and len(shape(n)) > 1 and bench.is_real(n)]
    try:
        got = bench.model.replay(last, {}, dict(bench.model.symbols)) if last else {}
    except ReplayError:
        return set(last)
    return {n for n in last if any(_are_shares(got[n].detach(), axis) for axis in range(got[n].dim()))}


def _are_shares(value: torch.Tensor, axis: int) -> bool:
    positive = value.shape[axis] > 1 and bool((value > 0).all())
    return positive and torch.allclose(value.sum(axis), value.new_ones(()), atol=_NOTHING)


def _shared_out(bench: Bench, node: fx.Node) -> tuple[fx.Node, int] | None:
    """The scores of a softmax that is written out, w / w.sum(0) with w = exp(log_w - max): the first value that its logarithm follows along
    an axis over which it adds up to one."""
    model = bench.model
    behind = [n for n in model.flow.sorted(model.flow.ancestors(node)) if n in model.decoded and n in model.flow.data and _like(n, node)]
    if not behind:
        return None
    try:
        got = model.replay([node, *behind], {}, dict(model.symbols))
    except ReplayError:
        return None
    share = got[node].detach()
    for axis in range(share.dim()):
        if not _are_shares(share, axis):
            continue
        for source in behind:
            left = share.log() - got[source].detach()
            if bool(left.isfinite().all()) and float((left - left.mean(axis, keepdim=True)).abs().max()) < _NOTHING:
                return source, axis
    return None


def _like(one: fx.Node, other: fx.Node) -> bool:
    val = one.meta.get("val")
    return isinstance(val, torch.Tensor) and val.is_floating_point() and shape(one) == shape(other)


def _turned(bench: Bench, scores: fx.Node, axis: int) -> float | None:
    """The share of draws whose score has a slope of the other sign than the slopes of its sample add up to; None where all agree."""
    try:
        if not is_axis_of_draws(bench.model, scores, axis):
            return None
        slope, _ = slope_at(bench.model, scores, scores)
    except ReplayError:
        return None
    if slope is None or not bool(slope.isfinite().all()) or slope.shape[axis] < 2:
        return None
    total = slope.sum(axis, keepdim=True)
    against = (slope * total.sign() < -_NOTHING * slope.abs().max()) & (total.abs() > _NOTHING * slope.abs().max())
    return float(against.double().mean()) if bool(against.any()) else None


def _broken(bench: Bench, node: fx.Node, scores: fx.Node, share: float) -> Broken:
    model = bench.model
    found = Found(
        model.where(node),
        label="these shares pass a gradient of their own",
        labels=model.labels((scores, "the log-weights of the draws")),
        shapes=(model.row(scores, "one log-weight a draw"),),
        why="the gradient of log 1/K sum_k w_k is the sum of share times gradient of log w_k, the shares held: with their own gradient "
        "a draw below the average is made worse",
        help="hold the shares, softmax(log_w, dim).detach(), or write the bound itself: logsumexp(log_w, dim) - log(K)",
    )
    text = f"{share:.0%} of the draws raise the loss where they explain the data better"
    return Broken("draw-weights-move", found, "every draw's log-weight moves the loss the same way", text)
