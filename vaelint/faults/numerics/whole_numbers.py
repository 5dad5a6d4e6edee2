"""What arithmetic in whole numbers spoils: data rounded away or wrapped around at the end of its type, and numbers with a fraction."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import torch
from torch import fx

from vaelint.core.reach import walked
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import dtype, span
from vaelint.replay.intervals import intervals_of
from vaelint.replay.ranges import declared_values

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

How = Literal["divided", "cast", "wrapped", "filled"]
_FLOORS = frozenset({"floordiv", "floor_divide", "rfloordiv"})
_WRAPS = ops.ADD | ops.MUL | {"neg", "negative", "pow", "square"}
_ONWARD = ops.SHAPE | ops.CAST | ops.ARITHMETIC | ops.SELECT


@dataclass(frozen=True)
class Spoiled:
    """The operation, the data it gets, how it is spoiled, and the number that decides: the divisor, or the bound that is passed."""

    node: fx.Node
    source: fx.Node
    how: How
    number: float
    ends: tuple[float, float] = (0.0, 0.0)  # of the data, where it wraps


def spoiled_data(model: Model) -> list[Spoiled]:
    """VAE606: one for each line. Of data only where its declared range says so."""
    found: dict[object, Spoiled] = {}
    for node in model.record.graph.nodes:
        if node.op != "call_function" or node in model.flow.learned or (model.reaching_loss and node not in model.reaching_loss):
            continue
        for fact in (*_divided(model, node), *_cast(model, node), *_wrapped(model, node), *_filled(node)):
            place = span(node)
            found.setdefault((place.file, place.line) if place else node, fact)
    return list(found.values())


def _divided(model: Model, node: fx.Node) -> Iterator[Spoiled]:
    """A division with rounding by a number that the data hardly reaches, so that nearly all becomes 0."""
    name = ops.op(node)
    if name not in _FLOORS and not (name in ops.DIV and node.kwargs.get("rounding_mode") is not None):
        return
    divisor = node.args[1] if len(node.args) > 1 else None
    source = node.args[0]
    if isinstance(source, fx.Node) and isinstance(divisor, int | float) and not isinstance(divisor, bool):
        bounds = intervals_of(model).of(source)
        if bounds is not None and divisor > 1 and bounds.low >= 0 and bounds.high <= divisor and source in model.flow.data:
            yield Spoiled(node, source, "divided", float(divisor))


def _cast(model: Model, node: fx.Node) -> Iterator[Spoiled]:
    """Real numbers between 0 and 1 made whole numbers, and real numbers again: no class numbers, and no values that were whole before."""
    kind, source = dtype(node), node.args[0] if node.args else None
    if not isinstance(source, fx.Node) or kind is None or kind.is_floating_point or kind is torch.bool or ops.op(node) not in _CASTS:
        return
    before = dtype(source)
    if before is None or not before.is_floating_point or source not in model.flow.data:
        return
    bounds = intervals_of(model).of(source)
    if bounds is not None and bounds.low > -1 and bounds.high <= 1 and not _is_whole(model, source) and _real_again(node):
        yield Spoiled(node, source, "cast", 1.0)


_CASTS = frozenset({"long", "int", "short", "byte", "char", "to", "type", "type_as"})


def _is_whole(model: Model, node: fx.Node) -> bool:
    """Whether a value was rounded, compared, drawn or declared as whole numbers before."""
    for n in model.flow.ancestors(node):
        told = declared_values(model, n) if n.op == "placeholder" else None
        kind = dtype(n)
        own = n.op == "placeholder" and kind is not None and not kind.is_floating_point and not _scaled(model, n, node)
        if told is not None or own or ops.op(n) in ("round", "floor", "ceil", "trunc", "bernoulli", "sign") or kind is torch.bool:
            return True
    return False


def _scaled(model: Model, source: fx.Node, node: fx.Node) -> bool:
    """Whether a division stands between whole-number data and a value."""
    between = model.flow.ancestors(node) & model.flow.descendants(source)
    return any(ops.op(n) in ops.DIV | ops.MUL for n in between)


def _real_again(node: fx.Node) -> bool:
    """Whether a value is computed with as real numbers later on."""
    onward = walked([node], lambda n: [u for u in n.users if ops.op(u) in _ONWARD])
    return any(n is not node and (kind := dtype(n)) is not None and kind.is_floating_point for n in onward)


_FILLS = {"full": 1, "full_like": 1, "new_full": 2, "fill": 1, "setitem": 2, "masked_fill": 2}
"""Operations that put a number into a tensor, and its position among their arguments."""
_PARTLY = frozenset({"setitem", "masked_fill"})


def _filled(node: fx.Node) -> Iterator[Spoiled]:
    """A number with a fraction put into a tensor of whole numbers, which takes its whole part: `torch.full_like(labels, 0.9)` is 0."""
    kind, at = dtype(node), _FILLS.get(ops.op(node))
    if kind is None or at is None or kind.is_floating_point or kind.is_complex or kind is torch.bool:
        return
    number = node.args[at] if len(node.args) > at else node.kwargs.get("fill_value", node.kwargs.get("value"))
    if isinstance(number, float) and math.isfinite(number) and number != int(number):
        source = node.args[0] if ops.op(node) in _PARTLY and isinstance(node.args[0], fx.Node) else node
        yield Spoiled(node, source, "filled", number)


def _wrapped(model: Model, node: fx.Node) -> Iterator[Spoiled]:
    """Sums and products of small whole numbers that leave their type: 5 - 128 is 133 in uint8."""
    kind = dtype(node)
    if kind not in (torch.uint8, torch.int8, torch.int16) or ops.op(node) not in _WRAPS or node not in model.flow.data:
        return
    bounds, ends = intervals_of(model).of(node), torch.iinfo(kind)
    source = next(iter(ops.value_inputs(node)), None)
    before = intervals_of(model).of(source)
    if bounds is not None and before is not None and source is not None and (bounds.low < ends.min or bounds.high > ends.max):
        passed = bounds.low if bounds.low < ends.min else bounds.high
        yield Spoiled(node, source, "wrapped", passed, (before.low, before.high))
