"""Decoders that are shown the token they are to predict.

Runs the decoder twice with one token changed and z held: the prediction of that very token must not move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.objective import ReconFact
from vaelint.anatomy.replay import ReplayError
from vaelint.graph import shape

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def leaked_tokens(model: Model, fact: ReconFact) -> fx.Node | None:
    """The token input whose element reaches its own prediction past z; None where none does, or where the slice does not run."""
    pair = fact.pair
    if fact.probe.kernel not in ("cross_entropy", "nll") or pair.target is None or fact.probe.axis is None:
        return None
    cut = {s.z for s in model.sites}
    if not cut:
        return None
    direct = model.flow.ancestors(pair.recon, stop=cut)
    tokens = [
        n
        for n in direct & model.flow.ancestors(pair.target)
        if n.op == "placeholder" and not n.meta["val"].is_floating_point() and len(shape(n)) >= 2
    ]
    for node in tokens:
        if _leaks(model, fact, node, cut):
            return node
    return None


def _leaks(model: Model, fact: ReconFact, node: fx.Node, cut: set[fx.Node]) -> bool:
    pair, sizes = fact.pair, dict(model.record.sizes)
    assert pair.target is not None and fact.probe.axis is not None
    generator = torch.Generator().manual_seed(2)
    held = {z: torch.randn(shape(z), dtype=torch.float64, generator=generator) for z in cut if shape(z)}
    base = model.tracer.inputs(None)[str(node.meta["input"])].clone()
    top = int(base.max())
    try:
        places = model.replay([pair.target], {node: torch.arange(base.numel()).view(base.shape).to(base.dtype)}, sizes)[
            pair.target
        ].flatten()
        before = _predictions(model, fact, {**held, node: base}, sizes)
        if before.shape[0] != len(places):
            return False
        moved = []
        for p in {0, len(places) // 2, len(places) - 1}:
            changed = base.clone()
            index = int(places[p])
            if not 0 <= index < base.numel() or top < 1:
                continue
            changed.view(-1)[index] = (int(changed.view(-1)[index]) + 1) % (top + 1)
            after = _predictions(model, fact, {**held, node: changed}, sizes)
            moved.append(float((after[p] - before[p]).abs().max()) > 1e-9)
    except (ReplayError, RuntimeError):
        return False
    return sum(moved) >= min(2, len(moved)) > 0  # the last token may be none of the decoder's input, and is not leaked then


def _predictions(model: Model, fact: ReconFact, overrides: dict[fx.Node, torch.Tensor], sizes: dict[str, int]) -> torch.Tensor:
    """Logits with one row for each target element."""
    logits = model.replay([fact.pair.recon], overrides, sizes, seed=4)[fact.pair.recon]
    assert fact.probe.axis is not None
    moved: torch.Tensor = logits.movedim(fact.probe.axis, -1)
    return moved.reshape(-1, moved.shape[-1])
