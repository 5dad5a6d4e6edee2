"""Law A3, for products of experts: an expert that is absent counts neither in the joint mean nor in the joint spread.

Intervention: a mask of 0 and 1 is put at 1 everywhere, then at 0 for one expert at a time. Prediction: as many means as spreads move the
joint posterior. An expert whose mean is left out and whose precision still counts makes the posterior narrow for data that nobody saw.
Where both are left out, the joint precision is what the other experts and the prior's own give: a log-variance put at 0 is a prior more.

Source: Wu & Goodman 2018, Multimodal generative models for scalable weakly-supervised learning, section 2.2.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.posterior.sites import Site
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.products.experts import Product
from vaelint.record import ops
from vaelint.replay.ranges import declared_range
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_MOST_EXPERTS = 8
_NOTHING = 1e-5
_SAME = 0.02
_STATES = 2


@law(
    "absent-experts-count-nowhere",
    "an expert that a mask takes out moves neither the mean nor the spread of the joint posterior",
    covered=("VAE221",),
    cost="replay",
)
def absent_experts_count_nowhere(bench: Bench) -> Iterator[Broken]:
    """Products of experts with a mask. An expert that is put at the prior is right where the product has no prior of its own."""
    reasons: list[str] = []
    for site in bench.model.sites:
        if site.kind != "gaussian" or len(site.noise) != 1:
            continue
        for mask in masks_of(bench, site):
            try:
                yield from _of(Masked(bench, site, mask))
            except ReplayError as error:
                reasons.append(message_of(error))
    if reasons:
        raise CannotMeasureError(f"the draw does not run by itself: {reasons[0]}")


def masks_of(bench: Bench, site: Site) -> list[fx.Node]:
    """The inputs of 0 and 1 that meet the experts after their last layers."""
    near = bench.model.flow.ancestors(site.z, stop=set(Product(bench, site).raw))
    return [n for n in bench.model.record.inputs.values() if n in near and declared_range(bench.model, n) == (0.0, 1.0)]


@dataclass(frozen=True)
class Masked:
    """A joint posterior, and a mask beside its experts."""

    bench: Bench
    site: Site
    mask: fx.Node

    def product(self, expert: int | None = None) -> Product:
        """The posterior with all experts there, or without one of them."""
        product = Product(self.bench, self.site)
        size = self.bench.model.replay.shape_of(self.mask, product.sizes)
        value = torch.ones(size, dtype=self.mask.meta["val"].dtype)
        if expert is not None:
            value.reshape(size[0], -1)[:, expert] = 0
        return Product(self.bench, self.site, {self.mask: value})

    def kept(self, expert: int) -> float | None:
        """The precision that an expert still adds where it is absent, if it is one number and the product has a prior's beside it."""
        found = [self._kept(expert, seed) for seed in range(_STATES)]
        kept = [k for k in found if k is not None]
        alike = len(kept) == len(found) and max(kept) - min(kept) < _SAME * max(kept)
        return kept[0] if alike else None

    def _kept(self, expert: int, seed: int) -> float | None:
        whole, without = self.product(), self.product(expert)
        there, left = whole.slopes(seed), without.slopes(seed)
        if there is None or left is None:
            return None
        own = (there[1].abs() > _NOTHING) & (there[2].abs() < _NOTHING) & (left[1].abs() < _NOTHING)
        means = (there[1].abs() > _NOTHING) & (there[2].abs() < _NOTHING)
        if int(own.sum()) != 1 or float(there[1][means].sum()) > 1 - _SAME:
            return None  # no prior's expert: the absent one may stand for it
        (_, scale), (_, other) = (p.moments(p.values(seed)) for p in (whole, without))
        before, after = float(scale.detach()) ** -2, float(other.detach()) ** -2
        kept = after - before * (1 - float(there[1][own]))
        return kept if kept > _SAME * after else None

    @property
    def columns(self) -> int:
        """How many experts the mask may speak of."""
        size = self.bench.model.replay.shape_of(self.mask, Product(self.bench, self.site).sizes)
        return int(torch.Size(size[1:]).numel())


def _of(masked: Masked) -> Iterator[Broken]:
    if masked.columns > _MOST_EXPERTS:
        return
    whole = masked.product()
    if not whole.is_one or (there := whole.counted()) is None:
        return
    for expert in range(masked.columns):
        left = masked.product(expert).counted()
        if left is not None and left != there and left[0] != left[1]:
            yield _broken(masked, whole, *left)
            return
        if left is not None and left[0] == left[1] < there[0] and (kept := masked.kept(expert)) is not None:
            yield _still_there(masked, whole, kept)
            return


def _broken(masked: Masked, product: Product, means: int, spreads: int) -> Broken:
    model, site = masked.bench.model, masked.site
    node = _summed(masked, product, site.scale if means < spreads else site.mu)
    found = Found(
        model.where(node if node is not None else site.z),
        label="an expert that is absent counts here",
        labels=model.labels((site.z, "drawn here from the product of the experts")),
        why="a sample without this modality gets a posterior that is sure of what it did not see"
        if means < spreads
        else "a sample without this modality gets a posterior that follows its placeholder",
        help="take the absent expert's precision out too: precision = mask / variance, joint variance = 1 / (1 + precision.sum()), "
        "mean = variance * (precision * mean).sum()",
    )
    text = f"with one expert masked out, {means} means and {spreads} spreads still move it"
    return Broken("experts-not-multiplied", found, "as many means as spreads move the joint posterior", text)


def _still_there(masked: Masked, product: Product, kept: float) -> Broken:
    model, site = masked.bench.model, masked.site
    node = _precision(masked, product)
    found = Found(
        model.where(node if node is not None else site.z),
        label="an expert that is absent counts as one more prior",
        labels=model.labels((site.z, "drawn here from the product of the experts")),
        why="the product has its prior already: with each modality that is missing the posterior gets surer, "
        "and with none it is narrower than the prior, at a cost that nothing can lower",
        help="take the precision itself out: precision = mask / variance, so that an absent expert adds 0; a log-variance of 0 is a "
        "variance of 1",
    )
    text = f"without one expert the joint precision keeps {kept:.3g} more than the other experts and the prior give"
    return Broken("experts-not-multiplied", found, "an absent expert adds nothing to the joint precision", text)


def _precision(masked: Masked, product: Product) -> fx.Node | None:
    """Where what the mask has left of a spread is made a precision: the first exponential or quotient that it passes."""
    flow = masked.bench.model.flow
    raw, scale = set(product.raw), masked.site.scale
    if scale is None:
        return None
    met = flow.descendants(masked.mask) & flow.descendants(*raw)
    way = [n for n in flow.sorted(flow.ancestors(scale, stop=raw)) if n in met]
    return next((n for n in way if ops.op(n) in ops.DIV | {"exp", "reciprocal", "pow", "softplus"}), way[0] if way else None)


def _summed(masked: Masked, product: Product, moment: fx.Node | None) -> fx.Node | None:
    """Where the experts are added up on the way to the mean or the scale without having met the mask; else where they meet it."""
    flow = masked.bench.model.flow
    if moment is None:
        return None
    raw = set(product.raw)
    made, seen = flow.descendants(*raw), flow.descendants(masked.mask, stop=raw)
    way = [n for n in flow.sorted(flow.ancestors(moment, stop=raw)) if n not in raw and n in made]
    before = [n for n in way if n not in seen]
    summed = next((n for n in before if ops.op(n) in ops.LINEAR_REDUCE | ops.ADD), None)
    return summed or next((n for n in way if n in seen), before[0] if before else None)
