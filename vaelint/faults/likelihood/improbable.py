"""Distributions that are given probabilities outside of [0, 1]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from vaelint.record.record import MadeDistribution
from vaelint.replay.ranges import value_range

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def improbable(model: Model) -> list[tuple[MadeDistribution, fx.Node]]:
    """Distributions whose probability, made of z, can leave [0, 1]: torch refuses it where it checks, and clips it where not."""
    found: list[tuple[MadeDistribution, fx.Node]] = []
    for made in model.record.distributions:
        if any(made.stack == other.stack for other, _ in found):
            continue  # one line, in a loop
        node = made.parameters.get("probs") if made.family != "Categorical" else None
        reach = value_range(model, node) if node is not None and node in model.decoded else None
        if node is not None and reach is not None and (reach.low < -1e-9 or reach.high > 1 + 1e-9):
            found.append((made, node))
    return found
