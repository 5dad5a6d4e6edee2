"""What findings about draws from the posterior claim of a real run, and how they can be mended, a type for each. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.core.claim_and_repair import Claim, Repair
from vaelint.faults.claim_bases import AtPlace, OfSite
from vaelint.late import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import fx

    from vaelint.anatomy.posterior.sites import Site
    from vaelint.faults.sampling.clash import Clash
    from vaelint.faults.sampling.idle import Entry, Frozen


@dataclass(frozen=True)
class NoiseRows(OfSite):
    """The rows of (z - mu) / scale are equal; with `equal=False`, they differ."""

    equal: bool = True


@dataclass(frozen=True)
class NoiseMoments(OfSite):
    """The noise has this mean and standard deviation, not 0 and 1."""

    mean: float | None = None
    std: float | None = None


@dataclass(frozen=True)
class ZUnused(Claim):
    """Two draws give the same reconstruction, or the same value of `node`."""

    node: fx.Node | None = None
    site: Site | None = None


@dataclass(frozen=True)
class ScaleUnread(Claim):
    """With the mean held, the decoder's outputs do not move with what gives the scale."""

    mean: fx.Node
    scale: fx.Node
    ends: Sequence[fx.Node] = ()


@dataclass(frozen=True)
class NoiseAxes(OfSite):
    """(z - mu) / scale is the same all along these axes."""

    axes: Sequence[str] = ()


@dataclass(frozen=True)
class ScaleNegative(OfSite):
    """The scale takes negative values."""


@dataclass(frozen=True)
class ScaleCurve(OfSite):
    """z is drawn with another scale than the one that the KL reads, by the reading of that name."""

    reads: str


@dataclass(frozen=True)
class EvalOffset(OfSite):
    """In evaluation mode z stands `multiple` scales beside mu."""

    multiple: float


@dataclass(frozen=True)
class NoiseRepeats(Claim):
    """Two calls give the same value; that of z by default."""

    node: fx.Node | None = None
    site: Site | None = None


@dataclass(frozen=True)
class DrawLike(Repair):
    """Noise of the shape of the scale."""

    noise: fx.Node
    scale: fx.Node | None
    like: fx.Node | None


@dataclass(frozen=True)
class RemoveActivation(Repair):
    """An activation left out."""

    activation: fx.Node | None


@dataclass(frozen=True)
class DecodeDraw(Repair):
    """The draw given to the decoder in place of `entry`."""

    entry: Entry
    site: Site


@dataclass(frozen=True)
class DrawAnew(Repair):
    """Noise drawn at every call."""

    frozen: Frozen


@dataclass(frozen=True)
class ScaleAs(Repair):
    """The scale that the KL means."""

    clash: Clash


@dataclass(frozen=True)
class NoBiasInEval(AtPlace):
    """Nothing added to mu in evaluation mode."""


@dataclass(frozen=True)
class IdleHead(Repair):
    """The head that was made for the scale, used for it."""

    scale: fx.Node


@dataclass(frozen=True)
class NormalNoise(Repair):
    """Noise from a normal distribution."""

    root: fx.Node
    like: fx.Node | None


@dataclass(frozen=True)
class Reparameterise(Repair):
    """z = mu + scale * noise."""

    site: Site
