"""What findings about samples that mix and batch sizes that are fixed claim of a real run, a type for each. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.core.claim_and_repair import Claim
from vaelint.late import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import fx

    from vaelint.anatomy.reconstruction.pairs import Pair


@dataclass(frozen=True)
class PoisonRow(Claim):
    """Changing one sample changes the values of others at `node`."""

    node: fx.Node | None
    stretch: float = 1.0  # how much further than its own size the sample is moved


@dataclass(frozen=True)
class UnmovedByData(Claim):
    """The value of `node` is the same for samples in another order."""

    node: fx.Node | None


@dataclass(frozen=True)
class RerunBatch(Claim):
    """At another batch size the step raises, or `node` has no batch axis."""

    size: int | None = None  # one more than now by default
    node: fx.Node | None = None


@dataclass(frozen=True)
class DivisorFixed(Claim):
    """At another batch size the divisor `node` stays what it is."""

    node: fx.Node | None
    size: int | None = None  # one more than now by default


@dataclass(frozen=True)
class SqueezeSingle(Claim):
    """At a batch of one the batch axis of `node` is gone, or the step raises."""

    node: fx.Node | None = None


@dataclass(frozen=True)
class BroadcastShape(Claim):
    """The shapes of these values differ, and are stretched to each other."""

    nodes: Sequence[fx.Node | None]


@dataclass(frozen=True)
class ShuffleTarget(Claim):
    """The loss stays what it is with the target in another order."""

    pair: Pair
