"""Law C6, for shares that are broken off a stick: they are the whole stick.

Intervention: the fractions that K shares are made of, one fewer than they are, are put at 0 and 1. Where each such corner gives one share
all or nothing, and some give one share all, this is a stick that is broken piece by piece, with a last piece for the rest. Prediction: at
any fractions the shares add up to one. A stick without its last piece has as many shares as fractions, and is exempt.

Source: Sethuraman 1994, A constructive definition of Dirichlet priors; Nalisnick & Smyth 2017, Stick-breaking variational autoencoders.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_FEWEST = 3  # shares
_MOST = 40  # values that are tried
_ROUNDING = 1e-4  # what a clamp near the ends leaves
_SEEN = 0.02


@law("shares-are-the-whole", "shares that are broken off a stick add up to one", covered=("VAE203", "VAE408"), cost="replay")
def shares_are_the_whole(bench: Bench) -> Iterator[Broken]:
    """Values on the way to the loss that hold one number more than the fractions that they alone are made of."""
    model, flow = bench.model, bench.model.flow
    if not model.has_loss:
        return
    reasons: list[str] = []
    for shares in [n for n in flow.sorted(model.reaching_loss & flow.noisy) if _read_by_layer(bench, n)][:_MOST]:
        fractions = _fractions(bench, shares)
        try:
            lost = _lost(bench, shares, fractions) if fractions is not None else None
        except ReplayError as error:
            reasons.append(message_of(error))
            continue
        if fractions is not None and lost is not None:
            yield _broken(bench, shares, fractions, lost)
            return
    if reasons:
        raise CannotMeasureError(f"the shares do not run by themselves: {reasons[0]}")


def _read_by_layer(bench: Bench, node: fx.Node) -> bool:
    size = shape(node)
    return (
        bench.is_real(node) and len(size) >= 2 and size[-1] >= _FEWEST and any(ops.uses_parameter(u) for u in bench.model.flow.users[node])
    )


def _fractions(bench: Bench, shares: fx.Node) -> fx.Node | None:
    """The last random value with one number less that all of the shares are made of, by nothing that is learned or drawn."""
    flow, size = bench.model.flow, shape(shares)
    for node in reversed(flow.sorted(flow.ancestors(shares) & flow.noisy)):
        if not bench.is_real(node) or shape(node) != (*size[:-1], size[-1] - 1):
            continue
        between = flow.ancestors(shares, stop={node}) - {node}
        beside = between - flow.descendants(node)
        given = any(n in flow.learned or n in flow.random or n.op == "placeholder" for n in beside)
        if not given and not any(ops.uses_parameter(n) for n in between):
            return node
    return None


def _lost(bench: Bench, shares: fx.Node, fractions: fx.Node) -> float | None:
    """How far the shares are from the whole at fractions between 0 and 1; None where they are not broken off a stick, or are the whole."""
    replay, sizes = bench.model.replay, dict(bench.model.symbols)
    generator = torch.Generator().manual_seed(3)
    between = torch.rand(replay.shape_of(fractions, sizes), dtype=torch.float64, generator=generator) * 0.8 + 0.1
    corners = (between > 0.5).double()
    corners.view(-1, corners.shape[-1])[0] = 0.0
    at_corners, inside = (replay([shares], {fractions: v}, sizes)[shares] for v in (corners, between))
    ends = torch.minimum(at_corners.abs(), (at_corners - 1).abs()).amax() <= _ROUNDING
    most = at_corners.sum(-1)
    if not bool(ends) or float(most.max()) > 1 + _ROUNDING * shape(shares)[-1] or float(most.max()) < 0.5 or bool((inside < 0).any()):
        return None
    off = float((inside.sum(-1) - 1).abs().median())
    return off if off > _SEEN else None


def _of_what_is_left_after(bench: Bench, shares: fx.Node, fractions: fx.Node) -> fx.Node | None:
    """The product that mends the shares where one factor is that of the element before, and 1 for the first."""
    flow, replay, sizes = bench.model.flow, bench.model.replay, dict(bench.model.symbols)
    generator = torch.Generator().manual_seed(4)
    inside = torch.rand(replay.shape_of(fractions, sizes), dtype=torch.float64, generator=generator) * 0.8 + 0.1
    between = flow.ancestors(shares, stop={fractions}) & flow.descendants(fractions)
    for node in flow.sorted(between):
        factors = [n for n in ops.value_inputs(node) if n in between or n is fractions]
        if ops.op(node) not in ops.MUL or len(factors) != 2 or not all(bench.is_real(n) and shape(n) == shape(fractions) for n in factors):
            continue
        for kept, moved in (factors, factors[::-1]):
            try:
                at = replay([kept, moved], {fractions: inside}, sizes)
                before = torch.cat([torch.ones_like(at[moved][..., :1]), at[moved][..., :-1]], -1)
                whole = replay([shares], {fractions: inside, node: at[kept] * before}, sizes)[shares].sum(-1)
            except ReplayError:
                continue
            if bool(((whole - 1).abs() < _ROUNDING * shape(shares)[-1]).all()):
                return node
    return None


def _broken(bench: Bench, shares: fx.Node, fractions: fx.Node, lost: float) -> Broken:
    model = bench.model
    piece = _of_what_is_left_after(bench, shares, fractions)
    found = Found(
        model.where(piece or shares),
        label="each fraction is taken of what is left after itself" if piece is not None else "the shares are not the whole stick",
        labels=model.labels((fractions, "the fractions that are broken off"), (shares if piece is not None else None, "the shares")),
        shapes=(model.row(shares),),
        why="the code is on no simplex: mixture weights that are made of it do not add up to one, and more of it is lost the nearer the "
        "fractions are to 1/2",
        help="multiply each fraction by what the earlier ones left: "
        "torch.cat([v, one], 1) * torch.cat([one, 1 - v], 1).cumprod(1), with the one in front",
    )
    text = f"at fractions between 0.1 and 0.9 the shares add up to a number {lost:.2g} away from 1"
    return Broken("shares-not-whole", found, "the pieces of a stick add up to one", text)
