"""Where the reconstruction's gradient is cut off before it reaches the encoder."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.anatomy.loss.layered import layered_nodes
from vaelint.anatomy.posterior.codebooks import codebooks_of
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.finding import Span
from vaelint.faults.gradients.score_functions import weighed_by_decoded
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import span
from vaelint.record.walk import forward
from vaelint.replay.per_model import per_model

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


How = Literal["cut", "no_grad", "host", "flat"]
"""detach() or .data; run under no_grad; through numpy or plain numbers; rounded, or of whole numbers: a slope of 0."""

_STEPS = frozenset({"grad"})
"""`torch.autograd.grad` without create_graph: a step of a sampler in z (Hamiltonian, Langevin), taken as it comes."""


_TAKES = frozenset({"gather", "index_select", "getitem", "take_along_dim"})
_SHAPED = frozenset({"sample_dirichlet", "standard_gamma"})
"""Continuous draws that torch makes with a gradient too: `rsample`."""


@dataclass(frozen=True)
class Cut:
    """A node behind which no gradient of the reconstruction arrives."""

    node: fx.Node
    source: fx.Node  # the last value that still asks for a gradient
    lost: tuple[str, ...]  # parameters that the reconstruction does not move because of it
    how: How
    heads: tuple[fx.Node, ...] = ()  # heads that it does not move, of a layer that makes others as well
    place: Span | None = None  # where it is to be mended, if that is not the node's own place


def reconstruction_ends(model: Model) -> list[fx.Node]:
    """The decoder's outputs that the reconstruction terms, or the bounds that hold them, compare with the data."""
    terms = list(model.terms_of("reconstruction"))
    made = layered_nodes(model.flow, model.sites) if not terms else None  # a bound sees z and the posterior themselves as well
    ends = {
        n
        for t in terms or model.terms_of("mixed")
        for leaf in t.leaves
        for n in leaf.frontier
        if n in model.flow.learned and n in model.flow.data and (made is None or n in made)
    }
    decoded = ends & model.decoded
    return model.flow.sorted(decoded or ends)


def _beside_decoded(model: Model) -> list[fx.Node]:
    """What reconstructions hold beside the decoder's outputs: a first guess that is added to them moves what made it."""
    leaves = [leaf for t in model.terms_of("reconstruction") if t.detached is None for leaf in t.leaves]
    return model.flow.sorted({n for leaf in leaves for n in leaf.frontier if n in model.flow.learned and n in model.flow.data})


def _holds_draw_fixed(model: Model, ends: list[fx.Node]) -> bool:
    """Whether the loss moves the posterior of a draw on another way than through the draw, as estimators do that weigh its density, with
    the draw cut off on purpose. Told of bounds alone, which are one function of likelihood and densities."""
    if any(model.terms_of("reconstruction")):
        return False
    means = {h for s in model.sites for h in s.mu_heads}
    return bool(means & gradients_of(model).of_loss) and not means & gradients_of(model).reach(*ends)


def trained_on_dreams(model: Model, lost: set[str]) -> bool:
    """Whether the loss moves all of some parameters by what they make of values that no data went into: a recognition network that learns
    from draws of the model itself, as the sleep phase of wake-sleep has it."""
    gradients, flow = gradients_of(model), model.flow
    held = (n for n in gradients.of_loss if n.op == "get_attr")
    dreamt = {n for n in held if any(u in gradients.of_loss and u not in flow.data and u in flow.noisy for u in flow.users.get(n, ()))}
    return bool(lost) and lost <= gradients.names(dreamt)


