"""What many claims and repairs have in common: the one thing that they are about. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.core.claim_and_repair import Claim, Repair
from vaelint.late import dataclass

if TYPE_CHECKING:
    from torch import fx

    from vaelint.anatomy.loss.facts import KlFact, ReconFact
    from vaelint.anatomy.posterior.sites import Site
    from vaelint.core.finding import Span


@dataclass(frozen=True)
class OfRecon(Claim):
    """A claim about a reconstruction term."""

    fact: ReconFact


@dataclass(frozen=True)
class OfKl(Claim):
    """A claim about a KL term."""

    fact: KlFact


@dataclass(frozen=True)
class OfNode(Claim):
    """A claim about a value."""

    node: fx.Node


@dataclass(frozen=True)
class OfSite(Claim):
    """A claim about a draw."""

    site: Site


@dataclass(frozen=True)
class AtPlace(Repair):
    """A repair of the code at a place."""

    place: Span | None


@dataclass(frozen=True)
class AtNode(Repair):
    """A repair of the code that makes a value."""

    node: fx.Node
