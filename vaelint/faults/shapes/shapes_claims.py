"""What findings about shapes and axes claim of a real run, and how they can be mended, a type for each. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.core.claim_and_repair import Repair
from vaelint.faults.claim_bases import AtNode, OfNode
from vaelint.late import dataclass

if TYPE_CHECKING:
    from torch import fx

    from vaelint.core.finding import Span
    from vaelint.faults.batch.pinned import Pinned
    from vaelint.faults.shapes.annotations import Measure


@dataclass(frozen=True)
class AnnotatedShape(OfNode):
    """`node` has not the shape that is written."""

    measure: Measure
    bound: fx.Node | None = None  # the value that bound the name, where two differ


@dataclass(frozen=True)
class ReduceSamples(AtNode):
    """A reduction over the draws."""


@dataclass(frozen=True)
class SplitFeatures(Repair):
    """A split along the features."""

    cause: fx.Node
    source: fx.Node


@dataclass(frozen=True)
class BatchFirst(Repair):
    """A recurrent layer made, or called, with the batch in front."""

    made: Span | None
    called: Span | None


@dataclass(frozen=True)
class BatchFromTensor(Repair):
    """The size of the batch taken from a tensor."""

    pin: Pinned


@dataclass(frozen=True)
class SqueezeAxis(AtNode):
    """A squeeze of the one axis that is meant."""

    source: fx.Node


@dataclass(frozen=True)
class SoftmaxAxis(AtNode):
    """A softmax over the features."""


@dataclass(frozen=True)
class BatchToFront(Repair):
    """The batch moved to the front again."""

    cause: fx.Node
    source: fx.Node
