"""What is off about bounds that are no plain ELBO: mixtures, importance weights, flows, hierarchies. Worked out when a rule first asks."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.finding import Span
from vaelint.faults.batch.covariances import CrossedDiagonal, Miscentred, crossed_diagonals, miscentred_covariances
from vaelint.faults.bounds.averaged_components import Averaged, averaged_components
from vaelint.faults.bounds.densities import FlawedDensity, flawed_densities
from vaelint.faults.bounds.draw_bounds import FlawedBound, flawed_bounds
from vaelint.faults.bounds.flows import FlowBound, flow_bounds
from vaelint.faults.bounds.hierarchies import HeldToEncoder, held_to_encoder, unheld_sites
from vaelint.faults.bounds.importance import Inverted, inverted_likelihoods, inverted_weights
from vaelint.faults.bounds.mixture_weights import Repeated, repeated_weights
from vaelint.faults.bounds.unbounded import Unbounded, unbounded_outputs
from vaelint.faults.gradients.unused_prior import UnusedPrior, unused_priors
from vaelint.faults.sampling.cancelled import Cancelled, cancelled_draws
from vaelint.record.frames import frame_beside
from vaelint.trace.align import align

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_SMALL = 30_000_000


class Bound:
    """What is off about bounds that are no plain ELBO."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @cached_property
    def _real_nodes(self) -> dict[fx.Node, fx.Node]:
        """Nodes of the record -> those of a run on real tensors; empty for a large model, and where that run raises."""
        model = self._model
        if model.record.rung == "real":
            return {n: n for n in model.record.nodes}
        if model.parameter_count > _SMALL:
            return {}
        record = model.tracer.real(model.step)
        return align(model.record, record) if record.failure is None else {}

    def real_value(self, node: fx.Node) -> torch.Tensor | None:
        """A node's value in one run on real tensors; None where that run takes another way."""
        own = self._real_nodes.get(node)
        value = own.meta.get("val") if own is not None else None
        return value if isinstance(value, torch.Tensor) else None

    @cached_property
    def repeated_weights(self) -> list[Repeated]:
        """Log-weights of a mixture that are counted once a latent dimension."""
        return repeated_weights(self._model)

    @cached_property
    def averaged_components(self) -> list[Averaged]:
        """Components of a prior that the KL is averaged over."""
        return averaged_components(self._model)

    @cached_property
    def inverted_weights(self) -> list[Inverted]:
        """Weights over draws that grow with the loss of a draw."""
        return inverted_weights(self._model)

    @cached_property
    def inverted_likelihoods(self) -> list[ReconFact]:
        """Likelihoods that enter log-weights with the wrong sign, where no whole log-weight is inverted."""
        return [] if self.inverted_weights else inverted_likelihoods(self._model)

    @cached_property
    def flawed_bounds(self) -> list[FlawedBound]:
        """Bounds over several draws whose logarithm, axis or constant is off."""
        return flawed_bounds(self._model)

    @cached_property
    def flawed_densities(self) -> list[FlawedDensity]:
        """Densities of z whose error and normaliser disagree."""
        return flawed_densities(self._model)

    @cached_property
    def unbounded_outputs(self) -> list[Unbounded]:
        """Outputs in which the loss has no lower bound."""
        return unbounded_outputs(self._model)

    @cached_property
    def miscentred_covariances(self) -> list[Miscentred]:
        """Covariances over the batch of values that are centred sample by sample."""
        return miscentred_covariances(self._model)

    @cached_property
    def crossed_diagonals(self) -> list[CrossedDiagonal]:
        """Diagonals that pair sample i with feature i."""
        return crossed_diagonals(self._model)

    @cached_property
    def flow_bounds(self) -> list[FlowBound]:
        """Closed-form KLs beside a flow's log-determinant."""
        return flow_bounds(self._model)

    @cached_property
    def held_to_encoder(self) -> list[HeldToEncoder]:
        """KLs to the half of a merged posterior that the encoder gives."""
        return held_to_encoder(self._model)

    @cached_property
    def unheld_sites(self) -> list[Site]:
        """Posteriors without a KL beside others that have theirs."""
        return unheld_sites(self._model)

    @cached_property
    def unused_priors(self) -> list[UnusedPrior]:
        """Learned priors beside a KL to a fixed one."""
        return unused_priors(self._model)

    @cached_property
    def cancelled_draws(self) -> list[Cancelled]:
        """Parameters whose part in a draw cancels."""
        return cancelled_draws(self._model)

    def beside(self, node: fx.Node, other: fx.Node) -> Span | None:
        """The expression that made `node`, in the innermost function that `other` was made in as well."""
        return frame_beside(node, other)
