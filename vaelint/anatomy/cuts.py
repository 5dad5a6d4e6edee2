"""Where the reconstruction's gradient is cut off before it reaches the encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy import ops
from vaelint.graph import span

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


@dataclass(frozen=True)
class Cut:
    """A node behind which no gradient of the reconstruction arrives."""

    node: fx.Node
    source: fx.Node  # the last value that still asks for a gradient
    lost: tuple[str, ...]  # parameters that the reconstruction does not move because of it
    no_grad: bool


def reconstruction_ends(model: Model) -> list[fx.Node]:
    """The decoder's outputs that the reconstruction terms compare with the data."""
    ends = {
        n
        for t in model.terms_of("reconstruction")
        for leaf in t.leaves
        for n in leaf.frontier
        if n in model.flow.learned and n in model.flow.data
    }
    decoded = ends & model.decoded
    return model.flow.sorted(decoded or ends)


def encoder_cuts(model: Model) -> list[Cut]:
    """VAE503: the places where trainable parameters of the encoder are lost to the reconstruction; one for each line."""
    gradients, flow = model.wiring.gradients, model.flow
    ends = reconstruction_ends(model)
    if not ends or model.wiring.codebooks:
        return []
    by_value = flow.ancestors(*ends)
    lost = gradients.names(by_value) - gradients.names(gradients.reach(*ends))
    if model.sites:
        lost &= gradients.names(flow.ancestors(*(s.z for s in model.sites)))
    if not lost:
        return []
    drawn = {span(n) for s in model.sites + model.idle_sites if s.kind == "drawn" for n in (s.z, *s.roots)}
    cuts: list[Cut] = []
    for node in flow.sorted(by_value):
        val = node.meta.get("val")
        if node.op != "call_function" or gradients.carries(node) or not isinstance(val, torch.Tensor) or not val.is_floating_point():
            continue
        live = [n for n in ops.value_inputs(node) if gradients.carries(n)]
        behind = gradients.names(flow.ancestors(node)) & lost
        if not live or not behind or ops.is_random(node) or span(node) in drawn:
            continue
        cuts.append(Cut(node, live[0], tuple(sorted(behind)), bool(node.meta.get("no_grad"))))
    return _one_a_line(cuts)


def _one_a_line(cuts: list[Cut]) -> list[Cut]:
    """Under `no_grad` the first place stands for all; elsewhere one cut for each line."""
    kept: dict[object, Cut] = {}
    for cut in cuts:
        place = span(cut.node)
        key = "no_grad" if cut.no_grad else (place.file, place.line) if place else None
        kept.setdefault(key, cut)
    return list(kept.values())
