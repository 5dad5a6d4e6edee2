"""Law A3, for averages of experts: what is left after one is taken out is averaged over what is left.

Intervention: a mask of 0 and 1 is put at 1 everywhere, then at 0 for one expert at a time. Where the joint mean is an average of the
experts' means, with weights that add up to one whatever they put out, and moves with fewer of them after that, the weights of those that
are left add up to one again: of one that is left, the joint posterior is that one's.

Exempt: weights that the experts' own outputs move (products, gates), and an absent expert that something learned stands for.

Source: Suzuki & Matsuo 2022, A survey of multimodal deep generative models, section 3; Shi et al. 2019, section 3, for mixtures.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.products.absent_experts import Masked, masks_of
from vaelint.laws.products.experts import Product
from vaelint.record import ops
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_NOTHING = 1e-5
_SEEN = 0.02
_MOST_EXPERTS = 8


@law(
    "averages-are-over-what-is-there",
    "the weights of the experts that are left add up to one, where those of all experts do",
    covered=("VAE221", "VAE323"),
    cost="replay",
)
def averages_are_over_what_is_there(bench: Bench) -> Iterator[Broken]:
    """Posteriors that are averages of what several layers put out, beside a mask."""
    reasons: list[str] = []
    for site in bench.model.sites:
        if site.kind != "gaussian" or len(site.noise) != 1:
            continue
        for mask in masks_of(bench, site):
            masked = Masked(bench, site, mask)
            try:
                left = _left(masked)
            except ReplayError as error:
                reasons.append(message_of(error))
                continue
            if left is not None:
                yield _broken(masked, left)
                return
    if reasons:
        raise CannotMeasureError(f"the draw does not run by itself: {reasons[0]}")


def _left(masked: Masked) -> float | None:
    """What the weights of the experts that are left add up to, where those of all add up to one; None where that is one too."""
    whole = masked.product()
    there = _weights(whole)
    if masked.columns > _MOST_EXPERTS or there is None or len(there) < 2 or abs(float(there.sum()) - 1) > _NOTHING:
        return None
    for expert in range(masked.columns):
        without = masked.product(expert)
        left = _weights(without)
        if left is None or not 0 < len(left) < len(there) or abs(float(left.sum()) - 1) < _SEEN:
            continue
        zero = {n: torch.zeros_like(v) for n, v in without.values(0).items()}
        if abs(float(without.moments(zero)[0].detach())) < _NOTHING:
            return float(left.sum())
    return None


def _weights(product: Product) -> torch.Tensor | None:
    """The weights of the experts' means in the joint mean; None where they move with what the experts put out."""
    found = [product.slopes(seed) for seed in (0, 1)]
    if found[0] is None or found[1] is None:
        return None
    first, second = found[0][1], found[1][1]
    if float((first - second).abs().max()) > _NOTHING or not bool((first >= -_NOTHING).all()):
        return None
    return first[first > _NOTHING]


def _broken(masked: Masked, left: float) -> Broken:
    model, site = masked.bench.model, masked.site
    node = _averaged(masked)
    found = Found(
        model.where(node if node is not None else site.z),
        label="divided as if all experts were there",
        labels=model.labels((site.z, "drawn here")),
        when="an expert is absent",
        why="a sample with one expert gets a share of what that expert says, and not its posterior",
        help="divide by the number that is there: (params * mask).sum(0) / mask.sum(0)",
    )
    text = f"with all experts there their weights add up to 1, without one of them those that are left to {left:.2g}"
    return Broken("experts-not-multiplied", found, "the weights of the experts that are there add up to one", text)


def _averaged(masked: Masked) -> fx.Node | None:
    """The last value before the mean that divides or averages what the experts and the mask have met in; else the last sum of it."""
    flow, site = masked.bench.model.flow, masked.site
    raw = set(Product(masked.bench, site).raw)
    ends = [n for n in (site.mu, site.z) if n is not None]
    made = flow.descendants(masked.mask) & flow.descendants(*raw)
    way = [n for n in flow.sorted(flow.ancestors(ends[0], stop=raw) | {ends[0]}) if n in made and masked.bench.is_real(n)]
    for kinds in (ops.DIV | {"mean", "nanmean"}, ops.MUL | ops.LINEAR_REDUCE, ops.ADD):
        found = [n for n in way if ops.op(n) in kinds]
        if found:
            return found[-1]
    return None
