"""Types of numbers: operations that refuse two of them, float64 that nobody asked for, data rounded to whole numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.attribute_use import usage_of
from vaelint.core.finding import Span
from vaelint.faults.gradients.unregistered import holder
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import dtype, shape, span
from vaelint.replay.per_model import per_model
from vaelint.trace.recorded_run import Replays

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_ONE_TYPE = ops.LAYERS | {"matmul", "mm", "bmm", "mv", "dot", "addmm", "baddbmm", "rmatmul", "einsum", "tensordot", "inner"}
"""Operations that take operands of one type only. Tensors without values do not refuse others: torch's kernels do."""

_ASKED = frozenset({"double", "to", "type", "type_as"})


@dataclass(frozen=True)
class Mixed:
    """An operation that gets two types, and where the odd one began."""

    node: fx.Node
    odd: fx.Node
    partner: fx.Node
    origin: fx.Node
    begun: Span | None  # where the odd type began: where the tensor is made, or put into the model

    given: bool = False  # whether the odd one is an input whose type the user has said

    @property
    def odd_type(self) -> str:
        """`float64`."""
        return _name(self.odd)

    @property
    def own_type(self) -> str:
        """`float32`: that of the other operand."""
        return _name(self.partner)

    @property
    def unasked(self) -> bool:
        """Whether the odd type is float64 only because numpy's numbers are."""
        return _name(self.origin) == "float64" and _unasked(self.origin)


def _name(node: fx.Node) -> str:
    return str(dtype(node)).removeprefix("torch.")


def _mixed(model: Model, node: fx.Node, odd: fx.Node, partner: fx.Node) -> Mixed:
    origin = _origin(odd)
    if origin.op != "get_attr":
        given = origin.op == "placeholder" and not isinstance(model.step, Replays)  # an observed script has types of its own
        return Mixed(node, odd, partner, origin, model.where(origin), given)
    held = holder(model, origin)
    return Mixed(node, odd, partner, origin, usage_of(model).assignment(*held) if held is not None else None)


@per_model
def mismatches(model: Model) -> list[Mixed]:
    """VAE604: products and layers of tensors of two types; the first only, as it ends the step."""
    for node in model.record.graph.nodes:
        if node.op != "call_function" or ops.op(node) not in _ONE_TYPE or node.meta.get("autocast"):
            continue
        parts = [n for n in ops.tensors(node.args) + ops.tensors(dict(node.kwargs)) if shape(n)]
        types = {dtype(n) for n in parts}
        if len(types) < 2:
            continue
        partner = next((n for n in parts if n.op == "get_attr"), parts[-1])
        odd = next((n for n in parts if dtype(n) != dtype(partner)), None)
        if odd is not None:
            return [_mixed(model, node, odd, partner)]
    return []


def creeping(model: Model) -> list[Mixed]:
    """VAE605: values of the model that a float64 tensor, made by numpy and not asked for, turns into float64; one for each origin."""
    found: dict[object, Mixed] = {}
    raising = {m.origin for m in mismatches(model)}
    for node in model.record.graph.nodes:
        if node.op != "call_function" or dtype(node) is not torch.float64 or node not in model.flow.learned:
            continue
        parts = [n for n in ops.tensors(node.args) + ops.tensors(dict(node.kwargs)) if shape(n)]
        own = [n for n in parts if n in model.flow.learned and dtype(n) in (torch.float32, torch.float16, torch.bfloat16)]
        wide = [n for n in parts if dtype(n) is torch.float64]
        if not own or not wide or ops.op(node) in _ONE_TYPE:
            continue
        origin = _origin(wide[0])
        if _unasked(origin) and origin not in raising:
            found.setdefault(span(origin) or origin, _mixed(model, node, wide[0], own[0]))
    return list(found.values())


def refused_by_autocast(model: Model) -> list[fx.Node]:
    """VAE607: binary cross-entropies of probabilities, in a region of automatic precision for CUDA."""
    return [
        n
        for n in model.record.graph.nodes
        if ops.op(n) == "binary_cross_entropy" and (region := n.meta.get("autocast")) is not None and region.device == "cuda"
    ]


def _origin(node: fx.Node) -> fx.Node:
    """Where a value's type began: the last value on the way back that has it."""
    kind = dtype(node)
    for _ in range(10_000):
        before = [n for n in ops.value_inputs(node) if dtype(n) is kind]
        if node.op != "call_function" or not before or ops.op(node) in _ASKED:
            return node
        node = before[0]
    return node


def _unasked(origin: fx.Node) -> bool:
    """Whether a tensor is float64 because numpy's numbers are, and not because the user said so."""
    if origin.op == "get_attr":
        return not origin.meta.get("parameter")
    made = ops.op(origin) in ("from_numpy", "tensor", "as_tensor", "asarray")
    return made and origin.kwargs.get("dtype") is None and len(origin.args) == 1
