"""Addends that hold the mean of a posterior to something else that the encoder makes: views of a sample that are to agree. They are no
part of a KL."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import fx

from vaelint.anatomy.posterior.sites import Site
from vaelint.record.flow import Flow


def agreements(fronts: Sequence[Collection[fx.Node]], sites: Sequence[Site], flow: Flow) -> list[int]:
    """Which addends hold the mean of a posterior, which has a KL of its own besides, to what no other addend sees: a prior is seen by
    its own square, or has a scale.

    Args:
        fronts: what each addend is made of.
    """
    found: list[int] = []
    for site in sites:
        means, scales = set(site.mu_heads) - set(site.scale_heads), set(site.scale_heads)
        if not scales or not any(f and set(f) <= means for f in fronts):
            continue
        for i, front in enumerate(fronts):
            other = set(front) - means
            seen = any(other & set(f) for k, f in enumerate(fronts) if k != i and not _is_of_another(f, site, sites))
            if other and means & set(front) and other <= flow.data & flow.learned and not other & scales and not seen:
                found.append(i)
    return found


def _is_of_another(front: Collection[fx.Node], site: Site, sites: Sequence[Site]) -> bool:
    """Whether an addend is of the KL of another posterior alone."""
    return any(front and set(front) <= set(s.heads) for s in sites if s is not site)
