"""Law A11, for tokens: what the decoder is to put out is the data at every place, not what was drawn over it.

Intervention: the noise by which tokens are replaced hits other places. Prediction: a place that the likelihood counts has one target,
whatever the noise. Where most targets are the data as they are, and those that the noise hits are counted with another token, the tokens
that were replaced for the decoder's input are its target too.

Exempt are targets that the likelihood leaves out where they are no data (masked modelling), noise that the encoder sees as well, which is
another version of the sample, and windows and orders that are drawn: there the targets are not the data place by place.

Source: Bowman et al. 2016, Generating Sentences from a Continuous Space, section 3.1; exempt: Devlin et al. 2019, BERT, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import torch
from torch import fx

from vaelint.anatomy.reconstruction.pairs import Pair
from vaelint.laws.bench import Bench, Seat
from vaelint.laws.law import Broken, law
from vaelint.record.marks import effect
from vaelint.rule import Found

_DRAWS = 3
_MOST = 0.5  # of the targets are the data as they are


@law("targets-are-not-drawn", "a token that is counted is the data's, whatever is drawn", covered=("VAE306", "VAE335"), cost="all")
def targets_are_not_drawn(bench: Bench) -> Iterator[Broken]:
    """Likelihoods of classes, place by place, whose targets move with a draw that the posterior does not see."""
    flow = bench.model.flow
    heads = {h for s in bench.model.sites for h in s.heads}
    for fact in bench.model.recons:
        target = fact.pair.target
        if target is None or target not in flow.noisy or not bench.knows(target) or not bench.knows(fact.pair.recon):
            continue
        drawn = [n for n in flow.sorted(flow.ancestors(target) & flow.random) if bench.knows(n)]
        of = [s for s in bench.of_kind("tokens") if s.node in flow.ancestors(target)]
        if len(of) != 1 or not drawn or heads & flow.descendants(*drawn):
            continue
        if (share := _replaced(bench, of[0], fact.pair.recon, target, drawn)) is not None:
            place = _written_into(bench, target, drawn) or _handed_out(bench, of[0], fact.pair, drawn) or fact.pair.meet
            yield _broken(bench, of[0], place, target, share)
            return


def _replaced(bench: Bench, data: Seat, recon: fx.Node, target: fx.Node, drawn: list[fx.Node]) -> float | None:
    """The share of places that are counted with one token or with another, as the noise has it; None where there are none."""
    seen = [_counted(bench, recon, target, {n: _elsewhere(bench.value(n), k) for n in drawn}) for k in range(_DRAWS)]
    given = bench.value(data.node)
    for there in (given, given[:, 1:], given.flatten(), given[:, 1:].flatten()):
        known = [
            (tokens, counts)
            for one in seen
            if one is not None and (tokens := one[0]).shape == there.shape and (counts := one[1]) is not None
        ]
        if len(known) < _DRAWS or any(float((tokens == there).double().mean()) < _MOST for tokens, _ in known):
            continue
        moved = [(a != b) & one & other & ((a == there) | (b == there)) for (a, one), (b, other) in combinations(known, 2)]
        share = float(torch.stack(moved).any(0).double().mean())
        return share or None
    return None


def _elsewhere(value: torch.Tensor, turns: int) -> torch.Tensor:
    """The same random numbers at other places."""
    return value.flatten().roll(turns * 7).view(value.shape)


def _counted(
    bench: Bench, recon: fx.Node, target: fx.Node, changes: dict[fx.Node, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """The targets with other noise, and which of them pull at the decoder's output."""
    out, loss = bench.value(recon).clone().requires_grad_(), bench.base.loss_node
    got = bench.base.recompute([loss, target], {**changes, recon: out})
    (grad,) = bench.base.gradient(got[loss].double(), [out])
    return _by_place(got[target].detach(), grad != 0) if grad is not None and bool(grad.isfinite().all()) else None


def _by_place(tokens: torch.Tensor, pulls: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """One token for each place, and which of them pull; tokens come as numbers, with an axis of 1 where the classes are, or as one of K."""
    if tokens.shape == pulls.shape:
        of = [d for d in range(1, tokens.dim()) if bool(((tokens == 0) | (tokens == 1)).all()) and bool((tokens.sum(d) == 1).all())]
        return (tokens.argmax(of[-1]), pulls.any(of[-1])) if of else (None if tokens.is_floating_point() else (tokens, None))
    if tokens.is_floating_point():
        return None
    if tokens.dim() == pulls.dim():
        thin = [d for d in range(1, tokens.dim()) if tokens.shape[d] == 1 and tokens.squeeze(d).shape == pulls.any(d).shape]
        return (tokens.squeeze(thin[-1]), pulls.any(thin[-1])) if thin else (tokens, None)
    axes = [d for d in range(1, pulls.dim()) if pulls.any(d).shape == tokens.shape]
    return tokens, pulls.any(axes[-1]) if axes and pulls.dim() == tokens.dim() + 1 else None


def _written_into(bench: Bench, target: fx.Node, drawn: list[fx.Node]) -> fx.Node | None:
    """Where tokens are replaced in place, in the tensor that the targets are read from later on."""
    flow = bench.model.flow
    effects = [n for n in flow.sorted(flow.ancestors(target) & flow.descendants(*drawn)) if n.target is effect]
    return next((a for n in effects for a in n.args[1:] if isinstance(a, fx.Node)), None)


def _handed_out(bench: Bench, data: Seat, pair: Pair, drawn: list[fx.Node]) -> fx.Node | None:
    """Where the tokens are replaced, if the function that does it makes the decoder's input of them and hands out the target beside it."""
    model, flow = bench.model, bench.model.flow
    assert pair.target is not None
    before, noisy = flow.ancestors(pair.target) | {pair.target}, flow.descendants(*drawn)
    replaced = next((n for n in flow.sorted(before & noisy & flow.descendants(data.node)) if n.meta["val"].dtype is not torch.bool), None)
    if replaced is None:
        return None
    function, compares = (model.source.function(s) if (s := model.where(n)) is not None else None for n in (replaced, pair.meet))
    shown = [n for n in flow.users.get(replaced, ()) if n in flow.ancestors(pair.recon) and n not in before]
    own = [s for n in shown if (s := model.where(n)) is not None and model.source.function(s) is function]
    return replaced if function is not compares and own else None


def _broken(bench: Bench, data: Seat, meet: fx.Node, target: fx.Node, share: float) -> Broken:
    model = bench.model
    found = Found(
        model.where(meet),
        label=f"held to {data.name} with some of its tokens replaced at random",
        labels=model.labels((target, "what it is held to")),
        why="the decoder learns to put out the replacement as often as it was drawn: only its input was to be without those tokens",
        help=f"compare with {data.name} as it is, and replace tokens in what the decoder reads alone",
    )
    text = f"{share:.0%} of the places are counted with the data's token in one draw and with another token in the next"
    return Broken("wrong-target", found, "a place that is counted has one target, whatever is drawn", text)
