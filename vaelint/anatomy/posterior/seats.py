"""Where the parameters of a posterior are, as the loss sees them: the network's own part of a residual mean, the members of a mixture."""

from __future__ import annotations

from dataclasses import replace

from torch import fx

from vaelint.anatomy.posterior.sites import Site, frontier
from vaelint.core.reach import walked
from vaelint.record import ops
from vaelint.record.flow import Flow


def seat_residuals(sites: list[Site], loss: fx.Node, flow: Flow) -> None:
    """The heads of each posterior whose mean or log-scale is `prior's + delta` (scale: `prior's * ratio`), where the loss sees that part.

    KL(N(m_p + d, (s_p r)^2) || N(m_p, s_p^2)) is a function of d and r (Vahdat and Kautz 2020, equation 2).
    """
    reaching = flow.ancestors(loss)
    for site in sites:
        if len(site.mu_heads) != 1 or len(site.scale_heads) != 1 or site.mu_heads == site.scale_heads:
            continue
        (mean,), (scale,) = site.mu_heads, site.scale_heads
        step = _seen_part(site, mean, ops.ADD, reaching, flow)
        if len(step) != 1:
            continue
        wide = _seen_part(site, scale, ops.ADD | ops.MUL, reaching, flow)
        if len(wide) > 1:  # the prior's scale is in the divergence as well: the step's own is that of the mean's layer
            wide = [n for n in wide if _layer(n, flow) & _layer(step[0], flow)]
            if len(wide) != 1:
                continue
        heads = frontier(step, flow), frontier(wide, flow) if wide else [scale]
        if len(heads[0]) == len(heads[1]) == 1:
            site.mu_heads, site.scale_heads = tuple(heads[0]), tuple(heads[1])
            site.heads = tuple(flow.sorted({*site.mu_heads, *site.scale_heads}))


def _layer(node: fx.Node, flow: Flow) -> set[fx.Node]:
    """What the raw outputs behind a value are selected from."""
    return {n for raw in frontier([node], flow) for n in (raw, *(ops.value_inputs(raw) if ops.op(raw) in ops.SELECT else ()))}


def _seen_part(site: Site, whole: fx.Node, joined: frozenset[str], reaching: set[fx.Node], flow: Flow) -> list[fx.Node]:
    """The operands of a sum (of scales: of a product) that the loss sees, where it sees the whole through z alone."""
    parts = [n for n in ops.value_inputs(whole) if n in flow.data and n in flow.learned] if ops.op(whole) in joined else []
    if len(parts) != 2 or any(u in reaching and u not in _on_the_way(site, whole, flow) for u in flow.users.get(whole, ())):
        return []
    return [n for n in parts if any(u in reaching and u is not whole for u in flow.users.get(n, ()))]


def _on_the_way(site: Site, start: fx.Node, flow: Flow) -> set[fx.Node]:
    """The values between a head and z."""
    return flow.descendants(start, stop={site.z}) & flow.ancestors(site.z)


def members(site: Site, flow: Flow) -> list[Site]:
    """One posterior for each member of a mixture of which every sample draws from one: its moments are picked out of a stack.

    The site itself where there is no such choice.
    """
    if len(site.mu_heads) != 1 or len(site.scale_heads) != 1:
        return [site]
    means, scales = _stacked(site.mu_heads[0], flow), _stacked(site.scale_heads[0], flow)
    if len(means) < 2 or len(means) != len(scales):
        return [site]
    return [replace(site, heads=tuple(flow.sorted({m, s})), mu_heads=(m,), scale_heads=(s,)) for m, s in zip(means, scales, strict=True)]


def _stacked(head: fx.Node, flow: Flow) -> list[fx.Node]:
    """What was stacked before each sample picked its own entry: by `gather`, by an index of positions."""
    through, picks = ops.SELECT | ops.SHAPE, 0
    for node in walked([head], lambda n: ops.value_inputs(n)[:1] if ops.op(n) in through else ()):
        picks += ops.op(node) in ("gather", "take_along_dim", "index_select")
        if ops.op(node) == "stack" and picks:
            parts = ops.value_inputs(node)
            return parts if all(n in flow.data and n in flow.learned for n in parts) else []
    return []
