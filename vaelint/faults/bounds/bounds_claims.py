"""What findings about other bounds and distances claim of a real run, a type for each. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.core.claim_and_repair import Claim
from vaelint.faults.claim_bases import OfNode
from vaelint.late import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import fx

    from vaelint.anatomy.loss.terms import Leaf, Term
    from vaelint.faults.bounds.flows import FlowBound


@dataclass(frozen=True)
class WeightsOfDraws(OfNode):
    """The loss weighs the draws against their scores."""

    score: fx.Node
    axis: int


@dataclass(frozen=True)
class BoundOfOnes(Claim):
    """The bound is not 0 where all weights are 1."""

    source: fx.Node


@dataclass(frozen=True)
class ShiftCancels(Claim):
    """The loss moves with the largest exponent, which is taken off and added again: a value, or one taken twice."""

    largest: tuple[fx.Node, ...]
    source: fx.Node


@dataclass(frozen=True)
class ComponentsWeighAlike(Claim):
    """All components weigh alike, whatever their densities."""

    source: fx.Node
    axis: int
    posterior: fx.Node


@dataclass(frozen=True)
class DiscrepancyFalls(Claim):
    """The loss falls as the codes are moved away from the prior."""

    term: Term


@dataclass(frozen=True)
class CountedTimes(Claim):
    """The weights of the mixture count several times."""

    weight: fx.Node
    source: fx.Node


@dataclass(frozen=True)
class LogDensity(Claim):
    """The term is not the log-density of z."""

    place: fx.Node
    z: fx.Node
    mean: fx.Node
    head: fx.Node
    reading: str
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True)
class UnboundedFall(Claim):
    """The loss falls without end as `output` grows."""

    output: fx.Node
    leaves: tuple[Leaf, ...]
    at: float


@dataclass(frozen=True)
class CentredBy(Claim):
    """The values are centred along the features, not along the samples; by `product` itself, where that is given."""

    values: fx.Node
    product: fx.Node | None = None


@dataclass(frozen=True)
class DiagonalEntries(OfNode):
    """The diagonal is taken across samples."""


@dataclass(frozen=True)
class PriorSees(OfNode):
    """The loss does not depend on `node`."""


@dataclass(frozen=True)
class DeterminantWeight(Claim):
    """The log-determinant has another weight than the density that it belongs to."""

    bound: FlowBound
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True)
class KlSees(Claim):
    """The divergence reads only one of encoder and prior."""

    leaf: Leaf
    encoder: Sequence[fx.Node]
    prior: Sequence[fx.Node]


@dataclass(frozen=True)
class NoPart(Claim):
    """What comes out of `head` cancels on the way to `entry`."""

    entry: fx.Node
    head: fx.Node
    through: fx.Node
    draw: fx.Node


@dataclass(frozen=True)
class EqualRows(OfNode):
    """All rows along `axis` are equal."""

    axis: int
