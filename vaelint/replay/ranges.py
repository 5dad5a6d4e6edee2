"""Which values a node can take, found by driving the raw outputs behind it to extremes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.core.messages import message_of
from vaelint.core.reach import ends
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.core.inputs import InputSpec
    from vaelint.replay.traced import Traced

_THROUGH = (
    ops.POINTWISE | ops.SHAPE | ops.SELECT | ops.JOIN | {"setitem", "effect", "detach", "data", "softmax", "log_softmax", "normalize"}
)
_NORMALISED = frozenset({"batch_norm", "layer_norm", "group_norm", "instance_norm"})
_FAR = 60.0
_FURTHER = 180.0
"""Exponentials of both are finite in double precision."""


@dataclass(frozen=True)
class Range:
    """Lowest and highest value reached, the raw outputs that were driven, and the last operation that bounds them."""

    low: float
    high: float
    raw: tuple[fx.Node, ...]
    bound_by: fx.Node | None = None
    open_below: bool = False  # it goes on falling as the raw outputs are driven further
    open_above: bool = False

    @property
    def bounded_below(self) -> bool:
        """Whether no raw output pushes the value far below."""
        return self.low > -_FAR / 4

    @property
    def bounded_above(self) -> bool:
        """Whether no raw output pushes the value far above."""
        return self.high < _FAR / 4


def raw_outputs(node: fx.Node, flow: Flow) -> list[fx.Node]:
    """The layer outputs (or inputs) that a value is an element-wise function of, through selections and joins."""

    def made_of(n: fx.Node) -> list[fx.Node] | None:
        sources = [s for s in ops.value_inputs(n) if s in flow.data]
        if ops.op(n) in ("getitem", "masked_select"):  # a mask picks by what it is made of: `x[x != -1]` is never -1
            sources = [s for s in sources if not _is_bool(s)]
        if any(ops.is_opaque(s) for s in sources):
            sources = []  # one of several results of a layer
        through = ops.op(n) in _THROUGH or (ops.op(n) in ops.LINEAR_REDUCE and n not in flow.learned)  # a library size
        if n.op != "call_function" or not sources or ops.uses_parameter(n) or not through or ops.op(n) == "batch_norm":
            return None
        return sources

    return flow.sorted(ends([node], made_of) & flow.data)


def value_range(model: Traced, node: fx.Node) -> Range | None:
    """Drives the raw outputs behind `node` over [-60, 60]; inputs over their declared range. None where the slice does not run."""
    raw = raw_outputs(node, model.flow)
    if not raw or (node in raw and node.op == "call_function"):
        return Range(-math.inf, math.inf, tuple(raw))
    if any(r.op == "call_function" and r not in model.flow.learned and not _is_bool(r) for r in raw):
        return None  # made of the data in a way that is not followed
    for sizes in ({**model.symbols, "B": 2}, dict(model.symbols)):
        try:
            low, high = _driven(model, node, raw, sizes, (1.0, 6.0, _FAR))
            lower, higher = _driven(model, node, raw, sizes, (_FURTHER,))
        except (ReplayError, RuntimeError):
            continue
        slack = 0.01 * max(1.0, high - low)
        below, above = lower < low - slack, higher > high + slack
        if _is_of_sums(node, raw, model.flow):  # of data within their range sums can be larger than those that were tried
            below, above = below or low < 0, above or high > 0
        return Range(low, high, tuple(raw), _bounding(node, raw, model.flow), below, above)
    return None


def _is_of_sums(node: fx.Node, raw: list[fx.Node], flow: Flow) -> bool:
    """Whether sums of the data alone are among what a value is made of."""
    inside = flow.ancestors(node, stop=set(raw)) | {node}
    return any(ops.op(n) in ops.LINEAR_REDUCE and n in flow.data and n not in flow.learned for n in inside)


def _driven(model: Traced, node: fx.Node, raw: list[fx.Node], sizes: dict[str, int], spreads: tuple[float, ...]) -> tuple[float, float]:
    """The extremes of a value while raw outputs take values up to `spreads`; at the largest of them also one element alone does."""
    generator = torch.Generator().manual_seed(7)
    low, high = math.inf, -math.inf
    far = max(spreads)
    for spread, alone in (*((s, False) for s in spreads), (far, True), (-far, True)):
        overrides = {}
        for r in raw:
            if r.op == "placeholder":
                overrides[r] = _input_extremes(model, r, sizes)
                continue
            shape = model.replay.shape_of(r, sizes)
            if _is_bool(r) or ops.op(r) == "bernoulli":
                turns = torch.arange(math.prod(shape)).reshape(shape) % 2 == 0
                overrides[r] = turns if _is_bool(r) else turns.double()
                continue
            values = spread * (2 * torch.rand(shape, dtype=torch.float64, generator=generator) - 1)
            if alone:  # a vector scaled to length 1 reaches 1 and -1 where all its other elements are 0
                values = torch.zeros_like(values)
            if values.numel() >= 2:
                values.view(-1)[-1], values.view(-1)[0] = 0.0 if alone else -spread, spread
            overrides[r] = values
        out = model.replay([node], overrides, sizes)[node]
        low, high = min(low, float(out.detach().min())), max(high, float(out.detach().max()))
    return low, high


def free_low(model: Traced, node: fx.Node) -> Range | None:
    """The values that a node takes where every layer output behind it may take any; None where one of them may not, as one of data or
    of weights that are bounded themselves, or where the slice does not run."""
    raw = raw_outputs(node, model.flow)
    return value_range(model, node) if raw and all(is_free(r) for r in raw if r.op == "call_function") else None


def is_free(node: fx.Node) -> bool:
    """Whether a value is put out by an affine layer or a normalisation, whose weights are parameters as they stand: it has any sign."""
    if ops.op(node) in _NORMALISED:
        return True
    return ops.op(node) in ops.LAYERS and any(n.op == "get_attr" and n.meta.get("parameter") for n in node.all_input_nodes)


def _is_bool(node: fx.Node) -> bool:
    val = node.meta.get("val")
    return isinstance(val, torch.Tensor) and val.dtype is torch.bool


def _input_extremes(model: Traced, node: fx.Node, sizes: dict[str, int]) -> torch.Tensor:
    made = model.tracer.inputs({k: v for k, v in sizes.items() if k in model.inputs.symbols})[str(node.meta["input"])]
    declared = declared_range(model, node)
    made = made.clone()
    if declared is not None and made.numel() >= 2 and all(math.isfinite(x) for x in declared):
        made.view(-1)[0], made.view(-1)[-1] = declared
    return made.double() if made.is_floating_point() else made


def declared_range(model: Traced, node: fx.Node) -> tuple[float, float] | None:
    """What the user said of an input's values."""
    spec = _spec_of(model, node)
    if spec is None:
        return None
    if spec.values is not None:
        return float(min(spec.values)), float(max(spec.values))
    if spec.whole_range is not None:
        return float(spec.whole_range[0]), float(spec.whole_range[1])
    return None if spec.low is None or spec.high is None else (float(spec.low), float(spec.high))


