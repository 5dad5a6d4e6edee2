"""The places that findings about a KL term point at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.loss import pointing, signs
from vaelint.anatomy.loss.facts import KlFact
from vaelint.anatomy.loss.terms import Leaf
from vaelint.core.finding import Span
from vaelint.record.record import route, shape

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def wrong_part(model: Model, fact: KlFact) -> Span | None:
    """The addend of a KL that is not the formula's."""
    scales = set(fact.site.scale_heads) if fact.site is not None else set()
    charged = [leaf for leaf in fact.term.leaves if fact.probe.entropy and scales.issuperset(leaf.frontier)]
    return model.where(signs.sign_place(model, charged[0], None)) if charged else pointing.wrong_part(model, fact)


def borrowed_spread(model: Model, fact: KlFact) -> Span | None:
    """Where the mean of one posterior is charged together with the spread of another: in the call, if it is a helper that adds them."""
    leaves = [leaf for term in model.terms_of("kl") for leaf in term.leaves]
    for leaf in fact.term.leaves:
        for other in leaves:
            mine, theirs = _owners(model, leaf), _owners(model, other)
            if len(mine) == len(theirs) == 1 and mine != theirs and _added_up(leaf, other):
                return _taken(model, [each for each in leaves if _added_up(leaf, each)], leaves)
    return None


def _owners(model: Model, leaf: Leaf) -> set[int]:
    """The posteriors whose heads an addend is made of."""
    return {k for k, site in enumerate(model.sites) if any(f in site.heads for f in leaf.frontier)}


def _added_up(one: Leaf, other: Leaf) -> bool:
    """Whether two addends are added element by element, before anything is summed up."""
    return any(n in other.chain and shape(n) == shape(one.node) == shape(other.node) for n in one.chain)


def _taken(model: Model, together: list[Leaf], leaves: list[Leaf]) -> Span | None:
    elsewhere = {(place.file, place.line) for leaf in leaves if leaf not in together for place in route(leaf.node)}
    places = [place for leaf in together for place in route(leaf.node) if (place.file, place.line) not in elsewhere]
    return places[0] if places else model.where(together[0].node)


def kl_sign_place(model: Model, fact: KlFact) -> fx.Node | None:
    """Where a KL gets its wrong sign."""
    return signs.sign_place(model, fact.term.leaves[0], fact.term.core)
