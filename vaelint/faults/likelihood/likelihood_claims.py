"""What findings about the reconstruction term claim of a real run, and how they can be mended, a type for each. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.core.claim_and_repair import Claim, Repair
from vaelint.faults.claim_bases import AtNode, OfNode, OfRecon
from vaelint.late import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from torch import fx

    from vaelint.anatomy.loss.facts import ReconFact
    from vaelint.core.finding import Span
    from vaelint.faults.likelihood.padding import Padding


@dataclass(frozen=True)
class SameValues(Claim):
    """These values are equal; with `equal=False`, the first is none of the others."""

    nodes: Sequence[fx.Node | None]
    equal: bool = True


@dataclass(frozen=True)
class HeadsEqual(Claim):
    """Two heads give equal values for every input."""

    nodes: tuple[fx.Node, fx.Node]


@dataclass(frozen=True)
class ClassSums(OfNode):
    """The probabilities along `axis` do not sum to one."""

    axis: int


@dataclass(frozen=True)
class LossAgainstRepaired(Claim):
    """The loss differs from that of the repaired code."""

    repaired: Callable[[Callable[[fx.Node], torch.Tensor]], float]


@dataclass(frozen=True)
class DataBehindEncoder(Claim):
    """The loss sees the data through the encoder only."""


@dataclass(frozen=True)
class RowsOfChannels(Claim):
    """The rows that are looked up mix the channels of several places."""

    origin: fx.Node
    rows: fx.Node


@dataclass(frozen=True)
class TargetLeak(OfRecon):
    """The prediction of a token moves with that token."""

    tokens: fx.Node


@dataclass(frozen=True)
class StepLeak(OfRecon):
    """The prediction of a step moves with that step."""

    given: fx.Node
    axis: int


@dataclass(frozen=True)
class ReconGradient(OfRecon):
    """Moving the reconstruction towards the target raises the loss."""


@dataclass(frozen=True)
class PaddingCounts(OfRecon):
    """A change of the logits at padding changes the loss."""

    padding: Padding


@dataclass(frozen=True)
class Kernel(OfRecon):
    """The gradient of the term is not that of its likelihood."""

    scale: fx.Node | None = None
    exchanged: bool = False  # whether reconstruction and target may have changed places


@dataclass(frozen=True)
class SumsToOne(OfRecon):
    """exp(-loss) over all counts does not sum to one."""


@dataclass(frozen=True)
class ReconSign(Repair):
    """The sign of the term turned."""

    fact: ReconFact


@dataclass(frozen=True)
class DropOnes(AtNode):
    """The axis of size one taken away."""


@dataclass(frozen=True)
class ActivationForData(Repair):
    """An activation whose range is that of the data."""

    activation: fx.Node | None
    data: tuple[float, float]


@dataclass(frozen=True)
class SwapArguments(Repair):
    """Reconstruction and target exchanged."""

    meet: fx.Node


@dataclass(frozen=True)
class RescaleTarget(Repair):
    """The target brought into [0, 1]."""

    meet: fx.Node
    target: fx.Node | None
    data: tuple[float, float]


@dataclass(frozen=True)
class IgnorePadding(Repair):
    """Padding left out of the loss."""

    meet: fx.Node
    padding: Padding


@dataclass(frozen=True)
class SameShape(Repair):
    """Reconstruction and target brought to one shape."""

    meet: fx.Node
    recon: fx.Node
    target: fx.Node


@dataclass(frozen=True)
class CleanTarget(Repair):
    """The input as it was, for the target."""

    place: fx.Node | Span | None
    meet: fx.Node
    target: fx.Node | None


@dataclass(frozen=True)
class LossOnLogits(Repair):
    """The form of the loss that takes logits."""

    meet: fx.Node


@dataclass(frozen=True)
class LikelihoodFormula(AtNode):
    """The Gaussian negative log-likelihood."""

    extra: Sequence[fx.Node]