@per_model
def encoder_cuts(model: Model) -> list[Cut]:
    """VAE503: the places where trainable parameters of the encoder are lost to the reconstruction; one for each line."""
    gradients, flow = gradients_of(model), model.flow
    ends = reconstruction_ends(model)
    if not ends or codebooks_of(model) or _holds_draw_fixed(model, ends):
        return []
    if after := _between(model, ends):
        return after
    by_value = flow.ancestors(*ends)
    lost = gradients.names(by_value) - gradients.names(gradients.reach(*ends, *_beside_decoded(model)))
    lost &= _behind_draws(model, by_value) if model.sites else lost
    lost -= gradients.names(gradients.reach(*(s.mu for s in discrete_draws(model) if s.mu is not None)))  # lost by the draw alone
    heads = _lost_heads(model, ends, lost)
    if not lost and heads and not flow.refined.isdisjoint(flow.ancestors(*heads)):
        return []  # an inner loop refined these from values, and the encoder learns by another reconstruction
    if (not lost and not heads) or trained_on_dreams(model, lost) or gradients.moved_otherwise(lost, ends):
        return []
    if weighed_by_decoded(model, lost, ends):
        return []
    drawn = {span(n) for s in model.sites + model.idle_sites if s.kind == "drawn" for n in (s.z, *s.roots)}
    places = [n for n in flow.sorted(by_value) if n.op == "call_function" and not ops.is_random(n) and span(n) not in drawn]
    places = [n for n in places if ops.op(n) not in _STEPS and not any(ops.is_random(u) for u in _carriers(model, n))]
    return _one_a_line(model, _cuts_at(model, places, lost, heads))


def _behind_draws(model: Model, by_value: set[fx.Node]) -> set[str]:
    """The parameters that draws are made of. Which of several draws goes on has no slope, and is no part of them."""
    picked = {n for n in by_value if ops.is_random(n) and _picks_draws(model, n)}
    return gradients_of(model).names(model.flow.ancestors(*(s.z for s in model.sites), stop=picked))


def _picks_draws(model: Model, node: fx.Node) -> bool:
    """Whether what is drawn are the places of other draws, of which those go on: the resampling of a particle filter.

    Source: Maddison et al. 2017, Filtering Variational Objectives, section 3.2.
    """
    same = ops.SHAPE | ops.CAST | {"getitem"}
    ways = {node} | {n for n in forward(node, model.flow.users, same) if ops.op(n) in same}
    taking = {u for n in ways for u in model.flow.users.get(n, ()) if ops.op(u) in _TAKES}
    return any(i in model.flow.noisy - ways for u in taking for i in ops.value_inputs(u))


def _cuts_at(model: Model, places: list[fx.Node], lost: set[str], heads: list[fx.Node]) -> list[Cut]:
    """The places where a gradient ends on the way from what is lost. Whole numbers and single values only where no real-valued cut
    explains the loss: masks are no fault."""
    gradients, flow = gradients_of(model), model.flow
    cuts: list[Cut] = []
    for real in (True, False):
        explained = {name for cut in cuts for name in cut.lost}
        settled = {head for cut in cuts for head in cut.heads}
        for node in places:
            if _is_real(node) is not real or (gradients.carries(node) and ops.op(node) not in ops.FLAT):
                continue
            live = [n for n in ops.value_inputs(node) if gradients.carries(n)]
            below = flow.ancestors(node)
            behind = (gradients.names(below) & lost) - (set() if real else explained)
            cut_heads = [h for h in heads if h in below and (real or h not in settled)]
            if live and (behind or cut_heads):
                cuts.append(Cut(node, live[0], tuple(sorted(behind)), _how(model, node), tuple(cut_heads)))
    return cuts


def _lost_heads(model: Model, ends: list[fx.Node], lost: set[str]) -> list[fx.Node]:
    """The posterior's heads that the reconstruction is made of and does not move, though it moves the layer that makes them: a half of
    its output that is cut off."""
    gradients, flow = gradients_of(model), model.flow
    by_value, reached = flow.ancestors(*ends), gradients.reach(*ends)
    heads = flow.sorted({h for s in model.gaussian_sites for h in s.heads} & by_value - reached)
    return [h for h in heads if gradients.carries(h) and not gradients.names(flow.ancestors(h)) & lost]


