"""What findings about devices claim of a real run, and how they can be mended, a type for each. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.core.claim_and_repair import Claim, Repair
from vaelint.faults.claim_bases import AtPlace
from vaelint.late import dataclass

if TYPE_CHECKING:
    from torch import fx

    from vaelint.core.finding import Span
    from vaelint.faults.devices.devices import Stray


@dataclass(frozen=True)
class DeviceError(Claim):
    """On another device the step raises; with `asked`, where there is no CUDA."""

    node: fx.Node | None = None
    born: fx.Node | None = None
    asked: str = ""
    place: Span | None = None


@dataclass(frozen=True)
class AutocastRefuses(Claim):
    """On a CUDA device the step raises."""


@dataclass(frozen=True)
class SameDevice(Repair):
    """A tensor made on the device of the others."""

    stray: Stray


@dataclass(frozen=True)
class DeviceOfData(AtPlace):
    """The device of the data in place of a name."""
