"""What was measured of the terms of a loss: one KL, one reconstruction, one further part, and an effective beta."""

from __future__ import annotations

from dataclasses import field

from torch import fx

from vaelint.anatomy.kl.kl_probe import KlProbe
from vaelint.anatomy.loss.term_weights import Factor
from vaelint.anatomy.loss.terms import Role, Term
from vaelint.anatomy.posterior.sites import Site
from vaelint.anatomy.reconstruction.density_kind import Density
from vaelint.anatomy.reconstruction.pairs import Pair
from vaelint.anatomy.reconstruction.recon import ReconProbe
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.replay.scale import Scaling

_PARTS = {"m": "mu^2", "s2": "sigma^2", "1": "log sigma^2"}


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

    @property
    def is_partly_read(self) -> bool:
        """Whether it takes the head for a log-variance in one part and for a log-standard deviation in another."""
        return self.probe.verdict == "wrong" and any(k.startswith("exp(") for k in self.probe.coefficients)

    @property
    def relative_coefficients(self) -> dict[str, float]:
        """Coefficients of m, s^2 and -1 in the gradients, against the largest that agrees with another."""
        known = self.probe.coefficients
        unit = max((abs(v) for v in known.values()), default=1.0) or 1.0
        return {k: round(v / unit, 6) for k, v in known.items()}

    @property
    def odd_part(self) -> str | None:
        """Which of the parts m^2, s^2 and log s has a coefficient of its own, where the other two agree."""
        known = self.probe.coefficients
        if set(known) != {"m", "s2", "1"}:
            return None
        size = max(abs(v) for v in known.values())
        agree = [(a, b) for a, b in (("m", "s2"), ("m", "1"), ("s2", "1")) if abs(known[a] - known[b]) <= 1e-6 * size]
        return next(iter(set(known) - set(agree[0]))) if len(agree) == 1 else None

    @property
    def wrong_coefficient(self) -> str:
        """Which coefficient is off and what it should be, "" where more than one is."""
        odd = self.odd_part
        others = [v for k, v in self.probe.coefficients.items() if k != odd]
        if odd is None or not others[0]:
            return ""
        return f"the coefficient of {_PARTS[odd]} is {self.probe.coefficients[odd] / others[0]:.4g} times what it should be"


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
    moving_weight: bool = False  # what an error weighs moves with a further output of the decoder, and no density was read
    density: Density | None = None  # what it is as a density of the data, where the gradient at the reconstruction does not tell
    learned_weight: float | None = None  # the weight of one element in nats where its scale is learned and no density was read
    unit: float | None = None  # what a nat is in units of the kernel, where the author fixed the scale of a density
    deviation: float | None = None  # of the decoder, where its author divided the error by it
    stacked: tuple[str, ...] = ()  # axes that the target lacks: several reconstructions of one target
    share: float = 1.0  # of the batch's rows that it is of
    rounds: int = 1  # how often each row is compared, along the batch
    whole: frozenset[fx.Node] = frozenset()  # the addends that its density was read of: two of them are one likelihood
    error: Scaling | None = None  # how its error alone is weighed, where `scaling` is that of a density whose scale is learned

    @property
    def takes_logits(self) -> bool:
        """Whether the likelihood is Bernoulli on logits: by its gradient, or torch's own with weights."""
        return self.probe.kernel == "bce_with_logits" or ops.op(self.pair.meet) == "binary_cross_entropy_with_logits"

    @property
    def takes_class_logits(self) -> bool:
        """Whether the likelihood is categorical on logits."""
        return self.probe.kernel == "cross_entropy" or ops.op(self.pair.meet) == "cross_entropy"


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
    addends: tuple[fx.Node, ...] = ()  # of a KL's term, those that are this and no part of the KL
