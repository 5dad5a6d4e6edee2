"""The places that findings about a KL term point at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.loss import pointing, signs
from vaelint.anatomy.loss.facts import KlFact
from vaelint.core.finding import Span

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def wrong_part(model: Model, fact: KlFact) -> Span | None:
    """The addend of a KL that is not the formula's."""
    scales = set(fact.site.scale_heads) if fact.site is not None else set()
    charged = [leaf for leaf in fact.term.leaves if fact.probe.entropy and scales.issuperset(leaf.frontier)]
    return model.where(signs.sign_place(model, charged[0], None)) if charged else pointing.wrong_part(model, fact)


def kl_sign_place(model: Model, fact: KlFact) -> fx.Node | None:
    """Where a KL gets its wrong sign."""
    return signs.sign_place(model, fact.term.leaves[0], fact.term.core)
