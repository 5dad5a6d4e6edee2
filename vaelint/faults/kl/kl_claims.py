"""What findings about the KL and its weight claim of a real run, and how they can be mended, a type for each. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.core.claim_and_repair import Claim, Repair
from vaelint.faults.claim_bases import AtNode, OfKl
from vaelint.late import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import fx

    from vaelint.anatomy.loss.facts import Beta
    from vaelint.core.finding import Span
    from vaelint.faults.kl.scale_verdicts import ScaleVerdict


@dataclass(frozen=True)
class KlClosedForm(OfKl):
    """The term differs from the closed form of its divergence."""

    binary: bool = False  # whether the posterior is a Bernoulli's


@dataclass(frozen=True)
class GradientRatio(Claim):
    """The gradient of the KL over that of the reconstruction is that of this beta."""

    beta: Beta


@dataclass(frozen=True)
class KlGradient(OfKl):
    """A step towards the prior raises the loss; with `zero`, there is no gradient where the KL is large."""

    zero: bool = False


@dataclass(frozen=True)
class KlSign(Repair):
    """The sign of the KL turned."""

    place: fx.Node | None


@dataclass(frozen=True)
class KlHalf(Repair):
    """The factor of one half."""

    core: fx.Node | None


@dataclass(frozen=True)
class KlFormula(Repair):
    """The closed form, term by term; with `reading`, another reading of the scale first."""

    core: fx.Node | None
    heads: Sequence[fx.Node]
    reading: bool = False


@dataclass(frozen=True)
class SwapHeads(Repair):
    """Mean and log-variance exchanged."""

    place: fx.Node | Span | None
    heads: Sequence[fx.Node]


@dataclass(frozen=True)
class KlDirection(Repair):
    """Posterior and prior exchanged."""

    core: fx.Node | None


@dataclass(frozen=True)
class AddKl(Repair):
    """The KL added to the loss."""

    place: fx.Node | Span | None
    computed: fx.Node | None


@dataclass(frozen=True)
class FloorNotCeiling(AtNode):
    """A lower bound in place of an upper one."""


@dataclass(frozen=True)
class UseWeight(Repair):
    """The weight put before the KL."""

    name: str


@dataclass(frozen=True)
class Balance(Repair):
    """Both terms reduced so that they are those of the ELBO."""

    verdict: ScaleVerdict
