"""The model as rules see it: the record, the posterior, the terms of the loss, what each means, and further traces on request."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from vaelint.anatomy.kl.kl_parts import PartFact, read_kl
from vaelint.anatomy.kl.kl_sphere import read_sphere
from vaelint.anatomy.loss.objective import Beta, KlFact, ReconFact, effective_beta, joined_draws, name_dimensions
from vaelint.anatomy.loss.pointing import own_place, pointed
from vaelint.anatomy.loss.terms import Leaf, Term, assign_roles, expand, layered_nodes
from vaelint.anatomy.posterior.parameterisation import Parameterisation, parameterisation
from vaelint.anatomy.posterior.sites import Site, find_sites, is_draw_of_data
from vaelint.anatomy.reconstruction.recon_depth import read_recon
from vaelint.core.finding import Label, ShapeRow, Span
from vaelint.core.inputs import InputSet
from vaelint.faults.bounds.bound_facts import Bound
from vaelint.faults.kl.objective_facts import Objective
from vaelint.faults.likelihood.likelihood_facts import Likelihood
from vaelint.faults.sampling.sampling_facts import Sampling
from vaelint.faults.wiring import Wiring
from vaelint.record import ops
from vaelint.record.flow import Flow, analyse_flow
from vaelint.record.record import Record, route, shape, span
from vaelint.replay.ranges import Range, value_range
from vaelint.replay.replay import Replay
from vaelint.source.written import Source
from vaelint.trace.along import find_along
from vaelint.trace.ladder import Tracer

if TYPE_CHECKING:
    from vaelint.perturb.culprits import Perturbation

SMALL = 30_000_000
"""Parameters up to which a real model is built for the values of its buffers and scalars."""


@dataclass
class Model:
    """Everything static that is known of one target. Rules read it; nothing writes to it after `analyse`."""

    record: Record
    tracer: Tracer
    inputs: InputSet
    step: Any
    source: Source
    flow: Flow
    sites: list[Site]  # draws that reach the loss, or all when there is no loss
    idle_sites: list[Site]  # draws that do not reach it
    other: Record | None = None  # the same step at another batch size
    leaves: list[Leaf] = field(default_factory=list)
    terms: list[Term] = field(default_factory=list)
    kls: list[KlFact] = field(default_factory=list)
    recons: list[ReconFact] = field(default_factory=list)
    parts: list[PartFact] = field(default_factory=list)  # what else the loss is made of
    symbols: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    perturbation: Perturbation | None = None  # set where other constructor arguments are to be tried
    _parameterisations: dict[fx.Node, Parameterisation] = field(default_factory=dict)

    # --- further runs, on request ----------------------------------------------------------------------------------

    @cached_property
    def evaluation(self) -> Record:
        """The step in evaluation mode."""
        return self.tracer.run(self.step, training=False)

    @cached_property
    def single(self) -> Record:
        """The step on a batch of one, in training mode."""
        return self.tracer.run(self.step, {"B": 1})

    @cached_property
    def with_calls(self) -> Record:
        """The step once more, with the calls of the user's functions."""
        return self.tracer.with_calls(self.step)

    @cached_property
    def real_model(self) -> torch.nn.Module:
        """A real model with its real initial values."""
        return self.tracer.construct_real().model

    @cached_property
    def replay(self) -> Replay:
        """Runs slices of the record."""
        return Replay(
            self.record,
            self.leaf_value,
            lambda sizes: self.tracer.inputs(self.input_sizes(sizes)),
            self.symbols,
            lambda symbol: find_along(self.record, self.tracer, symbol, self.inputs.symbols),
        )

    def input_sizes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """The part of an assignment that inputs are made with; symbols that are the batch follow it."""
        known = {k: v for k, v in sizes.items() if k in self.inputs.symbols}
        return known | {s: known["B"] for s in self.record.joined if "B" in known}

    def leaf_value(self, node: fx.Node) -> torch.Tensor | None:
        """The real value of a parameter, buffer or constant of the record."""
        val = node.meta.get("val")
        if isinstance(val, torch.Tensor) and self.record.rung == "real":
            return val
        name = str(node.target)
        if name.startswith("_constant_"):
            return val if isinstance(val, torch.Tensor) and type(val) in (torch.Tensor, torch.nn.Parameter) else None
        if self.parameter_count > SMALL and isinstance(val, torch.Tensor) and val.numel() > 1:
            return torch.randn(tuple(val.shape)) if val.is_floating_point() else None
        found: Any = self.real_model
        for part in name.split("."):
            found = getattr(found, part, None)
        return found if isinstance(found, torch.Tensor) else None

    @cached_property
    def parameter_count(self) -> int:
        """Parameters of the model."""
        return sum(p.numel() for p in self.record.model.parameters())

    @cached_property
    def sampling(self) -> Sampling:
        """How z is drawn."""
        return Sampling(self)

    @cached_property
    def likelihood(self) -> Likelihood:
        """How reconstruction and target are compared."""
        return Likelihood(self)

    @cached_property
    def objective(self) -> Objective:
        """The KL, and the balance of the loss."""
        return Objective(self)

    @cached_property
    def bound(self) -> Bound:
        """Mixtures, importance weights, flows, hierarchies."""
        return Bound(self)

    @cached_property
    def wiring(self) -> Wiring:
        """Batch, gradients, devices and ranges."""
        return Wiring(self)

    # --- what a node is ----------------------------------------------------------------------------------------------

    def where(self, node: fx.Node | None) -> Span | None:
        """The user's expression that made a node."""
        return span(node) if node is not None else None

    def pointed(self, node: fx.Node | None) -> Span | None:
        """The same; of a sum or product over several lines, the operand that is meant."""
        return pointed(self, node) if node is not None else None

    def own_place(self, node: fx.Node | None) -> Span | None:
        """The same; of a helper module that stands in several places, its call."""
        return own_place(self, node) if node is not None else None

    def written(self, node: fx.Node | None) -> str:
        """How the user calls a value: the name it is assigned to, else its expression, else the layer's path."""
        if node is None:
            return ""
        if node.op == "placeholder":
            return str(node.meta.get("input", node.name))
        if node.op == "get_attr":
            return str(node.target)
        place = span(node)
        if place is None:
            return node.name
        if self.source.is_whole_value(place) and (name := self.source.assigned(place)):
            return name
        text = self.source.expression(place)
        return text if len(text) <= 48 else text[:45] + "..."

    def dims(self, node: fx.Node) -> tuple[str, ...]:
        """Symbolic shape of a tensor node."""
        return self.record.shapes.get(node) or tuple(str(n) for n in shape(node))

    def shape_text(self, node: fx.Node) -> str:
        """`(B, L)`."""
        return "(" + ", ".join(self.dims(node)) + ")"

    def label(self, node: fx.Node, text: str = "") -> Label | None:
        """A label at a node: its name and shape, or `text`."""
        place = span(node)
        return Label(place, text or f"{self.written(node)}: {self.shape_text(node)}") if place is not None else None

    def labels(self, *pairs: tuple[fx.Node | None, str]) -> tuple[Label, ...]:
        """Labels for several nodes; those without a place are left out."""
        made = [self.label(n, t) for n, t in pairs if n is not None]
        return tuple(m for m in made if m is not None)

    def row(self, node: fx.Node, remark: str = "", name: str = "") -> ShapeRow:
        """A line of the shape table."""
        return ShapeRow(name or self.written(node), self.dims(node), remark)

    def birth(self, path: str) -> Span | None:
        """Where the module of that path was constructed."""
        for call in self.record.calls:
            if call.path == path:
                return self.record.births.get(id(call.module))
        return None

    def op(self, node: fx.Node) -> str:
        """A node's operation by name."""
        return ops.op(node)

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

    def mentions_batch(self, node: fx.Node) -> bool:
        """Whether a dimension of the node moves with the batch."""
        return any("B" in text for text in self.dims(node))

    def parameterisation(self, site: Site) -> Parameterisation:
        """How the sampler reads the encoder's head."""
        if site.z not in self._parameterisations:
            self._parameterisations[site.z] = parameterisation(self, site)
        return self._parameterisations[site.z]

    def missing_axes(self, node: fx.Node, like: fx.Node) -> list[str]:
        """The axes of `like`, the batch aside, along which `node` has size 1 or none, lined up from the right as broadcasting does."""
        mine, full, texts = shape(node), shape(like), self.dims(like)
        missing = []
        for back in range(1, len(full) + 1):
            own = mine[-back] if back <= len(mine) else 1
            if full[-back] != 1 and own == 1 and "B" not in texts[-back]:
                missing.append(texts[-back])
        return missing[::-1]

    def range_of(self, node: fx.Node | None) -> Range | None:
        """Which values a node can take whatever the layers put out."""
        return value_range(self, node) if node is not None else None

    def birth_labels(self, node: fx.Node | None, text: str) -> tuple[Label, ...]:
        """A label where the module that ran a node was constructed."""
        place = self.birth(str(node.meta.get("module"))) if node is not None and node.meta.get("module") else None
        return (Label(place, text),) if place is not None else ()

    def elements(self, node: fx.Node) -> int:
        """How many elements a value has."""
        return math.prod(shape(node))

    # --- what the whole is --------------------------------------------------------------------------------------------

    @property
    def has_loss(self) -> bool:
        """Whether a loss is known."""
        return self.record.loss is not None

    @property
    def variational(self) -> bool:
        """Whether anything is drawn on the way, or was meant to be."""
        return bool(self.sites or self.idle_sites)

    @cached_property
    def decoded(self) -> set[fx.Node]:
        """Values that a layer made of z or of the posterior: the decoder's."""
        return decoded_nodes(self.flow, self.sites + self.idle_sites)

    @cached_property
    def reaching_loss(self) -> set[fx.Node]:
        """Nodes whose values the loss depends on; of a step that minimises several, any of them."""
        losses = [self.record.loss, *(o.loss for o in self.record.objectives[1:])]
        return self.flow.ancestors(*(n for n in losses if n is not None))

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


