"""A prior network that the KL leaves out, or is given without a gradient: nothing trains what samples will be drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.finding import Span
from vaelint.faults.gradients.cuts import silenced
from vaelint.faults.gradients.unreached import Unreached, left_out
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape, span

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


@dataclass(frozen=True)
class IdlePrior:
    """Layers that make parameters of a distribution like the posterior's, and where they belong and are not, or are cut off."""

    node: fx.Node
    layers: tuple[Unreached, ...]
    cut: bool  # at `node`; else `node` is the KL that leaves them out
    place: Span | None = None  # what was run without a gradient


def idle_priors(model: Model) -> list[IdlePrior]:
    """The layers of VAE501 that are a prior's, by what they put out: values of the posterior's shape, at least two of them, that no term
    sees."""
    loss = model.record.loss
    kls = [(k.term.core, k.site) for k in model.kls if k.term.core is not None and k.site is not None and k.site.mu is not None]
    if not kls or loss is None:
        return []
    found: list[IdlePrior] = []
    left = left_out(model)
    for core, site in kls:
        mine = tuple(layer for layer in left if not layer.cut and _like(model, layer, site) and not _is_spare(model, layer, left))
        if _two_apart(model, {n for layer in mine for n in _like(model, layer, site)}):
            found.append(IdlePrior(core, mine, False))
            break
    cuts: dict[object, tuple[fx.Node, list[Unreached]]] = {}
    sizes = {shape(site.mu)[-1:] for _, site in kls if site.mu is not None}
    for layer in left:
        place = _cut(model, layer, {leaf.node for t in model.terms_of("kl") if t.detached is None for leaf in t.leaves}, sizes)
        if layer.cut and place is not None:
            cuts.setdefault(span(place), (place, []))[1].append(layer)
    return found + [
        IdlePrior(node, tuple(layers), True, silenced(model, node) if node.meta.get("no_grad") else None) for node, layers in cuts.values()
    ]


def _nodes(model: Model, layer: Unreached) -> set[fx.Node]:
    names = set(layer.parameters)
    return {n for n in model.record.graph.nodes if n.op == "get_attr" and n.meta.get("parameter") in names}


def _outputs(model: Model, layer: Unreached) -> list[fx.Node]:
    """What is made of a layer and goes nowhere."""
    below = model.flow.descendants(*_nodes(model, layer)) - _nodes(model, layer)
    return [n for n in model.flow.sorted(below) if n not in model.reaching_loss]


def _like(model: Model, layer: Unreached, site: Site) -> list[fx.Node]:
    """Those of the posterior's shape that no draw stands behind."""
    drawn = model.flow.descendants(site.z)
    return [n for n in _outputs(model, layer) if site.mu is not None and shape(n) == shape(site.mu) and n not in drawn]


def _two_apart(model: Model, outputs: set[fx.Node]) -> bool:
    """Whether two of some values are not made of each other, as a mean and a log-variance are not: one alone is no distribution."""
    return any(a not in model.flow.ancestors(b) and b not in model.flow.ancestors(a) for a in outputs for b in outputs if a is not b)


def _is_spare(model: Model, layer: Unreached, left: list[Unreached]) -> bool:
    """Whether a layer is the head of a part of the encoder that is asked for its other head alone: mean and scale of a prior are unused
    together."""
    parent = layer.path.rpartition(".")[0]
    beside = [other for other in left if other is not layer and other.path.rpartition(".")[0] == parent]
    return bool(parent) and not beside and any(n.startswith(f"{parent}.") for n in gradients_of(model).reached)


def _cut(model: Model, layer: Unreached, kl: set[fx.Node], latents: set[tuple[int, ...]]) -> fx.Node | None:
    """Where a layer's values, and no draw, leave the gradient on their way to a KL that has one.

    What no data went into counts where it was run without a gradient, as the pseudo-inputs of a VampPrior, or where it has the size of
    the latent: a number that is held, as a temperature, is no prior. Nor is what a prior's own layers read, as features of a backbone.
    """
    carries, below = gradients_of(model).carries, model.flow.descendants(*_nodes(model, layer))
    way = model.flow.sorted(below & model.flow.ancestors(*kl))
    for node in way:
        silent = bool(node.meta.get("no_grad")) and not any(ops.op(n) in ops.LAYERS and carries(n) for n in way)
        cut = (silent or ops.op(node) in ("detach", "data")) and any(carries(n) for n in ops.value_inputs(node))
        if cut and node not in model.flow.noisy and (silent or node in model.flow.data or shape(node)[-1:] in latents):
            return node
    return None
