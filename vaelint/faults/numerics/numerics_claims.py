"""What findings about values, types and their ranges claim of a real run, and how they can be mended, a type for each. Imports no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vaelint.core.claim_and_repair import Claim
from vaelint.faults.claim_bases import AtNode, OfNode
from vaelint.late import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import fx


@dataclass(frozen=True)
class ValueRange(Claim):
    """The values stay in [low, high]; with `outside`, some leave that range."""

    node: fx.Node | None
    low: float = -math.inf
    high: float = math.inf
    outside: tuple[float, float] | None = None


@dataclass(frozen=True)
class ValueOverflow(OfNode):
    """The result is infinite at a value of `operand`; one that is found by trying by default."""

    operand: fx.Node | None = None
    value: float | None = None
    dtype: torch.dtype | str | None = None


@dataclass(frozen=True)
class GuardVanishes(Claim):
    """The constant that is added changes nothing in this type."""

    guard: fx.Node
    operand: fx.Node
    ends: Sequence[float]
    dtype: torch.dtype | str


@dataclass(frozen=True)
class DtypeIs(OfNode):
    """The result has this type."""

    dtype: torch.dtype | str


@dataclass(frozen=True)
class ValuesLeft(Claim):
    """Few different values are left of those of `source`."""

    source: fx.Node
    node: fx.Node


@dataclass(frozen=True)
class WrapsAround(OfNode):
    """In real numbers other values come out."""

    source: fx.Node
    ends: Sequence[float] | None


@dataclass(frozen=True)
class ConstantData(OfNode):
    """On data that are all equal it is not finite."""

    input: fx.Node | None
    value: float | None = None  # the one value; one near the data by default


@dataclass(frozen=True)
class LogOfZero(OfNode):
    """Where the values end it is not finite."""


@dataclass(frozen=True)
class NonFinite(Claim):
    """The loss, or `node`, is not finite."""

    node: fx.Node | None = None


@dataclass(frozen=True)
class InFloat32(AtNode):
    """Computed in float32."""


@dataclass(frozen=True)
class AwayFromZero(AtNode):
    """A small number added."""

    low: float
