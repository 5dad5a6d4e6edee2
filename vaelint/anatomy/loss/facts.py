"""What was measured of the terms of a loss: one KL, one reconstruction, one further part, and an effective beta."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import fx

from vaelint.anatomy.kl.kl_probe import KlProbe
from vaelint.anatomy.loss.term_weights import Factor
from vaelint.anatomy.loss.terms import Role, Term
from vaelint.anatomy.posterior.sites import Site
from vaelint.anatomy.reconstruction.density_kind import Density
from vaelint.anatomy.reconstruction.recon import Pair, ReconProbe
from vaelint.replay.scale import Scaling


@dataclass
class KlFact:
    """One posterior's KL: what it is, what it weighs."""

    term: Term
    site: Site | None
    probe: KlProbe
    scaling: Scaling | None = None
    factors: list[Factor] = field(default_factory=list)
    latent: tuple[str, ...] = ()  # the symbols of the latent's own dimensions
    silent: Scaling | None = None  # its weight without the factor that is 0 at this step
    samples: tuple[str, ...] = ()  # those of axes along which the posterior is drawn several times
    inside: Scaling | None = None  # its weight inside of |KL - C|


@dataclass
class ReconFact:
    """One reconstruction against one target: what it is, what it weighs."""

    term: Term
    pair: Pair
    probe: ReconProbe
    scaling: Scaling | None = None
    factors: list[Factor] = field(default_factory=list)
    event: tuple[str, ...] = ()  # the symbols of the data's own dimensions
    learned_variance: bool = False  # the likelihood has its own log-variance: its scale is right by itself
    density: Density | None = None  # what it is as a density of the data, where the gradient at the reconstruction does not tell
    unit: float | None = None  # what a nat is in units of the kernel, where the author fixed the scale of a density
    stacked: tuple[str, ...] = ()  # axes that the target lacks: several reconstructions of one target
    error: Scaling | None = None  # how its error alone is weighed, where `scaling` is that of a density whose scale is learned


@dataclass
class Beta:
    """Effective weight of a KL against a reconstruction, per sample, in units of the exact ELBO.

    For squared error (r - t)^2 is taken as the negative log-likelihood (a Gaussian of variance 1/2), unless it is written
    with a factor 1/2; `variance` is the decoder variance under which the loss is the exact ELBO.
    """

    scaling: Scaling
    kl: KlFact
    recon: ReconFact
    variance: float | None = None

    @property
    def value(self) -> float:
        """beta at the user's sizes."""
        return self.scaling.value


@dataclass
class PartFact:
    """A term beside reconstruction and plain KL: what it is, what it weighs, under which symbol its paper has the weight."""

    role: Role
    kind: str
    symbol: str
    scaling: Scaling | None
    node: fx.Node | None
    own: tuple[str, ...] = ()  # the dimensions that are its own
    reduction: str = ""  # where no weight of an element says it