def declared_values(model: Traced, node: fx.Node) -> tuple[float, ...] | None:
    """The values that the user said an input takes, where they were listed one by one."""
    spec = _spec_of(model, node)
    return tuple(map(float, spec.values)) if spec is not None and spec.values is not None else None


def _spec_of(model: Traced, node: fx.Node) -> InputSpec | None:
    name = str(node.meta.get("input"))
    return next((spec for spec, own in zip(model.inputs.specs, model.record.inputs, strict=False) if (spec.name or own) == name), None)


def _bounding(node: fx.Node, raw: list[fx.Node], flow: Flow) -> fx.Node | None:
    """The operation that keeps values in bounds: the first that the raw output passes."""
    squashing = {
        "sigmoid",
        "tanh",
        "relu",
        "relu6",
        "softplus",
        "hardtanh",
        "hardsigmoid",
        "clamp",
        "clip",
        "clamp_min",
        "clamp_max",
        "softmax",
        "normalize",
        "abs",
        "exp",
        "square",
        "elu",
        "gelu",
        "silu",
        "leaky_relu",
        "softsign",
    }
    between = flow.ancestors(node, stop=set(raw)) - set(raw)
    found = [n for n in flow.sorted(between) if ops.op(n) in squashing]
    return found[0] if found else None


def without_range(model: Traced) -> frozenset[str]:
    """The real-valued inputs of which the user declared no range: their values are ours."""
    return frozenset(
        str(n.meta["input"]) for n in model.record.inputs.values() if n.meta["val"].is_floating_point() and declared_range(model, n) is None
    )


def wants_unit(error: BaseException) -> bool:
    """Whether an error is that of a cross entropy whose probabilities or targets are none (torch's own words)."""
    return "between 0 and 1" in message_of(error)


def in_unit(values: Mapping[str, torch.Tensor], names: Collection[str]) -> dict[str, torch.Tensor]:
    """The inputs, those of `names` brought into [0, 1]."""
    return {k: torch.sigmoid(v) if k in names else v for k, v in values.items()}
