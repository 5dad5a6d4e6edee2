"""Whether mean and scale of a posterior come from two heads or from one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import fx

from vaelint.anatomy.sites import Site

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


@dataclass(frozen=True)
class Alias:
    """The head that is read as the scale, and the one read as the mean, which computes the same."""

    site: Site
    mean: fx.Node
    scale: fx.Node


def aliased_heads(model: Model) -> list[Alias]:
    """VAE215: sites whose mean and scale are made of equal values."""
    found = []
    for site in model.gaussian_sites:
        if len(site.mu_heads) == 1 and len(site.scale_heads) == 1:
            mean, scale = site.mu_heads[0], site.scale_heads[0]
            if same(mean, scale):
                found.append(Alias(site, mean, scale))
    return found


def same(a: Any, b: Any, depth: int = 0) -> bool:
    """Whether two nodes compute the same value: the same operations on the same values, draws apart."""
    if a is b:
        return True
    if isinstance(a, fx.Node) and isinstance(b, fx.Node):
        if depth > 60 or a.op != "call_function" or b.op != "call_function" or a.target is not b.target:
            return False
        return same(a.args, b.args, depth + 1) and same(dict(a.kwargs), dict(b.kwargs), depth + 1)
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y, depth) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k], depth) for k in a)
    if isinstance(a, slice):
        return (a.start, a.stop, a.step) == (b.start, b.stop, b.step)
    return bool(a == b)
