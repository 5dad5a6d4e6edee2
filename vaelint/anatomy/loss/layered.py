"""What layers made of the latent: the decoder's outputs, and all that follows them."""

from __future__ import annotations

import math

from torch import fx

from vaelint.anatomy.posterior.products import multiplies_learned
from vaelint.anatomy.posterior.sites import Site, frontier
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.record.record import shape


def layered_nodes(flow: Flow, sites: list[Site]) -> set[fx.Node]:
    """What a layer made of z or of the posterior's heads, and all that follows."""
    starts = {s.z for s in sites} | {h for s in sites for h in s.heads} | {e for s in sites for e in s.noise}
    roots = {s.z for s in sites} | {h for s in sites for h in s.heads}
    return _layered(flow.descendants(*roots) if roots else set(), starts, flow)


def _layered(below: set[fx.Node], starts: set[fx.Node], flow: Flow) -> set[fx.Node]:
    """What a layer (an operation with parameters) made of z or of the heads: decoder outputs and all that follows them."""
    layers = [
        n
        for n in below
        if n not in starts
        and (ops.uses_parameter(n) or multiplies_learned(n, flow))
        and any(i in below and i not in flow.pure_noise for i in ops.value_inputs(n))
        and not _bare_parameter_arithmetic(n)
    ]
    return flow.descendants(*layers) if layers else set()


def product_of_decoded(node: fx.Node, layered: set[fx.Node], flow: Flow) -> bool:
    """A product of values that layers made: a layer whose weights are mixed for each sample. A weighed error has the data in it."""
    ins = ops.value_inputs(node)
    if ops.op(node) not in ops.PRODUCT or len(ins) < 2:  # einsum("ij->i", error) only adds up
        return False
    ins = [i for i in ins if not _is_mapped(i, node, ins, layered, flow)]
    if not all(i in layered for i in ins):
        return False
    return all(f in flow.learned for f in frontier(ins, flow, through=ops.JOIN | ops.SELECT | ops.LOSSES, bare=True))


def _is_mapped(node: fx.Node, product: fx.Node, factors: list[fx.Node], layered: set[fx.Node], flow: Flow) -> bool:
    """Whether a factor is data to which a matrix that layers made for each sample is applied, as a control in a locally linear step."""
    others = [i for i in factors if i is not node]
    if node not in flow.data or node in flow.learned or len(others) != 1 or others[0] not in layered:
        return False
    vector, matrix, mapped = (math.prod(shape(n)) for n in (node, others[0], product))
    return vector < matrix and (shape(node) or (0,))[0] < mapped


def _bare_parameter_arithmetic(node: fx.Node) -> bool:
    """Element-wise arithmetic with a parameter (a learned scale) is not a layer that decodes."""
    return ops.op(node) in ops.POINTWISE and ops.op(node) not in ("prelu",)
