"""The noise of a draw, computed back from it: (z - mu) over what is no standard deviation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.posterior.sites import Site
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


@dataclass(frozen=True)
class Recovered:
    """A quotient of z - mu, and its divisor, which can be negative."""

    node: fx.Node
    divisor: fx.Node
    site: Site


def recovered_noise(model: Model) -> list[Recovered]:
    """Quotients of z - mu by a function of the head of the scale that takes both signs, one for each place."""
    found: dict[object, Recovered] = {}
    for site in model.sites + model.idle_sites:
        if site.kind != "gaussian" or site.mu is None or not site.scale_heads:
            continue
        for error in model.flow.users.get(site.z, ()):
            if ops.op(error) not in ops.ADD or len(error.args) < 2 or error.args[0] is not site.z or error.args[1] is not site.mu:
                continue
            for node in model.flow.users.get(error, ()):
                divisor = node.args[1] if ops.op(node) in ops.DIV and len(node.args) > 1 and node.args[0] is error else None
                if isinstance(divisor, fx.Node) and _takes_both_signs(model, divisor, site):
                    found.setdefault(model.where(node) or node, Recovered(node, divisor, site))
    return list(found.values())


def _takes_both_signs(model: Model, divisor: fx.Node, site: Site) -> bool:
    if not set(site.scale_heads) & model.flow.ancestors(divisor) or divisor in model.flow.noisy:
        return False
    sizes = dict(model.symbols)
    generator = torch.Generator().manual_seed(4)
    try:
        heads = {h: torch.randn(model.replay.shape_of(h, sizes), dtype=torch.float64, generator=generator) for h in site.heads}
        value = model.replay([divisor], heads, sizes)[divisor]
    except ReplayError:
        return False
    return bool((value < 0).any()) and bool((value > 0).any())
