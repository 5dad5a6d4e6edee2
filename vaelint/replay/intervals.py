"""Between which bounds a value lies, by interval arithmetic over the record, and whether it can be exactly at the lower one.

With a `Precision`, bounds are rounded as the numbers of each value's type are: what was kept from zero by 1e-8 can be 0 in float16.
Unknown is the answer wherever an operation is not modelled: rules about bounds then stay silent.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.walk import behind
from vaelint.replay.per_model import per_model
from vaelint.replay.precision import computed_in, rounded
from vaelint.replay.ranges import declared_range

if TYPE_CHECKING:
    from vaelint.replay.precision import Precision
    from vaelint.replay.traced import Traced

INF = math.inf


@dataclass(frozen=True)
class Bounds:
    """`low` and `high`, whether `low` is reached in floating point, and the operation that sets it."""

    low: float
    high: float
    reached: bool = False
    by: fx.Node | None = None


_FIXED: dict[str, tuple[float, float, bool]] = {
    "sigmoid": (0.0, 1.0, True),
    "softmax": (0.0, 1.0, True),
    "hardsigmoid": (0.0, 1.0, True),
    "tanh": (-1.0, 1.0, True),
    "sin": (-1.0, 1.0, True),
    "cos": (-1.0, 1.0, True),
    "erf": (-1.0, 1.0, True),
    "relu6": (0.0, 6.0, True),
    "softsign": (-1.0, 1.0, False),
    "softplus": (0.0, INF, False),
    "logsigmoid": (-INF, 0.0, False),
    "log_softmax": (-INF, 0.0, False),
    "elu": (-1.0, INF, False),
    "celu": (-1.0, INF, False),
    "gelu": (-0.17, INF, True),
    "silu": (-0.28, INF, True),
    "mish": (-0.31, INF, True),
    "randn": (-INF, INF, False),
    "randn_like": (-INF, INF, False),
    "leaky_relu": (-INF, INF, False),
    "rand": (0.0, 1.0, True),
    "rand_like": (0.0, 1.0, True),
    "cumprod": (-INF, INF, False),
}
"""Bounds that hold whatever goes in. A softplus underflows to 0 only far below -100, where nothing else works either."""

_SAME = (
    ops.SHAPE
    | ops.CAST
    | {
        "getitem",
        "chunk",
        "split",
        "select",
        "narrow",
        "unbind",
        "index_select",
        "gather",
        "amax",
        "amin",
        "flip",
        "roll",
        "effect",
        "detach",
        "data",
        "mean",
        "contiguous",
    }
)
_RAW = frozenset(
    {"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "linear", "matmul", "bmm", "mm", "addmm", "baddbmm"}
)
_PRODUCTS = frozenset({"matmul", "bmm", "mm", "linear", "conv1d", "conv2d", "conv3d"})


class Intervals:
    """Bounds of every node of one model, each computed once."""

    def __init__(self, model: Traced, precision: Precision | None = None) -> None:
        self._model, self._precision = model, precision
        self._known: dict[fx.Node, Bounds | None] = {}
        for node in model.record.graph.nodes:  # in the order they ran: operands come first
            self._known[node] = self._held(node, self._bounds(node))

    def _held(self, node: fx.Node, bounds: Bounds | None) -> Bounds | None:
        """The bounds as the type of the node holds them."""
        if bounds is None or self._precision is None:
            return bounds
        kind = self._precision.of(node)
        return replace(bounds, low=rounded(bounds.low, kind), high=rounded(bounds.high, kind))

    def of(self, value: Any) -> Bounds | None:
        """Bounds of a node or a number; None when unknown."""
        if isinstance(value, fx.Node):
            return self._known.get(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return Bounds(float(value), float(value), True)
        return None

    def _bounds(self, node: fx.Node) -> Bounds | None:
        if node.op != "call_function" or node.meta.get("scalar"):
            return self._given(node)
        name = ops.op(node)
        if name in _FIXED:
            low, high, reached = _FIXED[name]
            return Bounds(low, high, reached, node)
        if name == "one_hot":
            return Bounds(0.0, 1.0, True, node)
        if name in _PRODUCTS and (product := self._product(node)) is not None:
            return product
        if name in _RAW or name.startswith("conv") or (ops.uses_parameter(node) and name not in ops.POINTWISE | _SAME | {"embedding"}):
            learned = node in self._model.flow.learned or any(n in self._model.flow.learned for n in node.all_input_nodes)
            return Bounds(-INF, INF, False, node) if learned and isinstance(node.meta.get("val"), torch.Tensor) else None
        if name in ops.COMPARE and isinstance(node.meta.get("val"), torch.Tensor):
            return Bounds(0.0, 1.0, True, node)
        if name in ops.JOIN:
            return self._union([self.of(n) for n in ops.value_inputs(node)])
        if name in _SAME:
            ins = ops.value_inputs(node)
            inner = self.of(ins[0]) if ins else None
            return replace(inner, reached=False) if inner is not None and name == "mean" else inner
        rule = getattr(self, f"op_{name}", None) or self._arithmetic(name)
        found = rule(node) if rule is not None else None
        return found if found is None or not (math.isnan(found.low) or math.isnan(found.high)) else None

    def _product(self, node: fx.Node) -> Bounds | None:
        """Of a matrix product of values that are not negative: 0 where a learned one is 0 throughout, and not where ones and zeros pick.

        A bias that is not 0 keeps it away from 0: the variance of a layer whose weights are drawn, Kingma et al. 2015, eq. 6.
        """
        factors, bias = ops.value_inputs(node)[:2], ops.value_inputs(node)[2:]
        known = [(n, self.of(n)) for n in factors]
        added = self.of(bias[0]) if bias else Bounds(0.0, 0.0, True)
        if added is None or added.low < 0 or any(b is None or b.low < 0 for _, b in known):
            return None
        reached = any(b is not None and b.low == 0 and b.reached and n in self._model.flow.learned for n, b in known)
        return Bounds(added.low, INF, reached and added.reached, node)

    def _given(self, node: fx.Node) -> Bounds | None:
        """Of what is not computed here: an input, a parameter, a whole number such as a size."""
        if node.op == "placeholder":
            declared = declared_range(self._model, node)
            return Bounds(*declared, reached=math.isfinite(declared[0]), by=node) if declared else None
        val = node.meta.get("val")
        if node.op == "get_attr":
            return Bounds(-INF, INF) if id(val) in self._model.trainable else None
        if node.op != "call_function" or not isinstance(val, int) or isinstance(val, bool):
            return None
        return Bounds(float(val), float(val), True)

    @staticmethod
    def _union(parts: list[Bounds | None]) -> Bounds | None:
        known = [p for p in parts if p is not None]
        if len(known) != len(parts) or not known:
            return None
        lowest = min(known, key=lambda b: b.low)
        return Bounds(lowest.low, max(b.high for b in known), lowest.reached, lowest.by)

    def _arithmetic(self, name: str) -> Any:
        if name in ("rtruediv", "rdiv", "reciprocal"):
            return self._inverted
        return self._added if name in ops.ADD else self._multiplied if name in ops.MUL else self._divided if name in ops.DIV else None

    def _pair(self, node: fx.Node) -> tuple[Bounds | None, Bounds | None]:
        pair = (*node.args, *node.kwargs.values())[:2]
        return (self._taken(node, pair[0]), self._taken(node, pair[1])) if len(pair) == 2 else (None, None)

    def _taken(self, node: fx.Node, value: Any) -> Bounds | None:
        """Bounds of an operand; a plain number as the operation takes it."""
        if self._precision is not None and isinstance(value, int | float):
            value = rounded(float(value), computed_in(self._precision.of(node)))
        return self.of(value)

    def _added(self, node: fx.Node) -> Bounds | None:
        a, b = self._pair(node)
        if a is None or b is None:
            return None
        name = ops.op(node)
        alpha = node.kwargs.get("alpha", 1)
        if alpha != 1:
            return None
        if name in ("rsub",):
            a, b = b, a
        if name in ("sub", "isub", "subtract", "rsub"):
            b = Bounds(
                -b.high,
                -b.low,
                (
                    b.by is not None
                    and b.by.op == "call_function"
                    and ops.op(b.by) in ("sigmoid", "softmax", "hardsigmoid", "tanh", "relu6", "clamp")
                )
                or b.low == b.high,
                b.by,
            )
        return Bounds(a.low + b.low, a.high + b.high, a.reached and b.reached, a.by or b.by)

    def _multiplied(self, node: fx.Node) -> Bounds | None:
        a, b = self._pair(node)
        if a is None or b is None:
            return None
        if a.low >= 0 and b.low >= 0:
            low = a.low * b.low if a.low and b.low else 0.0
            return Bounds(
                low,
                _times(a.high, b.high),
                a.reached and b.reached if low else (a.low == 0 and a.reached) or (b.low == 0 and b.reached),
                b.by if b.by is not None and b.low == 0 and b.reached and not (a.low == 0 and a.reached) else a.by or b.by,
            )
        ends = [_times(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
        same = node.args[0] is node.args[1] if len(node.args) > 1 else False
        return Bounds(0.0, max(ends), True, node) if same else Bounds(min(ends), max(ends), a.reached and b.reached, a.by or b.by)

    def _divided(self, node: fx.Node) -> Bounds | None:
        a, b = self._pair(node)
        if a is None or b is None or b.low <= 0 or b.high == INF:
            return None
        ends = [x / y if math.isfinite(x) else x for x in (a.low, a.high) for y in (b.low, b.high)]
        return Bounds(min(ends), max(ends), a.reached, a.by)

    def _inverted(self, node: fx.Node) -> Bounds | None:
        """c / a for a number c > 0: exactly 0 where an exponential in `a` overflows, as in 1 / (1 + exp(-t)).

        A sum of exponentials alone is a precision, and what it divides a variance: as far from 0 as an exponential is.
        """
        over = self._taken(node, node.args[1]) if len(node.args) > 1 else Bounds(1.0, 1.0, True)
        a = self.of(node.args[0])
        if a is None or over is None or over.low != over.high or over.low <= 0 or a.low < 0:
            return None
        low = over.low / a.high if a.high < INF else 0.0
        return Bounds(low, over.low / a.low if a.low > 0 else INF, a.low > 0 and a.high == INF and _overflows(node.args[0]), node)

    def _spread(self, node: fx.Node) -> Bounds | None:
        """What is never negative, and 0 only by chance."""
        return Bounds(0.0, INF, False, node)

    op_norm = op_vector_norm = op_linalg_norm = op_linalg_vector_norm = op_std = op_var = _spread

    def op_sum(self, node: fx.Node) -> Bounds | None:
        a = self.of(node.args[0])
        if a is None or a.low < 0:
            return None
        shapes = [n.meta["val"].shape.numel() for n in (node.args[0], node) if isinstance(n, fx.Node)]
        return Bounds(a.low, a.high * shapes[0] / max(1, shapes[-1]) if a.high > 0 else a.high, False, a.by)

    def op_rsqrt(self, node: fx.Node) -> Bounds | None:
        a = self.of(node.args[0])
        return Bounds(0.0, INF, False, node) if a is not None and a.low >= 0 else None

    def op_neg(self, node: fx.Node) -> Bounds | None:
        a = self.of(node.args[0])
        return Bounds(-a.high, -a.low, a.low == a.high, a.by) if a else None

    op_negative = op_neg

    def op_exp(self, node: fx.Node) -> Bounds | None:
        a = self.of(node.args[0])
        return (
            Bounds(math.exp(min(a.low, 700)) if a.low > -INF else 0.0, math.exp(a.high) if a.high < 700 else INF, a.low > -80, node)
            if a
            else Bounds(0.0, INF, False, node)
        )

    def op_log(self, node: fx.Node) -> Bounds | None:
        a = self.of(node.args[0])
        return (
            Bounds(math.log(a.low) if a.low > 0 else -INF, math.log(a.high) if 0 < a.high < INF else INF, a.low > 0 and a.reached, a.by)
            if a
            else None
        )

    def op_sqrt(self, node: fx.Node) -> Bounds | None:
        a = self.of(node.args[0])
        return (
            Bounds(math.sqrt(max(a.low, 0.0)), math.sqrt(a.high) if a.high < INF else INF, a.reached, a.by) if a and a.high >= 0 else None
        )

    def op_square(self, node: fx.Node) -> Bounds | None:
        a = self.of(node.args[0])
        if a is not None and a.low >= 0:  # what sets the bound of a root sets that of its square
            return Bounds(a.low**2, a.high**2 if a.high < 1e150 else INF, a.reached, a.by)
        reaches = a is None or (a.low < 0 < a.high) or a.reached
        return Bounds(
            0.0, max(abs(a.low), abs(a.high)) ** 2 if a and max(abs(a.low), abs(a.high)) < 1e150 else INF, reaches and a is not None, node
        )

    def op_pow(self, node: fx.Node) -> Bounds | None:
        power = node.args[1] if len(node.args) > 1 else node.kwargs.get("exponent")
        return self.op_square(node) if power == 2 else self.op_sqrt(node) if power == 0.5 else None

    def op_abs(self, node: fx.Node) -> Bounds | None:
        a = self.of(node.args[0])
        if a is None:
            return None
        return a if a.low >= 0 else Bounds(0.0, max(abs(a.low), abs(a.high)), False, node)  # exactly 0 only by chance: log|det| is fine

    op_absolute = op_abs

    def op_relu(self, node: fx.Node) -> Bounds | None:
        a = self.of(node.args[0])
        return (
            Bounds(max(0.0, a.low), max(0.0, a.high), a.reached or a.low < 0, node if a.low < 0 else a.by)
            if a
            else Bounds(0.0, INF, True, node)
        )

    def op_clamp(self, node: fx.Node) -> Bounds | None:
        a = self.of(node.args[0]) or Bounds(-INF, INF)
        low = node.kwargs.get("min", node.args[1] if len(node.args) > 1 else None)
        high = node.kwargs.get("max", node.args[2] if len(node.args) > 2 else None)
        return _limited(a, self._number(low, low=True), self._number(high, low=False), node)

    op_clip = op_clamp

    def _number(self, value: Any, *, low: bool) -> float | None:
        found = self.of(value)
        return None if found is None else found.low if low else found.high

    def op_clamp_min(self, node: fx.Node) -> Bounds | None:
        return _limited(
            self.of(node.args[0]) or Bounds(-INF, INF), self._number((*node.args, *node.kwargs.values())[1], low=True), None, node
        )

    def op_hardtanh(self, node: fx.Node) -> Bounds | None:
        low = node.kwargs.get("min_val", node.args[1] if len(node.args) > 1 else -1.0)
        high = node.kwargs.get("max_val", node.args[2] if len(node.args) > 2 else 1.0)
        return _limited(self.of(node.args[0]) or Bounds(-INF, INF), self._number(low, low=True), self._number(high, low=False), node)

    def op_where(self, node: fx.Node) -> Bounds | None:
        """Both branches, where the condition hangs on neither: `where(p > 0, p, 1)` is a guard."""
        if len(node.args) < 3 or not isinstance(node.args[0], fx.Node) or node.args[0] in self._model.flow.learned:
            return None
        return self._union([self.of(node.args[1]), self.of(node.args[2])])

    def op_full(self, node: fx.Node) -> Bounds | None:
        return self.of(node.args[1]) if len(node.args) > 1 else None

    op_full_like = op_full

    def op_zeros(self, _: fx.Node) -> Bounds:
        return Bounds(0.0, 0.0, True)

    def op_ones(self, _: fx.Node) -> Bounds:
        return Bounds(1.0, 1.0, True)

    op_zeros_like, op_ones_like = op_zeros, op_ones

    def op_tensor(self, node: fx.Node) -> Bounds | None:
        return self.of(node.args[0]) if node.args else None


def _limited(a: Bounds, low: float | None, high: float | None, node: fx.Node) -> Bounds:
    """`a` between two limits."""
    if low is not None and a.low < low:
        a = Bounds(low, max(a.high, low), True, node)
    if high is not None and a.high > high:
        a = Bounds(min(a.low, high), high, a.reached, a.by)
    return a


def _overflows(node: Any) -> bool:
    """Whether an exponential stands behind a value, through sums with numbers and changes of shape."""
    return isinstance(node, fx.Node) and ops.op(behind(node, ops.ADD | ops.SHAPE | ops.CAST)) == "exp"


def _times(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


@per_model
def intervals_of(model: Traced) -> Intervals:
    """Between which bounds the values of the recorded step lie."""
    return Intervals(model)