def analyse(record: Record, tracer: Tracer, inputs: InputSet, step: Any, source: Source, other: Record | None) -> Model:
    """Finds the anatomy of a recorded step."""
    flow = analyse_flow(record)
    found = find_sites(flow)
    reach = flow.ancestors(record.loss) if record.loss is not None else set(flow.order)
    sites = [s for s in found if s.z in reach]
    routes = {route(s.z) for s in sites}
    others = flow.ancestors(*(o.loss for o in record.objectives if o.loss is not None))  # draws of another loss are not idle
    idle = [s for s in found if s.z not in reach | others and route(s.z) not in routes and not is_draw_of_data(s, sites, flow)]
    symbols: dict[str, int] = {k: v for k, v in record.sizes.items() if k not in record.joined}
    model = Model(record, tracer, inputs, step, source, flow, sites, idle, other, symbols=symbols)
    _name_inputs(model)
    name_dimensions(record, sites + idle, symbols, flow)
    if record.loss is not None:
        _analyse_loss(model)
    return model


def _name_inputs(model: Model) -> None:
    """Inputs have the symbols that the user's sizes were given."""
    for node, dims in zip(model.record.inputs.values(), model.inputs.dims, strict=False):
        if node in model.record.shapes and len(dims) == len(model.record.shapes[node]):
            model.record.shapes[node] = tuple("B" if d in model.record.joined else d for d in dims)


