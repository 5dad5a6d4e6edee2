"""Law C3, for posteriors that start from their prior: where what is seen says nothing, the posterior is the prior.

A ladder's posterior is the product of what is seen below and of the prior from above, which its KL names. Intervention: the spreads of all
other experts are moved to the end where they say nothing, which shows in the draw's scale: it no longer moves with theirs. Prediction: the
product is the prior, their KL is nothing, and stays nothing wherever the prior's own spread is. Where it moves, the product takes the
prior's spread for another one than the KL does: weights by deviations instead of precisions.

Exempt: experts that the KL does not read itself, or that see the sample; spreads that are held within limits.

Source: Sonderby et al. 2016, Ladder variational autoencoders, eq. 15 to 17.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.anatomy.loss.terms import Term
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.products.certain_priors import entry_of, kl_of, sees, with_number
from vaelint.laws.products.experts import Product
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_SILENT = 30.0
_STILL = 1e-3
_MOVES = 0.05
_SEEDS = 4
_PLACES = (-1.0, 0.0, 1.0)
_PREDICTED = "where the other experts say nothing the posterior is the prior, and their KL is nothing"


@law("silence-leaves-the-prior", _PREDICTED, covered=("VAE205", "VAE206", "VAE221", "VAE408"), cost="replay")
def silence_leaves_the_prior(bench: Bench) -> Iterator[Broken]:
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
        silent = _silent(product, number) if entry is not None else None
        if entry is not None and silent is not None:
            moved = [_range(product, term, number, silent, seed) for seed in range(_SEEDS)]
            if min(moved) > _MOVES:
                return (
                    entry,
                    layer,
                    f"where the others say nothing, the KL moves by {min(moved):.2g} to {max(moved):.2g} with the prior's spread",
                )
    return None


def _silent(product: Product, number: int) -> dict[int, float] | None:
    """The spreads of all other experts where they say nothing: the draw's scale moves with the prior's alone."""
    others = [n for n in product.spread_numbers if n != number]
    for end in (_SILENT, -_SILENT):
        put = dict.fromkeys(others, end)
        slopes = product.slopes(0, put)
        if others and slopes is not None and float(slopes[2][others].abs().max()) < _STILL and float(slopes[2][number].abs()) > _MOVES:
            return put
    return None


def _range(product: Product, term: Term, number: int, silent: dict[int, float], seed: int) -> float:
    """How far the KL moves with the prior's spread where the others say nothing."""
    found = [with_number(product, term, {**silent, number: there}, seed) for there in _PLACES]
    return max(found) - min(found)


def _broken(bench: Bench, site: Site, entry: fx.Node, layer: fx.Node, text: str) -> Broken:
    model = bench.model
    found = Found(
        model.where(entry),
        label="weighs the prior by another spread than the KL takes it to have",
        labels=model.labels((site.z, "drawn here from the product"), (layer, "the spread of the prior, as the KL reads it")),
        why="where the data says nothing the posterior is not the prior: the KL charges for it, and prior and data are weighed wrongly",
        help="experts are weighed by their precisions: t = 1 / scale ** 2; variance = 1 / sum(t_i), mean = variance * sum(t_i * mean_i)",
    )
    return Broken("experts-not-multiplied", found, _PREDICTED, text)
