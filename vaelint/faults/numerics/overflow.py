"""How large a layer's output may become before an exponential of it is infinite."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.faults.numerics.quotients import LIMITS
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.replay.intervals import intervals_of
from vaelint.replay.ranges import raw_outputs
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

NAMES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


@dataclass(frozen=True)
class Unbounded:
    """An exponential, the layer output it grows with, and the value of that output at which it is infinite, by type."""

    exp: fx.Node
    head: fx.Node
    limits: dict[str, float]  # in the units of the head; negative where the exponential falls with it
    own: float  # the limit in the type that the exponential is computed in


def unbounded_exponentials(model: Model) -> list[Unbounded]:
    """VAE802: for each layer output the exponential that overflows first. Only functions a * head + b, without a bound above."""
    found: dict[fx.Node, Unbounded] = {}
    for node in model.record.graph.nodes:
        operand = node.args[0] if node.op == "call_function" and ops.op(node) in ("exp", "expm1") and node.args else None
        if not isinstance(operand, fx.Node) or node not in model.flow.learned or node not in model.reaching_loss:
            continue
        bounds, line = intervals_of(model).of(operand), _line(model, operand)
        if bounds is None or bounds.high != math.inf or line is None:
            continue
        head, slope, offset = line
        limits = {name: (LIMITS[kind] - offset) / slope for kind, name in NAMES.items()}
        kind = node.meta["val"].dtype if isinstance(node.meta.get("val"), torch.Tensor) else torch.float32
        fact = Unbounded(node, head, limits, (LIMITS.get(kind, LIMITS[torch.float32]) - offset) / slope)
        if head not in found or abs(fact.own) < abs(found[head].own):
            found[head] = fact
    return list(found.values())


def _line(model: Model, operand: fx.Node) -> tuple[fx.Node, float, float] | None:
    """(head, a, b) where a value is a * head + b of one layer output; measured at three values of the head."""
    heads = [n for n in raw_outputs(operand, model.flow) if n in model.flow.learned]
    if len(heads) != 1:
        return None
    head, sizes = heads[0], {**model.symbols, "B": 2}
    if head is operand:
        return head, 1.0, 0.0
    values = []
    try:
        for at in (0.0, 1.0, -3.0):
            filled = torch.full(model.replay.shape_of(head, sizes), at, dtype=torch.float64)
            got = model.replay([operand], {head: filled}, sizes)[operand]
            values.append((float(got.min()), float(got.max())))
    except (ReplayError, RuntimeError):
        return None
    (b, top), (a, _), (check, _) = values
    slope = a - b
    straight = abs(check - (b - 3 * slope)) < 1e-6 * max(1.0, abs(check)) and top - b < 1e-9
    return (head, slope, b) if straight and abs(slope) > 1e-9 else None
