"""What is off, or notable, about how z is drawn. Each fact is worked out when a rule first asks."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.anatomy.loss.terms import Leaf, layered_nodes
from vaelint.anatomy.posterior.noise import NoiseMoments, constant_axes, meets_a_matrix, noise_moments
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.finding import Span
from vaelint.faults.gradients.cuts import discrete_draws
from vaelint.faults.numerics.numerics import negative_in_logs
from vaelint.faults.sampling.clash import Clash, find_clashes
from vaelint.faults.sampling.evaluation import Biased, biased_evaluation
from vaelint.faults.sampling.handed_back import handed_back
from vaelint.faults.sampling.idle import Entry, Frozen, decoder_entry, frozen_noise, undrawn_entries, unused_posteriors
from vaelint.faults.sampling.recovered import Recovered, recovered_noise
from vaelint.faults.sampling.renamed import renamed_argument, renamed_value
from vaelint.faults.sampling.undrawn import Undrawn, undrawn_posterior
from vaelint.faults.sampling.unscaled import Unscaled, unscaled_draws
from vaelint.record import ops
from vaelint.record.record import MadeDistribution, span
from vaelint.replay.ranges import Range, value_range

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_NORMS = frozenset({"batch_norm", "layer_norm", "group_norm", "instance_norm"})


class Sampling:
    """What is off, or notable, about how z is drawn."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def constant_axes(self, site: Site) -> list[str]:
        """The posterior's axes along which a site's noise does not vary."""
        return constant_axes(self._model, site)

    def noise_moments(self, site: Site) -> NoiseMoments | None:
        """Moments of a site's noise, by drawing from its slice of the graph."""
        return noise_moments(self._model, site)

    @cached_property
    def clashes(self) -> list[Clash]:
        """Posteriors whose sampler and KL read the head differently."""
        return find_clashes(self._model)

    @cached_property
    def negative_scales(self) -> list[tuple[MadeDistribution, fx.Node]]:
        """Distributions whose scale is a layer's raw output, or bounded below zero."""
        found = []
        for made in self._model.record.distributions:
            scale = made.parameters.get("scale")
            given = _behind(scale, ops.SHAPE | {"expand"}) if scale is not None else None
            raw = given
            while raw is not None and (ops.op(raw) in ops.SHAPE | ops.SELECT or _is_affine(raw)) and ops.value_inputs(raw):
                raw = ops.value_inputs(raw)[0]
            if (
                scale is not None
                and raw in self._model.flow.data
                and raw is not None
                and ops.uses_parameter(raw)
                and ops.op(raw) in ops.LAYERS | _NORMS
            ):
                found.append((made, given if given is not None and _is_affine(given) else scale))
            elif scale is not None and scale in self._model.flow.data and scale in self._model.flow.learned:
                reach = value_range(self._model, scale)  # a bounded activation that goes below zero: a tanh, an ELU
                if reach is not None and reach.bound_by is not None and -math.inf < reach.low < -1e-6:
                    found.append((made, scale))
        return found

    @cached_property
    def negative_draws(self) -> list[fx.Node]:
        """Scales of draws written out that layers drive below zero, where the loss takes their logarithm."""
        told = {c.scale for c in self.clashes if c.negative} | {n for _, n in self.negative_scales}
        made = {n for d in self._model.record.distributions for n in d.parameters.values()}
        drawn = [s.scale for s in self._model.gaussian_sites if s.kind == "gaussian" and s.scale is not None]
        return [n for n in dict.fromkeys(drawn) if n not in told | made and negative_in_logs(self._model, n)]

    def scale_place(self, made: MadeDistribution, scale: fx.Node) -> Span:
        """Where a distribution gets its scale: where that is computed or renamed, else the constructor."""
        while ops.op(scale) in ops.SHAPE | ops.SELECT | {"expand"} and ops.value_inputs(scale):
            scale = ops.value_inputs(scale)[0]
        computed = span(scale) if ops.op(scale) in ops.ARITHMETIC else None
        return computed or renamed_value(self._model, made.stack[0], 1, "scale") or made.stack[0]

    @cached_property
    def frozen_noise(self) -> list[Frozen]:
        """Constants where noise should be."""
        return frozen_noise(self._model)

    @cached_property
    def unused_posteriors(self) -> list[tuple[fx.Node, fx.Node | None, str]]:
        """Draws that the posterior's mean has no part in: (the draw, the mean, in words)."""
        return unused_posteriors(self._model)

    @property
    def idle_draws(self) -> list[Site]:
        """Draws that never reach the loss, where no other draw does."""
        return [] if self._model.sites else [s for s in self._model.idle_sites if s.kind in ("gaussian", "drawn")]

    def decoder_entry(self, site: Site) -> Entry | None:
        """What the decoder reads when a site's z is idle."""
        return decoder_entry(self._model, site)

    @cached_property
    def recovered_noise(self) -> list[Recovered]:
        """Quotients of z - mu by what is no standard deviation."""
        return recovered_noise(self._model)

    @cached_property
    def undrawn(self) -> Undrawn | None:
        """A posterior that has a KL and that nothing is drawn from."""
        return undrawn_posterior(self._model)

    @cached_property
    def undrawn_place(self) -> Span | None:
        """Where its mean takes the place of a draw: in the function that should draw, else where it is renamed or first read."""
        fact = self.undrawn
        if fact is None:
            return None
        model = self._model
        return handed_back(model, fact.mu, fact.scale) or renamed_argument(model, fact.reader) or span(fact.reader)

    @cached_property
    def undrawn_entries(self) -> list[Entry]:
        """Layers fed with the posterior's parameters instead of a draw, or of one whose noise is a constant."""
        return [] if self.frozen_noise else undrawn_entries(self._model)

    @cached_property
    def biased_evaluation(self) -> list[Biased]:
        """Draws whose evaluation-mode value is the mean plus a multiple of the scale."""
        return biased_evaluation(self._model)

    def is_scaled_by_matrix(self, site: Site) -> bool:
        """Whether the noise goes through a matrix product on its way to z: its scale has other axes than the mean."""
        return meets_a_matrix(self._model, site)

    def scale_range(self, site: Site) -> Range | None:
        """Which values the scale of a Gaussian draw can take; None for a constant scale or a bare draw."""
        return value_range(self._model, site.scale) if site.scale is not None and site.scale_heads else None

    def feeds_reconstruction(self, node: fx.Node) -> bool:
        """Whether a reconstruction term, or a bound that holds one, depends on a node."""
        held = [*self._model.terms_of("reconstruction"), *self._model.terms_of("mixed")]
        return any(node in self._model.flow.ancestors(leaf.node) for t in held for leaf in t.leaves)

    def learns_otherwise(self, site: Site) -> bool:
        """Whether the step trains a draw's encoder by another loss of its own."""
        gradients = gradients_of(self._model)
        return gradients.moved_otherwise(gradients.names(self._model.flow.ancestors(*site.heads)), ())

    def has_score_function(self, site: Site) -> bool:
        """Whether the loss holds a log-probability of the draw multiplied by something decoded: a score-function estimator."""
        flow = self._model.flow
        decoded = layered_nodes(flow, [site])

        def sees_decoded(*nodes: fx.Node) -> bool:
            return any(n in decoded for n in flow.ancestors(*nodes))

        def is_weighed_by_decoded(leaf: Leaf) -> bool:
            """By a factor on its way up, cut off from its own gradient or not, or by one inside of it."""
            path = {leaf.node, *leaf.chain}
            outer = [n for link in leaf.chain if ops.op(link) in ops.MUL for n in ops.value_inputs(link) if n not in path]
            if sees_decoded(*outer):
                return True
            products = [ops.value_inputs(n) for n in flow.ancestors(leaf.node) if ops.op(n) in ops.MUL]
            return any(
                len(p) == 2 and any(sees_decoded(a) and {site.z, *site.heads} <= flow.ancestors(b) for a, b in (p, p[::-1]))
                for p in products
            )

        heads = {*site.heads} if site.kind != "categorical" else {n for h in site.heads for n in self._raw(h)}
        held = (leaf for leaf in self._model.leaves if site.z in leaf.frontier and any(h in leaf.frontier for h in heads))
        return any(is_weighed_by_decoded(leaf) for leaf in held)

    def _raw(self, head: fx.Node) -> set[fx.Node]:
        """A head and what it is an elementwise or normalised form of: probabilities and their logits are one head."""
        through = ops.POINTWISE | ops.SHAPE | ops.SELECT | {"softmax", "log_softmax", "logsumexp"}
        found, todo = set[fx.Node](), [head]
        while todo:
            node = todo.pop()
            found.add(node)
            if node.op == "call_function" and ops.op(node) in through:
                todo += [n for n in ops.value_inputs(node) if n in self._model.flow.learned and n not in found]
        return found

    @cached_property
    def unscaled(self) -> list[Unscaled]:
        """Draws without the scale that the KL is charged for."""
        return unscaled_draws(self._model)

    @cached_property
    def discrete_draws(self) -> list[Site]:
        """Discrete draws that let no gradient of the reconstruction through, with no score function in the loss to make up for it."""
        return [s for s in discrete_draws(self._model) if not self.has_score_function(s)]


def _behind(node: fx.Node, through: frozenset[str]) -> fx.Node:
    while ops.op(node) in through and ops.value_inputs(node):
        node = ops.value_inputs(node)[0]
    return node


def _is_affine(node: fx.Node) -> bool:
    """Whether a value is another one multiplied with a number, or with one added: it goes below zero where the other is unbounded."""
    return (
        ops.op(node) in ops.ADD | ops.MUL | ops.DIV | {"neg", "negative"}
        and len(ops.value_inputs(node)) == 1
        and node.args[0] in node.all_input_nodes
    )
