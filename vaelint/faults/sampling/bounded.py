"""Scales of a draw that layers keep in bounds, and the activation that does."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.posterior.noise import divides
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.finding import Span
from vaelint.replay.ranges import Range, value_range

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def scale_range(model: Model, site: Site) -> Range | None:
    """Which values the scale of a Gaussian draw can take; None for a constant scale or a bare draw."""
    found = value_range(model, site.scale) if site.scale is not None and site.scale_heads else None
    if found is None or not divides(site, model.flow):
        return found
    if found.low < 0:
        return None
    low, high = (1 / bound if bound else math.inf for bound in (found.high, found.low))
    return replace(found, low=low, high=high, open_below=found.open_above, open_above=found.open_below)


def divides_noise(model: Model, site: Site) -> bool:
    """Whether the noise of a draw is divided by its scale, as by the root of a precision."""
    return divides(site, model.flow)


def activation_made(model: Model, node: fx.Node) -> Span | None:
    """Where the activation layer that a value comes out of was constructed; None for a function, and for a layer that the user's code
    calls by itself: it is that call that applies it."""
    path = str(node.meta.get("module") or "")
    layer = next((c.module for c in model.record.calls if c.path == path), None)
    if type(layer).__module__ != "torch.nn.modules.activation":
        return None
    around = next((c.module for c in model.record.calls if c.path == path.rpartition(".")[0]), None)
    return model.chosen_at(path) if type(around).__module__.startswith("torch.nn.modules") else None