def _split_loss(model: Model, idle: list[Site]) -> list[Site]:
    """The terms of the loss, where these idle draws count as posteriors too; all that do."""
    assert model.record.loss is not None
    sites = model.sites + idle
    stop = {s.z for s in sites} | {h for s in sites for h in s.heads}
    model.leaves = expand(model.record.loss, model.flow, stop)
    model.terms = assign_roles(model.leaves, sites, model.flow)
    return sites


def _is_prior(idle: Site, model: Model) -> bool:
    """Whether moments of a draw that leads nowhere meet those of a posterior in one addend: a prior that draws as the posterior does."""
    posterior = {h for s in model.sites for h in s.heads}
    return any(posterior & set(leaf.frontier) and set(idle.heads) & set(leaf.frontier) for leaf in model.leaves)


def _analyse_loss(model: Model) -> None:
    flow, record = model.flow, model.record
    assert record.loss is not None
    idle = [s for s in model.idle_sites if any(h in model.reaching_loss for h in s.heads)]
    sites = _split_loss(model, idle)
    priors = [s for s in idle if _is_prior(s, model)]
    if priors:
        sites = _split_loss(model, [s for s in idle if s not in priors])
    for term in model.terms:
        if term.role == "reconstruction":
            model.recons += read_recon(term, record.loss, flow, model.replay, model.symbols, model.decoded, model.source, sites)
    for term in model.terms:
        if term.role == "kl" and term.detached is None:
            facts, parts = read_kl(term, record.loss, sites, flow, model.replay, model.symbols, model.source)
            model.kls += facts
            model.parts += parts
        elif term.role == "other" and term.detached is None:
            sphere = read_sphere(term, record.loss, flow, model.replay, model.symbols, model.source)
            if sphere is not None:
                term.role = "kl"
                model.kls.append(sphere)