def _between(model: Model, ends: list[fx.Node]) -> list[Cut]:
    """The places between the decoder's outputs and the loss, where none of the outputs gets a gradient."""
    gradients, flow, loss = gradients_of(model), model.flow, model.record.loss
    lost = gradients.names(flow.ancestors(*ends))
    if loss is None or not lost or any(n in gradients.of_loss for n in ends) or not any(gradients.carries(n) for n in ends):
        return []
    way = [n for n in flow.sorted(flow.descendants(*ends) & flow.ancestors(loss)) if n.op == "call_function"]
    cuts = []
    for node in way:
        live = [n for n in ops.value_inputs(node) if gradients.carries(n)]
        if live and (_is_real(node) or node.meta.get("read")) and not gradients.carries(node):
            cuts.append(Cut(node, live[0], tuple(sorted(lost)), _how(model, node)))
    return _one_a_line(model, cuts)


def discrete_draws(model: Model) -> list[Site]:
    """VAE207: draws from a learned categorical, Bernoulli, Dirichlet, Beta or Gamma distribution that the reconstruction is made of, and
    whose distribution gets no gradient from it: no straight-through path goes around the draw."""
    gradients, flow = gradients_of(model), model.flow
    ends = reconstruction_ends(model)
    if not ends or codebooks_of(model):
        return []
    reached, below = gradients.reach(*ends), flow.ancestors(*ends)
    lost = gradients.names(below) - gradients.names(reached)
    found = []
    for site in model.sites:
        shaped = site.kind == "noise" and any(ops.op(root) in _SHAPED for root in site.roots)
        drawn = (site.kind == "categorical" or shaped) and site.z in below and site.mu is not None
        drawn = drawn and (not gradients.carries(site.z) or ops.op(site.z) in ops.FLAT)
        behind = gradients.names(flow.ancestors(site.z)) & lost
        if (
            drawn
            and site.mu not in reached
            and behind
            and not trained_on_dreams(model, behind)
            and not gradients.moved_otherwise(behind, ())
            and not weighed_by_decoded(model, behind, ends)
        ):
            found.append(site)
    return found


def _is_real(node: fx.Node) -> bool:
    val = node.meta.get("val")
    return isinstance(val, torch.Tensor) and val.is_floating_point()


def _carriers(model: Model, node: fx.Node) -> list[fx.Node]:
    """What was made of a value outside of torch."""
    return [u for u in model.flow.users.get(node, ()) if node in u.meta.get("carried", ())]


def _how(model: Model, node: fx.Node) -> How:
    if node.meta.get("no_grad"):
        return "no_grad"
    if node.meta.get("read") or _carriers(model, node):
        return "host"
    return "flat" if ops.op(node) in ops.FLAT or not _is_real(node) else "cut"


def _one_a_line(model: Model, cuts: list[Cut]) -> list[Cut]:
    """Under `no_grad` the first place stands for all; elsewhere one cut for each line."""
    kept: dict[object, Cut] = {}
    for cut in cuts:
        if cut.how == "no_grad" and "no_grad" not in kept:
            cut = replace(cut, place=silenced(model, cut.node))
        place = span(cut.node)
        key = "no_grad" if cut.how == "no_grad" else (place.file, place.line) if place else None
        kept.setdefault(key, cut)
    return list(kept.values())


def silenced(model: Model, node: fx.Node) -> Span | None:
    """What was run without a gradient: the decorator of a function that says so, else the expression on the way to a node in the innermost
    function that also makes values with one."""
    stack: tuple[Span, ...] = node.meta.get("stack") or ()
    for place in stack:
        function = model.source.function(place)
        if function is None:
            return place
        for decorator in function.decorator_list:
            if any(word in ast.unparse(decorator) for word in ("no_grad", "inference_mode", "set_grad_enabled")):
                end = (decorator.end_lineno or decorator.lineno, (decorator.end_col_offset or 0) + 1)
                return Span(place.file, decorator.lineno, decorator.col_offset + 1, *end)
        within = (n for n in model.record.nodes if any(model.source.function(s) is function for s in n.meta.get("stack") or ()))
        if any(n.meta.get("grad") for n in within):
            return place
    return None
