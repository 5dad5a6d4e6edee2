"""What findings about gradients and parameters claim of a real run, and how they can be mended, a type for each. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.core.claim_and_repair import Claim, Repair
from vaelint.faults.claim_bases import AtNode, AtPlace, OfSite
from vaelint.late import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import fx


@dataclass(frozen=True)
class GradientReaches(Claim):
    """The loss gives these values and parameters no gradient."""

    node: fx.Node | None = None
    parameters: Sequence[str] = ()
    nodes: Sequence[fx.Node | None] = ()
    reaches: bool = False  # whether it is claimed that it does


@dataclass(frozen=True)
class NoGradFromRecon(Claim):
    """The reconstruction gives these values and parameters no gradient."""

    nodes: Sequence[fx.Node | None] = ()
    parameters: Sequence[str] = ()
    cut: fx.Node | None = None  # where it ends
    node: fx.Node | None = None
    reaches: bool = False


@dataclass(frozen=True)
class GradientToScale(OfSite):
    """The loss only ever asks for a smaller variance."""


@dataclass(frozen=True)
class Registered(Claim):
    """The parameters that were drawn are not all among `model.parameters()`."""


@dataclass(frozen=True)
class VqGradients(Claim):
    """`what` gets no gradient: "encoder", "codebook" or "commitment"."""

    what: str
    parameters: Sequence[str] = ()


@dataclass(frozen=True)
class OptimizerGroups(Claim):
    """These parameters are in no group of the optimizer."""

    parameters: Sequence[str]


@dataclass(frozen=True)
class SecondBackward(Claim):
    """A second backward pass raises."""


@dataclass(frozen=True)
class StepMovesNothing(Claim):
    """The step leaves all parameters as they were."""

    of: tuple[str, ...] = ()  # names of the parameters that it is over; empty for all


@dataclass(frozen=True)
class SecondStep(Claim):
    """The second step's backward pass raises."""


@dataclass(frozen=True)
class Raises(Claim):
    """The step raises; or `node` leaves what its kernel takes."""

    node: fx.Node | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class KeepGradient(Repair):
    """Nothing detached."""

    node: fx.Node | None


@dataclass(frozen=True)
class RegisterLayers(AtPlace):
    """Layers in a ModuleList or a ModuleDict, tensors as parameters."""


@dataclass(frozen=True)
class AllParameters(AtPlace):
    """All parameters given to the optimizer."""


@dataclass(frozen=True)
class NotInPlace(AtNode):
    """The operation that makes a new tensor."""


@dataclass(frozen=True)
class CodesWithGradient(Repair):
    """The codes looked up with their gradient."""

    node: fx.Node | None
