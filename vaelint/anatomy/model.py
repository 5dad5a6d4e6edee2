"""The model as rules see it: the record, the posterior, the terms of the loss, what each means, and further traces on request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import fx

from vaelint.anatomy.loss.balance import effective_beta, joined_draws
from vaelint.anatomy.loss.facts import Beta, KlFact, PartFact, ReconFact
from vaelint.anatomy.loss.layered import layered_nodes
from vaelint.anatomy.loss.pointing import own_place, pointed
from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.anatomy.posterior.codebooks import Codebook, codebooks_of
from vaelint.anatomy.posterior.parameterisation import Parameterisation, parameterisation
from vaelint.anatomy.posterior.sites import Site, draws_of
from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.record.flow import Flow
from vaelint.record.record import Record, route
from vaelint.replay.ranges import Range, value_range
from vaelint.replay.traced import Traced

if TYPE_CHECKING:
    from vaelint.perturb.culprits import Perturbation


@dataclass
class Model(Traced):
    """Everything static that is known of one target. Rules read it; nothing writes to it after `analyse`."""

    sites: list[Site]  # draws that reach the loss, or all when there is no loss
    idle_sites: list[Site]  # draws that do not reach it
    other: Record | None = None  # the same step at another batch size
    dropped_sites: list[Site] = field(default_factory=list)  # the same, of a place that also draws what does
    leaves: list[Leaf] = field(default_factory=list)
    terms: list[Term] = field(default_factory=list)
    kls: list[KlFact] = field(default_factory=list)
    recons: list[ReconFact] = field(default_factory=list)
    parts: list[PartFact] = field(default_factory=list)  # what else the loss is made of
    notes: list[str] = field(default_factory=list)
    perturbation: Perturbation | None = None  # set where other constructor arguments are to be tried
    _parameterisations: dict[fx.Node, Parameterisation] = field(default_factory=dict)

    # --- what a node is ----------------------------------------------------------------------------------------------

    def pointed(self, node: fx.Node | None) -> Span | None:
        """The same; of a sum or product over several lines, the operand that is meant."""
        return pointed(self, node) if node is not None else None

    def own_place(self, node: fx.Node | None) -> Span | None:
        """The same; of a helper module that stands in several places, its call."""
        return own_place(self, self.sites, node) if node is not None else None

    # --- the posterior --------------------------------------------------------------------------------------------------

    @property
    def gaussian_sites(self) -> list[Site]:
        """Draws of a Gaussian posterior, one for each way to its place: two calls of a helper are two, turns of a loop one."""
        seen: dict[Any, Site] = {}
        for s in self.sites:
            if s.kind in ("gaussian", "drawn"):
                seen.setdefault(route(s.z), s)
        return list(seen.values())

    def noise_of(self, site: Site) -> fx.Node | None:
        """The noise as it enters: eps."""
        return site.noise[0] if site.noise and site.kind != "drawn" else None

    def posterior_of(self, site: Site) -> fx.Node | None:
        """The mean, or the scale where there is no mean: what eps should have the shape of."""
        return site.mu if site.mu is not None else site.scale

    def parameterisation(self, site: Site) -> Parameterisation:
        """How the sampler reads the encoder's head."""
        if site.z not in self._parameterisations:
            self._parameterisations[site.z] = parameterisation(self, site)
        return self._parameterisations[site.z]

    def range_of(self, node: fx.Node | None) -> Range | None:
        """Which values a node can take whatever the layers put out."""
        return value_range(self, node) if node is not None else None

    @property
    def codebooks(self) -> list[Codebook]:
        """Lookups of a nearest code: vector quantisation."""
        return codebooks_of(self)

    @property
    def draws(self) -> list[fx.Node]:
        """Draws that the loss or an output depends on, whatever for."""
        return draws_of(self)

    # --- what the whole is --------------------------------------------------------------------------------------------

    @property
    def variational(self) -> bool:
        """Whether anything is drawn on the way, or was meant to be."""
        return bool(self.sites or self.idle_sites)

    @cached_property
    def decoded(self) -> set[fx.Node]:
        """Values that a layer made of z or of the posterior: the decoder's."""
        return decoded_nodes(self.flow, self.sites + self.idle_sites)

    @cached_property
    def recon(self) -> ReconFact | None:
        """The reconstruction that weights are held against: the first whose weight is known."""
        known = [r for r in self.recons if r.scaling is not None and r.scaling.constant]
        return joined_draws(known) if known else (self.recons[0] if self.recons else None)

    @cached_property
    def betas(self) -> list[Beta]:
        """Effective beta of each KL against its reconstruction."""
        made = [effective_beta(k, r, self.symbols) for k in self.kls if (r := self._recon_of(k)) is not None]
        return [b for b in made if b is not None]

    def _recon_of(self, kl: KlFact) -> ReconFact | None:
        """The reconstruction that is made of a KL's own posterior: with several encoders, each has its draws and its share."""
        known = [r for r in self.recons if r.scaling is not None and r.scaling.constant]
        if kl.site is None or len(known) < 2:
            return self.recon
        below = self.flow.descendants(*(s.z for s in self.sites if s.heads == kl.site.heads))
        own = [r for r in known if r.pair.recon in below]
        return joined_draws(own) if own else self.recon

    def term(self, role: str) -> Term | None:
        """The first term of a role."""
        return next((t for t in self.terms if t.role == role), None)

    def terms_of(self, role: str) -> Iterator[Term]:
        """All terms of a role."""
        return (t for t in self.terms if t.role == role)


def decoded_nodes(flow: Flow, sites: list[Site]) -> set[fx.Node]:
    """Everything that a layer made of z or of the heads; every layer's output when there is no site.

    z itself for decoders without layers.
    """
    if not sites:
        return {n for n in flow.learned if n in flow.data}
    z, heads = {s.z for s in sites}, {h for s in sites for h in s.heads}
    return layered_nodes(flow, sites) | z | heads
