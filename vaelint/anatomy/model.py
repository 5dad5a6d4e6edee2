"""The model as rules see it: the record, the posterior, the terms of the loss, what each means, and further traces on request."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import fx

from vaelint.anatomy import likelihood, missing, ops
from vaelint.anatomy.categorical import categorical_faults
from vaelint.anatomy.clash import Clash, find_clashes
from vaelint.anatomy.evaluation import Biased, biased_evaluation
from vaelint.anatomy.flow import Flow, analyse_flow
from vaelint.anatomy.idle import Entry, Frozen, decoder_entry, frozen_noise, undrawn_entries
from vaelint.anatomy.noise import NoiseMoments, constant_axes, noise_moments
from vaelint.anatomy.objective import Beta, KlFact, ReconFact, effective_beta, measure_kl, measure_recon, name_dimensions
from vaelint.anatomy.parameterisation import Parameterisation, parameterisation
from vaelint.anatomy.ranges import Range, value_range
from vaelint.anatomy.replay import Replay
from vaelint.anatomy.scale_report import scale_found
from vaelint.anatomy.schedule import StuckWeight, UnusedWeight, stuck_weights, unused_weights
from vaelint.anatomy.sites import Site, find_sites
from vaelint.anatomy.terms import Leaf, Term, assign_roles, expand, layered_nodes
from vaelint.anatomy.wiring import Wiring
from vaelint.anatomy.verdicts import ScaleVerdict, judge_scale
from vaelint.finding import Label, ShapeRow, Span, Suggestion
from vaelint.graph import MadeDistribution, Record, shape, span
from vaelint.inputs import InputSet
from vaelint.rule import Found
from vaelint.source import Source
from vaelint.trace.ladder import Tracer

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
    symbols: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
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
    def real_model(self) -> torch.nn.Module:
        """A real model with its real initial values."""
        return self.tracer.construct_real().model

    @cached_property
    def replay(self) -> Replay:
        """Runs slices of the record."""
        return Replay(self.record, self.leaf_value, lambda sizes: self.tracer.inputs(self.input_sizes(sizes)))

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
    def wiring(self) -> Wiring:
        """Batch, gradients, devices and ranges."""
        return Wiring(self)

    # --- what a node is ----------------------------------------------------------------------------------------------

    def where(self, node: fx.Node | None) -> Span | None:
        """The user's expression that made a node."""
        return span(node) if node is not None else None

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
        """Draws of a Gaussian posterior, one for each place in the source."""
        seen: dict[Any, Site] = {}
        for s in self.sites:
            if s.kind in ("gaussian", "drawn"):
                seen.setdefault(span(s.z), s)
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

    def constant_axes(self, site: Site) -> list[str]:
        """The posterior's axes along which a site's noise does not vary."""
        return constant_axes(self, site)

    def noise_moments(self, site: Site) -> NoiseMoments | None:
        """Moments of a site's noise, by drawing from its slice of the graph."""
        return noise_moments(self, site)

    @cached_property
    def clashes(self) -> list[Clash]:
        """Posteriors whose sampler and KL read the head differently."""
        return find_clashes(self)

    @cached_property
    def negative_scales(self) -> list[tuple[MadeDistribution, fx.Node]]:
        """Distributions whose scale is a layer's raw output."""
        found = []
        for made in self.record.distributions:
            scale = made.parameters.get("scale")
            raw = [scale] if scale is not None else []
            while raw and ops.op(raw[0]) in ops.SHAPE | ops.SELECT | {"expand"} and ops.value_inputs(raw[0]):
                raw = [ops.value_inputs(raw[0])[0]]
            if raw and scale is not None and raw[0] in self.flow.data and ops.uses_parameter(raw[0]) and ops.op(raw[0]) in ops.LAYERS:
                found.append((made, scale))
        return found

    @cached_property
    def frozen_noise(self) -> list[Frozen]:
        """Constants where noise should be."""
        return frozen_noise(self)

    @property
    def idle_draws(self) -> list[Site]:
        """Draws that never reach the loss, where no other draw does."""
        return [] if self.sites else [s for s in self.idle_sites if s.kind in ("gaussian", "drawn")]

    def decoder_entry(self, site: Site) -> Entry | None:
        """What the decoder reads when a site's z is idle."""
        return decoder_entry(self, site)

    @cached_property
    def undrawn_entries(self) -> list[Entry]:
        """Layers fed with the posterior's parameters instead of a draw."""
        return undrawn_entries(self)

    @cached_property
    def biased_evaluation(self) -> list[Biased]:
        """Draws whose evaluation-mode value is the mean plus a multiple of the scale."""
        return biased_evaluation(self)

    def range_of(self, node: fx.Node | None) -> Range | None:
        """Which values a node can take whatever the layers put out."""
        return value_range(self, node) if node is not None else None

    def scale_range(self, site: Site) -> Range | None:
        """Which values the scale of a Gaussian draw can take; None for a constant scale or a bare draw."""
        return value_range(self, site.scale) if site.scale is not None and site.scale_heads else None

    def feeds_reconstruction(self, node: fx.Node) -> bool:
        """Whether a reconstruction term depends on a node."""
        return any(node in self.flow.ancestors(leaf.node) for t in self.terms_of("reconstruction") for leaf in t.leaves)

    def has_score_function(self, site: Site) -> bool:
        """Whether the loss holds a log-probability of the draw multiplied by something decoded: a score-function estimator."""
        decoded = layered_nodes(self.flow, [site])
        return any(site.z in leaf.frontier and any(h in leaf.frontier for h in site.heads) and any(n in decoded for n in self.flow.ancestors(leaf.node)) for leaf in self.leaves)

    # --- the likelihood -------------------------------------------------------------------------------------------------

    def broadcast(self, fact: ReconFact) -> str | None:
        """What the comparison with the target stretches, if anything."""
        return likelihood.broadcast(self, fact.pair)

    def activation(self, node: fx.Node) -> fx.Node | None:
        """The activation a value comes out of."""
        return likelihood.activation(node)

    def birth_labels(self, node: fx.Node | None, text: str) -> tuple[Label, ...]:
        """A label where the module that ran a node was constructed."""
        place = self.birth(str(node.meta.get("module"))) if node is not None and node.meta.get("module") else None
        return (Label(place, text),) if place is not None else ()

    def wrong_target(self, fact: ReconFact) -> likelihood.Corruption | None:
        """A target with noise in it."""
        return likelihood.wrong_target(self, fact)

    def target_place(self, fact: ReconFact) -> Span | None:
        """Where the target was chosen: the statement that names it, else where it is compared."""
        return likelihood.chosen_at(self, fact)

    @cached_property
    def self_targets(self) -> list[likelihood.Corruption]:
        """Comparisons of the reconstruction with constants or with itself."""
        return likelihood.self_targets(self)

    def swapped_arguments(self, fact: ReconFact) -> bool:
        """Whether an asymmetric loss has its arguments exchanged."""
        return likelihood.swapped(fact.pair, self)

    def output_mismatch(self, fact: ReconFact) -> likelihood.Mismatch | None:
        """Declared data that the reconstruction cannot reach."""
        return likelihood.output_mismatch(self, fact)

    def target_range(self, fact: ReconFact) -> tuple[float, float] | None:
        """The declared range of the target."""
        return likelihood.target_range(self, fact.pair)

    def nll_fault(self, fact: ReconFact) -> tuple[fx.Node, str] | None:
        """What is wrong with a Gaussian likelihood of learned variance."""
        return likelihood.nll_fault(self, fact)

    def padded_embedding(self, fact: ReconFact) -> fx.Node | None:
        """The embedding whose padding the loss counts."""
        return likelihood.padded(self, fact)

    def squashed_elsewhere(self, fact: ReconFact) -> Label | None:
        """A sigmoid that another method puts on the decoder's output."""
        call = likelihood.squashed_elsewhere(self, fact)
        place = span(fact.pair.raw[0]) if call is not None else None
        return Label(Span(place.file, call.lineno, call.col_offset + 1, call.end_lineno, (call.end_col_offset or 0) + 1), "a sigmoid is applied here") if call is not None and place is not None else None

    @cached_property
    def crossed_terms(self) -> list[fx.Node]:
        """Per-sample terms combined into a table of all pairs."""
        return likelihood.crossed_terms(self)

    @cached_property
    def unused_reconstruction(self) -> fx.Node | None:
        """The decoder's output, when no term of the loss depends on anything decoded."""
        return likelihood.unused_reconstruction(self)

    # --- the scale of the objective ---------------------------------------------------------------------------------------

    @cached_property
    def scale_verdicts(self) -> list[ScaleVerdict]:
        """The fault of each effective beta, one for each place in the source."""
        judged = [judge_scale(b, self.record, self.symbols) for b in self.betas]
        seen: dict[Any, ScaleVerdict] = {}
        for v in judged:
            if v is not None:
                seen.setdefault((v.fault, span(v.node) if v.node is not None else None), v)
        return list(seen.values())

    def scale_found(self, verdict: ScaleVerdict, label: str, why: str, help: str) -> Found:
        """The finding for a scale verdict; info where a named weight is in the way."""
        return scale_found(self, verdict, label, why, help)

    def is_partly_read(self, fact: KlFact) -> bool:
        """Whether a KL takes the head for a log-variance in one part and for a log-standard deviation in another."""
        return fact.probe.verdict == "wrong" and any(k.startswith("exp(") for k in fact.probe.coefficients)

    def relative_coefficients(self, fact: KlFact) -> dict[str, float]:
        """Coefficients of m, s^2 and -1 in the gradients, against the largest that agrees with another."""
        known = fact.probe.coefficients
        unit = max((abs(v) for v in known.values()), default=1.0) or 1.0
        return {k: round(v / unit, 6) for k, v in known.items()}

    def sign_place(self, fact: KlFact) -> fx.Node | None:
        """Where a KL gets its wrong sign."""
        return missing.sign_place(self, fact.term)

    def swap_place(self, fact: KlFact) -> Span | None:
        """The call that exchanges mean and log-variance."""
        return missing.swap_place(self, fact.term)

    def ceiling_of(self, fact: KlFact) -> fx.Node | None:
        """The operation that cuts a KL off from above."""
        return missing.ceiling(self, fact.term)

    @cached_property
    def missing_kl(self) -> missing.MissingKl | None:
        """A learned posterior that nothing holds."""
        return missing.missing_kl(self)

    @cached_property
    def loss_place(self) -> Span | None:
        """Where the loss is put together."""
        return missing.loss_place(self)

    def detached_terms(self, role: str) -> list[Term]:
        """Terms that enter the loss without a gradient."""
        return missing.detached_terms(self, role)

    @cached_property
    def misplaced_logsumexp(self) -> list[fx.Node]:
        """Log-sum-exps over the batch that leave the axis of the samples."""
        return missing.misplaced_logsumexp(self)

    @cached_property
    def split_draws(self) -> list[tuple[fx.Node, fx.Node, fx.Node]]:
        """Monte Carlo KLs at two draws."""
        return missing.split_draws(self)

    @cached_property
    def unused_weights(self) -> list[UnusedWeight]:
        """Named KL weights without effect."""
        return unused_weights(self)

    @cached_property
    def stuck_weights(self) -> list[StuckWeight]:
        """Schedules that run and lead nowhere."""
        return stuck_weights(self)

    @cached_property
    def categorical_faults(self) -> list[tuple[KlFact, str]]:
        """Categorical KLs that are not one."""
        return categorical_faults(self)

    def elements(self, node: fx.Node) -> int:
        """How many elements a value has."""
        return math.prod(shape(node))

    def replacement(self, node: fx.Node | None, text: str) -> Suggestion | None:
        """A suggestion that puts `text` in the place of a node's expression, where that is within one line."""
        place = span(node) if node is not None else None
        if place is None or place.line != place.end_line or place.end_column is None:
            return None
        line = self.source.line(place)
        return Suggestion(place.file, place.line, place.line, line[: place.column - 1] + text + line[place.end_column - 1 :])

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
        """Nodes whose values the loss depends on."""
        return self.flow.ancestors(self.record.loss) if self.record.loss is not None else set()

    @cached_property
    def recon(self) -> ReconFact | None:
        """The reconstruction that weights are held against: the first whose weight is known."""
        known = [r for r in self.recons if r.scaling is not None and r.scaling.constant]
        return known[0] if known else (self.recons[0] if self.recons else None)

    @cached_property
    def betas(self) -> list[Beta]:
        """Effective beta of each KL against its reconstruction."""
        made = [effective_beta(k, self.recon, self.symbols) for k in self.kls if self.recon is not None]
        return [b for b in made if b is not None]

    def term(self, role: str) -> Term | None:
        """The first term of a role."""
        return next((t for t in self.terms if t.role == role), None)

    def terms_of(self, role: str) -> Iterator[Term]:
        """All terms of a role."""
        return (t for t in self.terms if t.role == role)


def decoded_nodes(flow: Flow, sites: list[Site]) -> set[fx.Node]:
    """Everything that a layer made of z or of the heads; every layer's output when there is no site. z itself for decoders without layers."""
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
    lines = {span(s.z) for s in sites}
    idle = [s for s in found if s not in sites and span(s.z) not in lines]
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


def _analyse_loss(model: Model) -> None:
    flow, record = model.flow, model.record
    assert record.loss is not None
    sites = model.sites + [s for s in model.idle_sites if any(h in model.reaching_loss for h in s.heads)]
    stop = {s.z for s in sites} | {h for s in sites for h in s.heads}
    model.leaves = expand(record.loss, flow, stop)
    model.terms = assign_roles(model.leaves, sites, flow)
    for term in model.terms:
        if term.role == "reconstruction":
            model.recons += measure_recon(term, record.loss, flow, model.replay, model.symbols, model.decoded, model.source)
    for term in model.terms:
        if term.role == "kl" and term.detached is None:
            model.kls += measure_kl(term, record.loss, sites, flow, model.replay, model.symbols, model.source)


def sizes_text(symbols: Mapping[str, int]) -> str:
    """`B=32, D=784, L=20`."""
    return ", ".join(f"{k}={v}" for k, v in symbols.items())
