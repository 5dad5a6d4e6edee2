"""What findings about the reconstruction term claim of a real run, and how they can be mended, a type for each. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vaelint.core.claim_and_repair import Claim, Repair

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from torch import fx

    from vaelint.anatomy.loss.facts import ReconFact
    from vaelint.core.finding import Span
    from vaelint.faults.likelihood.padding import Padding


@dataclass(frozen=True)
class ReconGradient(Claim):
    """Moving the reconstruction towards the target raises the loss."""

    fact: ReconFact


@dataclass(frozen=True)
class Kernel(Claim):
    """The gradient of the term is not that of its likelihood."""

    fact: ReconFact
    scale: fx.Node | None = None
    exchanged: bool = False  # whether reconstruction and target may have changed places


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
class DataBehindEncoder(Claim):
    """The loss sees the data through the encoder only."""


@dataclass(frozen=True)
class PaddingCounts(Claim):
    """A change of the logits at padding changes the loss."""

    fact: ReconFact
    padding: Padding


@dataclass(frozen=True)
class LossAgainstRepaired(Claim):
    """The loss differs from that of the repaired code."""

    repaired: Callable[[Callable[[fx.Node], torch.Tensor]], float]


@dataclass(frozen=True)
class TargetLeak(Claim):
    """The prediction of a token moves with that token."""

    fact: ReconFact
    tokens: fx.Node


@dataclass(frozen=True)
class StepLeak(Claim):
    """The prediction of a step moves with that step."""

    fact: ReconFact
    given: fx.Node
    axis: int


@dataclass(frozen=True)
class SumsToOne(Claim):
    """exp(-loss) over all counts does not sum to one."""

    fact: ReconFact


@dataclass(frozen=True)
class ClassSums(Claim):
    """The probabilities along `axis` do not sum to one."""

    node: fx.Node
    axis: int


@dataclass(frozen=True)
class RowsOfChannels(Claim):
    """The rows that are looked up mix the channels of several places."""

    origin: fx.Node
    rows: fx.Node


@dataclass(frozen=True)
class LossOnLogits(Repair):
    """The form of the loss that takes logits."""

    meet: fx.Node


@dataclass(frozen=True)
class SwapArguments(Repair):
    """Reconstruction and target exchanged."""

    meet: fx.Node


@dataclass(frozen=True)
class ReconSign(Repair):
    """The sign of the term turned."""

    fact: ReconFact


@dataclass(frozen=True)
class CleanTarget(Repair):
    """The input as it was, for the target."""

    place: fx.Node | Span | None
    meet: fx.Node
    target: fx.Node | None


@dataclass(frozen=True)
class ActivationForData(Repair):
    """An activation whose range is that of the data."""

    activation: fx.Node | None
    data: tuple[float, float]


@dataclass(frozen=True)
class RescaleTarget(Repair):
    """The target brought into [0, 1]."""

    meet: fx.Node
    target: fx.Node | None
    data: tuple[float, float]


@dataclass(frozen=True)
class LikelihoodFormula(Repair):
    """The Gaussian negative log-likelihood."""

    node: fx.Node
    extra: Sequence[fx.Node]


@dataclass(frozen=True)
class IgnorePadding(Repair):
    """Padding left out of the loss."""

    meet: fx.Node
    padding: Padding


@dataclass(frozen=True)
class DropOnes(Repair):
    """The axis of size one taken away."""

    node: fx.Node


@dataclass(frozen=True)
class SameShape(Repair):
    """Reconstruction and target brought to one shape."""

    meet: fx.Node
    recon: fx.Node
    target: fx.Node
