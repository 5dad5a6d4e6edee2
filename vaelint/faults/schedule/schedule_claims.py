"""What findings about weights and what moves them claim of a real run, a type for each. Imports no torch."""

from __future__ import annotations

from vaelint.core.claim_and_repair import Claim
from vaelint.late import dataclass


@dataclass(frozen=True)
class WeightHasNoEffect(Claim):
    """The loss is the same for another value of this attribute."""

    name: str


@dataclass(frozen=True)
class ArgumentHasNoEffect(Claim):
    """The loss is the same for another value of this argument."""

    function: str
    argument: str


@dataclass(frozen=True)
class WeightStays(Claim):
    """This attribute is the same after many steps."""

    name: str
