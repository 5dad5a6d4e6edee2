"""What a site's noise is distributed like, by drawing from its slice of the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from vaelint.anatomy import ops
from vaelint.anatomy.replay import ReplayError
from vaelint.anatomy.sites import Site

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_AFFINE = ops.ADD | ops.MUL | ops.DIV | ops.SHAPE | ops.CAST | ops.SELECT | ops.JOIN | {"neg", "effect", "detach", "data", "zeros", "zeros_like", "empty", "new", "new_empty", "empty_like", "new_zeros", "full", "ones", "ones_like"}


@dataclass(frozen=True)
class NoiseMoments:
    """Mean, standard deviation and excess kurtosis of the noise; `shaped` if a function other than scaling was applied to the draw."""

    mean: float
    std: float
    kurtosis: float
    shaped: bool
    draw: str

    @property
    def is_standard_normal(self) -> bool:
        """Within what a few thousand draws can tell."""
        return abs(self.mean) < 0.08 and abs(self.std - 1) < 0.08 and abs(self.kurtosis) < 0.6


def noise_moments(model: Model, site: Site) -> NoiseMoments | None:
    """Draws the site's noise again and again from its own slice; None where it does not run by itself."""
    if not site.noise or site.kind == "drawn":
        return None
    eps = site.noise[0]
    values: list[torch.Tensor] = []
    sizes = {**model.symbols, "B": max(8, model.symbols.get("B", 8))}
    try:
        for seed in range(400):
            values.append(model.replay([eps], {}, sizes, seed=seed)[eps].flatten().double())
            if sum(v.numel() for v in values) >= 20_000:
                break
    except ReplayError:
        return None
    x = torch.cat(values)
    std = float(x.std())
    kurtosis = float((((x - x.mean()) / std) ** 4).mean()) - 3 if std > 0 else 0.0
    between = model.flow.ancestors(eps)
    shaped = any(n.op == "call_function" and not ops.is_random(n) and not n.meta.get("scalar") and ops.op(n) not in _AFFINE for n in between)
    return NoiseMoments(float(x.mean()), std, kurtosis, shaped, ", ".join(ops.raw_name(r) for r in site.roots))
