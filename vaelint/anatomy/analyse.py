"""Finds the anatomy of a recorded step: its sampling sites, the terms of its loss, and what each is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import fx

from vaelint.anatomy.dimensions import name_dimensions
from vaelint.anatomy.gradients import gradients_of
from vaelint.anatomy.kl.kl_any_draw import read_any_draw
from vaelint.anatomy.kl.kl_by_sampler import read_by_sampler
from vaelint.anatomy.kl.kl_parts import read_kl
from vaelint.anatomy.kl.kl_sphere import read_sphere
from vaelint.anatomy.loss.balance import joined_members
from vaelint.anatomy.loss.terms import assign_roles, expand, gather
from vaelint.anatomy.posterior.seats import members, seat_residuals
from vaelint.anatomy.posterior.sites import Site, find_sites, is_draw_of_data
from vaelint.anatomy.reconstruction.fixed_scale import nat_in_units
from vaelint.anatomy.reconstruction.inner_scale import deviation_of
from vaelint.anatomy.reconstruction.learned_scale import learned_weight, moves_with_output
from vaelint.anatomy.reconstruction.recon_depth import read_recon
from vaelint.core.inputs import InputSet
from vaelint.record.flow import Flow, analyse_flow
from vaelint.record.record import Record, route
from vaelint.record.selections import join_selections
from vaelint.record.twins import join_twins
from vaelint.source.written import Source
from vaelint.trace.ladder import Tracer

if TYPE_CHECKING:
    pass

from vaelint.anatomy.model import Model


def analyse(record: Record, tracer: Tracer, inputs: InputSet, step: Any, source: Source, other: Record | None) -> Model:
    """Finds the anatomy of a recorded step."""
    join_twins(record)
    join_selections(record)
    flow = analyse_flow(record)
    found = find_sites(flow)
    if record.loss is not None:
        seat_residuals(found, record.loss, flow)
    reach = flow.ancestors(record.loss) if record.loss is not None else set(flow.order)
    sites = [s for s in found if s.z in reach]
    routes = {route(s.z) for s in sites}
    others = flow.ancestors(*(o.loss for o in record.objectives if o.loss is not None))  # draws of another loss are not idle
    idle = [s for s in found if s.z not in reach | others and route(s.z) not in routes and not is_draw_of_data(s, sites, flow)]
    symbols: dict[str, int] = {k: v for k, v in record.sizes.items() if k not in record.joined}
    model = Model(record, tracer, inputs, step, source, flow, sites, idle, other, symbols=symbols)
    model.dropped_sites = [s for s in found if s.z not in reach | others and route(s.z) in routes and not is_draw_of_data(s, sites, flow)]
    model.sites = _of_this_pass(model)
    given = _given(model.sites, flow)
    model.sites = sites = [s for s in model.sites if not given(s)]
    model.idle_sites = idle = [s for s in idle if not given(s)]
    _name_inputs(model)
    name_dimensions(record, sites + idle, symbols, flow)
    if record.loss is not None:
        _analyse_loss(model)
    return model


def _of_this_pass(model: Model) -> list[Site]:
    """The draws without those of a pass before, whose loss was dropped: a multiplier was made of it, and no gradient comes back."""
    loss = model.record.loss
    if loss is None or len(model.sites) < 2 or model.record.objectives:
        return model.sites
    reached = gradients_of(model).reach(loss)
    live = {route(s.z) for s in model.sites if s.z in reached}
    return [s for s in model.sites if reached & {s.z, *s.heads} or route(s.z) not in live or not s.z.meta.get("grad")]


def _given(sites: list[Site], flow: Flow) -> Callable[[Site], bool]:
    """Tells the draws of a model that was trained before and gets no gradient: what another draw is encoded from is data."""
    live = [s for s in sites if s.z.meta.get("grad")]
    behind = flow.ancestors(*(h for s in live for h in s.heads)) if live else set[fx.Node]()
    return lambda s: bool(behind & {s.z, *s.heads}) and not any(n.meta.get("grad") for n in (s.z, *s.heads))


def _name_inputs(model: Model) -> None:
    """Inputs have the symbols that the user's sizes were given."""
    for node, dims in zip(model.record.inputs.values(), model.inputs.dims, strict=False):
        if node in model.record.shapes and len(dims) == len(model.record.shapes[node]):
            model.record.shapes[node] = tuple("B" if d in model.record.joined else d for d in dims)


def _split_loss(model: Model, idle: list[Site]) -> list[Site]:
    """The terms of the loss, where these idle draws count as posteriors too; all that do."""
    assert model.record.loss is not None
    sites = [one for s in model.sites for one in members(s, model.flow)] + idle
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
    live = any(t.role == "reconstruction" and t.detached is None for t in model.terms)
    for term in model.terms:
        if term.role == "reconstruction" and not (live and term.detached is not None):  # beside one with a gradient it is only a number
            model.recons += read_recon(term, record.loss, flow, model.replay, model.symbols, model.decoded, model.source, sites)
    _weigh_scales(model, record.loss)
    for term in model.terms:
        if term.role == "kl" and term.detached is None:
            facts, parts = read_kl(term, record.loss, sites, flow, model.replay, model.symbols, model.source)
            model.kls += joined_members(facts, model.sites)
            model.parts += parts
        elif term.role == "other" and term.detached is None:
            sphere = read_sphere(term, record.loss, flow, model.replay, model.symbols, model.source)
            if sphere is not None:
                term.role = "kl"
                model.kls.append(sphere)
    if not sites and not model.kls:
        _read_unsited(model, record.loss)


def _weigh_scales(model: Model, loss: fx.Node) -> None:
    """The likelihoods whose scale is learned, or fixed by its author."""
    for fact in model.recons:
        fact.moving_weight = fact.density is None and not fact.learned_variance
        fact.moving_weight = fact.moving_weight and moves_with_output(fact, loss, model.replay, model.symbols)
        if fact.density is None and (fact.learned_variance or fact.moving_weight):
            fact.learned_weight = learned_weight(fact, loss, model.flow, model.replay, model.symbols)
        elif fact.density is None:
            fact.unit = nat_in_units(fact, model.leaves, model.replay, model.symbols)
            fact.deviation = deviation_of(fact, model.flow, model.replay, model.symbols) if fact.unit is None else None


def _read_unsited(model: Model, loss: fx.Node) -> None:
    """What is left of the loss beside the reconstruction, as the KL of a posterior whose draw is not affine in its noise."""
    rest = [t for t in model.terms if t.role in ("other", "discrepancy", "prior") and t.detached is None]
    if not rest:
        return
    whole = gather("kl", [leaf for t in rest for leaf in t.leaves], [], model.flow)
    given = (whole, loss, model.flow, model.replay, model.symbols, model.source)
    fact = read_any_draw(*given) or read_by_sampler(*given)
    if fact is not None:
        model.terms = [*(t for t in model.terms if t not in rest), whole]
        model.kls.append(fact)
