"""Law C3, for posteriors that start from their prior: where the prior is certain, the posterior is the prior.

A ladder's posterior is the product of what is seen below and of the prior from above, which its KL names. Intervention: the spread of that
prior is moved far both ways. At the end where the KL takes the prior to be certain, the product is the prior and their KL is nothing:
so the KL must fall at one of the ends. Where it rises at both, the product weighs by variances what the KL takes by precisions.

Exempt: experts that the KL does not read itself, or that see the sample.

Source: Sonderby et al. 2016, Ladder variational autoencoders, eq. 15 to 17.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Term
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.products.experts import Product
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_FAR = 5.0
_SEEDS = 4
_PREDICTED = "where the prior is certain, the posterior that starts from it is the prior, and their KL falls"


@law("certain-priors-win", _PREDICTED, covered=("VAE205", "VAE206", "VAE221", "VAE408"), cost="replay")
def certain_priors_win(bench: Bench) -> Iterator[Broken]:
    """Products of experts, one of which is the prior of the draw's own KL."""
    reasons: list[str] = []
    for site in bench.model.sites:
        if site.kind != "gaussian" or len(site.noise) != 1:
            continue
        try:
            found = _fault(bench, site)
        except ReplayError as error:
            reasons.append(message_of(error))
            continue
        if found is not None:
            yield _broken(bench, site, *found)
    if reasons:
        raise CannotMeasureError(f"the posterior does not run by itself: {reasons[0]}")


def _fault(bench: Bench, site: Site) -> tuple[fx.Node, fx.Node, str] | None:
    """Where the prior enters the product, its spread's layer, and what was seen; None where the law is kept or does not apply."""
    product = Product(bench, site)
    term = kl_of(bench, product)
    if term is None:
        return None
    for number in product.spread_numbers:
        layer = product.layer_of(number)
        entry = None if sees(bench, layer) else entry_of(product, term, number)
        if entry is not None:
            ends = [_moved(product, term, number, seed) for seed in range(_SEEDS)]
            if all(low > 0 and high > 0 for low, high in ends):
                low, high = (sum(e[k] for e in ends) / _SEEDS for k in (0, 1))
                return entry, layer, f"with its spread moved by {_FAR:g} either way, the KL moves by {low:+.2g} and by {high:+.2g}"
    return None


def kl_of(bench: Bench, product: Product) -> Term | None:
    """The one KL of a product's draw, which does not read the draw itself."""
    site = product.site
    terms = [t for t in bench.model.terms_of("kl") if t.core is not None and t.detached is None and site in t.sites]
    if len(terms) != 1 or not product.is_one or any(site.z in leaf.frontier for leaf in terms[0].leaves):
        return None
    return terms[0]


def sees(bench: Bench, layer: fx.Node) -> bool:
    """Whether a layer sees the sample other than through the draws of other levels."""
    drawn = {s.z for s in bench.model.sites}
    return bool(set(bench.model.record.inputs.values()) & bench.model.flow.ancestors(layer, stop=drawn))


def entry_of(product: Product, term: Term, number: int) -> fx.Node | None:
    """What the product makes of a spread that the KL reads as well, before anything else enters; None where it reads the product alone."""
    bench, site, layer = product.bench, product.site, product.layer_of(number)
    flow = bench.model.flow
    assert term.core is not None
    to_draw, to_kl = flow.ancestors(site.z), flow.ancestors(term.core) | {term.core}
    for node in flow.sorted((flow.descendants(layer) | {layer}) & to_draw):
        users = flow.users.get(node, ())
        own = [u for u in users if u in to_draw and u is not site.z]
        if own and any(u in to_kl and u not in to_draw for u in users) and _is_of(product, node, number):
            return own[0]
    return None


def _is_of(product: Product, node: fx.Node, number: int) -> bool:
    """Whether a value hangs on this one of the experts' spreads: not on the mean beside it, and not on what the product has made of all."""
    if node in product.raw or not product.bench.is_real(node):
        return node in product.raw

    def at(put: dict[int, float]) -> torch.Tensor:
        found: torch.Tensor = product.bench.model.replay([node], product.values(0, put), product.sizes)[node]
        return found

    moved = [n for n in product.spread_numbers if not torch.equal(at({n: 0.0}), at({n: 1.0}))]
    return moved == [number]


def with_number(product: Product, term: Term, put: dict[int, float], seed: int) -> float:
    """The KL with some numbers of the layers' outputs put elsewhere; what hangs on the draw stays."""
    replay, z, core = product.bench.model.replay, product.site.z, term.core
    assert core is not None
    drawn = torch.zeros(replay.shape_of(z, product.sizes), dtype=torch.float64)
    return float(replay([core], {**product.values(seed, put), z: drawn}, product.sizes, seed=seed)[core].sum())


def _moved(product: Product, term: Term, number: int, seed: int) -> tuple[float, float]:
    """How the KL moves where one number of the spread is moved down, and up."""
    here, low, high = (with_number(product, term, {number: by}, seed) for by in (0.0, -_FAR, _FAR))
    return low - here, high - here


def _broken(bench: Bench, site: Site, entry: fx.Node, layer: fx.Node, text: str) -> Broken:
    model = bench.model
    found = Found(
        model.where(entry),
        label="weighs the prior the more, the less certain the KL takes it to be",
        labels=model.labels((site.z, "drawn here from the product"), (layer, "the spread of the prior, as the KL reads it")),
        why="the product takes for a precision what the KL takes for a variance: the less certain of the two has the larger weight, and "
        "the joint spread is inverted",
        help="precisions are exp(-logvar): variance = 1 / sum(t_i), mean = variance * sum(t_i * mean_i)",
    )
    return Broken("experts-not-multiplied", found, _PREDICTED, text)
