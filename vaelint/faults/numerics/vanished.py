"""Constants that keep a value away from zero, and are nothing in the precision that they are computed in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import span
from vaelint.replay.intervals import Bounds, Intervals, intervals_of
from vaelint.replay.precision import Precision, rounded

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_LOGS = frozenset({"log", "log2", "log10"})
_ROOTS = frozenset({"sqrt", "rsqrt"})
_INVERSES = frozenset({"reciprocal", "rtruediv", "rdiv"})


@dataclass(frozen=True)
class Vanished:
    """The operation with the constant, the constant, what it becomes, and the logarithm, root or quotient that it was meant for."""

    guard: fx.Node
    constant: float
    becomes: float
    kind: torch.dtype
    sink: fx.Node
    operand: fx.Node
    ends: tuple[float, ...]  # the bounds of what the constant is added to, where they are finite


def vanished_constants(model: Model) -> list[Vanished]:
    """VAE608: where the exact bounds of an operand exclude 0 and its bounds in its own precision do not; one for each guard's line."""
    sinks = [
        (n, o) for n in model.record.graph.nodes if (not model.reaching_loss or n in model.reaching_loss) and (o := _operand(n)) is not None
    ]
    if not sinks:
        return []
    precision = Precision(model)
    exact, held = intervals_of(model), Intervals(model, precision)
    found: dict[object, Vanished] = {}
    for sink, operand in sinks:
        if not _lost(exact.of(operand), held.of(operand)):
            continue
        guard = _guard(operand, exact, held)
        kind = precision.of(guard)
        constant = next((c for c in _numbers(guard) if kind is not None and _is_lost(c, kind)), None)
        if kind is not None and constant is not None:
            place = span(guard)
            found.setdefault(
                (place.file, place.line) if place else guard,
                Vanished(guard, constant, rounded(constant, kind), kind, sink, operand, _ends(guard, exact)),
            )
    return list(found.values())


def _operand(node: fx.Node) -> fx.Node | None:
    """What must not be 0 in a logarithm, root or quotient."""
    if node.op != "call_function" or not node.args:
        return None
    name, at = ops.op(node), 0
    if name in ops.DIV:
        at = 1
    elif name == "pow":
        power = node.args[1] if len(node.args) > 1 else None
        if not (isinstance(power, float) and power < 1):
            return None
    elif name not in _LOGS | _ROOTS | _INVERSES:
        return None
    found = node.args[at] if len(node.args) > at else None
    return found if isinstance(found, fx.Node) and isinstance(found.meta.get("val"), torch.Tensor) else None


def _lost(exact: Bounds | None, held: Bounds | None) -> bool:
    """Whether a bound above 0 is 0 in the value's precision."""
    return exact is not None and held is not None and exact.low > 0 >= held.low


def _raised(exact: Bounds | None, held: Bounds | None) -> bool:
    """Whether a bound below 1 is 1 in the value's precision."""
    return exact is not None and held is not None and exact.high < 1 <= held.high


def _guard(node: fx.Node, exact: Intervals, held: Intervals) -> fx.Node:
    """The first operation on the way to a value whose bound was lost."""
    while True:
        before = [n for n in ops.value_inputs(node) if _lost(exact.of(n), held.of(n)) or _raised(exact.of(n), held.of(n))]
        if not before:
            return node
        node = before[0]


def _ends(guard: fx.Node, exact: Intervals) -> tuple[float, ...]:
    known = [b for n in ops.value_inputs(guard) if (b := exact.of(n)) is not None]
    return tuple(dict.fromkeys(v for b in known for v in (b.low, b.high) if math.isfinite(v)))


def _numbers(node: fx.Node) -> list[float]:
    """The plain numbers among an operation's arguments."""
    given = (*node.args, *node.kwargs.values())
    return [float(a) for a in given if isinstance(a, int | float) and not isinstance(a, bool)]


def _is_lost(constant: float, kind: torch.dtype) -> bool:
    """Whether a constant becomes 0 or 1 that is neither."""
    return rounded(constant, kind) in (0.0, 1.0) and constant not in (0.0, 1.0)
