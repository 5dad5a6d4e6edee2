"""Law C3, for products of experts whose experts are drawn from alone too: a spread means the same in both.

Intervention: the slopes of the log-scale of the joint draw, and of the draw from one expert, in the numbers that a layer puts out for that
expert's spread. Prediction: what makes the expert's own draw wider does not make the joint draw narrower: a product takes 1/v = sum of
1/v_i, which grows with each v_i. Experts that are never drawn from alone may put out log-precisions, and are exempt.

Source: Wu & Goodman 2018, Multimodal generative models for scalable weakly-supervised learning, section 2.2: the ELBO of each modality
alone is added to that of all.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.posterior.sites import Site
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.products.experts import Product
from vaelint.record import ops
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_SEEDS = range(3)


@law(
    "spreads-mean-the-same-alone",
    "what makes an expert's own draw wider makes the draw of the product wider",
    covered=("VAE205", "VAE206", "VAE212", "VAE221"),
    cost="replay",
)
def spreads_mean_the_same_alone(bench: Bench) -> Iterator[Broken]:
    """Gaussian draws from a product, beside draws from its experts."""
    sites = [s for s in bench.model.sites if s.kind == "gaussian" and len(s.noise) == 1]
    reasons: list[str] = []
    for site in sites if len(sites) > 1 else ():
        try:
            joint = Product(bench, site)
            if not joint.is_one:
                continue
            for other in (Product(bench, s) for s in sites if s is not site):
                if (layer := _turned(joint, other)) is not None:
                    yield _broken(bench, site, other.site, layer)
                    return
        except ReplayError as error:
            reasons.append(message_of(error))
    if reasons:
        raise CannotMeasureError(f"the draw does not run by itself: {reasons[0]}")


def _turned(joint: Product, alone: Product) -> fx.Node | None:
    """The layer whose numbers widen the draw of one expert and narrow that of the product, at each of several values."""
    if len(alone.raw) >= len(joint.raw) and set(alone.raw) >= set(joint.raw):
        return None  # no part of the product
    found: set[int] | None = None
    for seed in _SEEDS:
        slopes = [_by_scale(product, seed) for product in (joint, alone)]
        if slopes[0] is None or slopes[1] is None:
            return None
        theirs = {key: slope for key, slope in slopes[1].items() if abs(slope) > 1e-3}
        if not theirs or not all(key in slopes[0] for key in theirs):
            return None
        turned = {number for number, key in enumerate(slopes[0]) if key in theirs and slopes[0][key] * theirs[key] < -1e-6}
        found = turned if found is None else found & turned
    return joint.layer_of(min(found)) if found else None


def _by_scale(product: Product, seed: int) -> dict[tuple[fx.Node, int], float] | None:
    """The slope of the log-scale in each number that the layers put out, by layer and place."""
    got = product.slopes(seed)
    if got is None:
        return None
    values, place = got[2].tolist(), 0
    found: dict[tuple[fx.Node, int], float] = {}
    for node, numbers in product.values(seed).items():
        found |= {(node, i): float(values[place + i]) for i in range(numbers.numel())}
        place += numbers.numel()
    return found


def _broken(bench: Bench, site: Site, alone: Site, layer: fx.Node) -> Broken:
    model = bench.model
    found = Found(
        model.where(_first_apart(bench, site, alone, layer) or site.z),
        label="used as the precision of an expert, whose own draw uses it as the variance",
        labels=model.labels((alone.z, "the expert is drawn from here"), (site.z, "the product is drawn from here")),
        why="the expert that is least sure has the largest weight: the joint posterior follows the modality that knows least",
        help="the precision is the inverse of the variance: exp(-logvar)",
    )
    text = "a larger number of the layer widens the expert's own draw and narrows that of the product"
    return Broken("experts-not-multiplied", found, "both draws widen with it", text)


def _first_apart(bench: Bench, site: Site, alone: Site, layer: fx.Node) -> fx.Node | None:
    """The first value that is made of the spread for the product alone, and is no rearrangement of it."""
    flow = bench.model.flow
    way = flow.ancestors(site.z) & flow.descendants(layer) - flow.ancestors(alone.z) - {layer}
    made = (n for n in flow.sorted(way) if ops.op(n) not in ops.SHAPE | ops.JOIN | ops.SELECT | ops.CAST)
    return next((n for n in made if bench.is_real(n) and isinstance(n.meta.get("val"), torch.Tensor)), None)
