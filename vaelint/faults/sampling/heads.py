"""Whether mean and scale of a posterior come from two heads or from one."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from torch import fx

from vaelint.anatomy.attribute_use import usage_of
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import span
from vaelint.trace import torch_private

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


@dataclass(frozen=True)
class Alias:
    """The head that is read as the scale, and the one read as the mean, which computes the same."""

    site: Site
    mean: fx.Node
    scale: fx.Node
    bound: Span | None = None  # the statement that gives the one layer its second name, where that is why
    misread: Span | None = None  # where the scale is made of what the same function takes for the mean


def aliased_heads(model: Model) -> list[Alias]:
    """VAE215: sites whose mean and scale are made of equal values."""
    found = []
    for site in model.gaussian_sites:
        if len(site.mu_heads) == 1 and len(site.scale_heads) == 1:
            mean, scale = site.mu_heads[0], site.scale_heads[0]
            if same(mean, scale):
                found.append(Alias(site, mean, scale, _second_name(model, mean, scale), _misread(model, site, mean, scale)))
    return found


def _misread(model: Model, site: Site, mean: fx.Node, scale: fx.Node) -> Span | None:
    """Where one head is read as the scale by the name that it has as the mean: `std = F.softplus(mean)` beside `mean + std * eps`.

    None where the two go by different names, or are two calls: then they became one value further up. Where one part of a value is
    taken twice (`s[:, :n]`, and again `s[:, :n]`), the second time.
    """
    if mean is not scale or site.scale is None or site.mu is None:
        return None
    if (second := _taken_again(model, mean)) is not None:
        return second
    flow, z = model.flow, span(site.z)
    own = flow.ancestors(site.scale) & flow.descendants(scale) - flow.ancestors(site.mu) - {scale}
    first = next((n for n in flow.sorted(own) if span(n) is not None), None)
    place = span(first) if first is not None else None
    if place is None or z is None or place.line == z.line or model.source.function(place) is not model.source.function(z):
        return None
    return place if _names(model, place) & _names(model, z) else None


def _taken_again(model: Model, part: fx.Node) -> Span | None:
    """Where the function that takes a part of a value takes the same part once more."""
    first = span(part)
    for stack in part.meta.get("repeats", ()) if first is not None else ():
        if stack and first is not None and stack[0].line != first.line and model.source.function(stack[0]) is model.source.function(first):
            return stack[0]  # type: ignore[no-any-return]
    return None


def _names(model: Model, place: Span) -> set[str]:
    """The variables that an expression reads."""
    written = model.source.file(place.file).at(place)
    return {n.id for n in ast.walk(written) if isinstance(n, ast.Name)} - {"torch", "F", "self"} if written is not None else set()


def _second_name(model: Model, mean: fx.Node, scale: fx.Node) -> Span | None:
    """Where a layer that is held under two names gets the second: `self.fc_logvar = self.fc_mu`."""
    paths = {str(n.meta.get("module") or "") for n in (mean, scale)}
    layers = {id(c.module): c.module for c in model.record.calls if c.path in paths}
    for owner in model.record.model.modules():
        for layer in layers.values():
            names = [name for name, held in torch_private.own_layers(owner) if held is layer]
            if len(names) > 1:
                places = [usage_of(model).assignment(owner, name, last=True) for name in names]
                return max((p for p in places if p is not None), key=lambda p: p.line, default=None)
    return None


def aliased_likelihoods(model: Model) -> list[tuple[fx.Node, fx.Node]]:
    """VAE320: (mean, variance) of decoders whose likelihood reads both from layers that compute the same, one pair for each place."""
    found: dict[object, tuple[fx.Node, fx.Node]] = {}
    for fact in model.recons:
        raw = fact.pair.raw
        if len(raw) != 2 or not fact.pair.extra:
            continue
        behind = model.flow.ancestors(*fact.pair.extra, stop=set(raw))
        mean, variance = (raw[0], raw[1]) if raw[1] in behind else (raw[1], raw[0])
        if variance in behind and mean is not variance and same(mean, variance):
            found.setdefault(model.where(variance) or variance, (mean, variance))
    return list(found.values())


def same(a: Any, b: Any, known: dict[tuple[int, int], bool] | None = None) -> bool:
    """Whether two nodes compute the same value: the same operations on the same values. Two draws never do."""
    known = {} if known is None else known
    if a is b:
        return True
    if isinstance(a, fx.Node) and isinstance(b, fx.Node):
        key = (id(a), id(b))
        if key not in known:
            known[key] = False
            comparable = a.op == "call_function" and b.op == "call_function" and a.target is b.target and not ops.is_random(a)
            known[key] = comparable and same(a.args, b.args, known) and same(dict(a.kwargs), dict(b.kwargs), known)
        return known[key]
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y, known) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k], known) for k in a)
    if isinstance(a, slice):
        return same((a.start, a.stop, a.step), (b.start, b.stop, b.step), known)
    return bool(a == b)
