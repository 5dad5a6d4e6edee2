"""Addends of a likelihood of given data under the posterior: a part of the latent that a label says has no prior to be near to."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import fx

from vaelint.anatomy.posterior.sites import Site
from vaelint.record.flow import Flow


def scored_by_data(fronts: Sequence[Collection[fx.Node]], sites: Sequence[Site], flow: Flow) -> list[int]:
    """Which addends are the log-scale beside a squared distance of data from a posterior's mean, in units of that posterior's scale.

    Args:
        fronts: what each addend is made of.
    """
    found: list[int] = []
    for site in sites:
        means, scales = set(site.mu_heads) - set(site.scale_heads), set(site.scale_heads) - set(site.mu_heads)
        if not means or not scales or any(means & set(f) and not _meets_data(f, flow) for f in fronts):
            continue  # what sees the mean and no data is of a KL
        if any(means & set(f) and scales & set(f) for f in fronts):
            found += [i for i, f in enumerate(fronts) if f and set(f) <= scales]
    return found


def _meets_data(front: Collection[fx.Node], flow: Flow) -> bool:
    """Whether data are among it as they were given."""
    return any(f in flow.data and f not in flow.learned for f in front)
