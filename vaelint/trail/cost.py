"""What one step costs: floating-point operations, the activations kept for the backward pass, and parameters, for each node.

Operations are counted by torch's own formulas (`torch.utils.flop_counter`): matrix products, convolutions and attention, a
multiplication and an addition as two; element-wise operations and reductions count as none. Activations are what autograd saved
while the step was recorded: each storage once, at the node that made it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import field
from typing import Any

import torch
from torch import fx
from torch.utils.flop_counter import FlopCounterMode

from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import Record
from vaelint.trace import torch_private

_UNCOUNTED = (
    ops.POINTWISE | ops.SHAPE | ops.SELECT | ops.JOIN | ops.LOSSES | ops.RANDOM | (ops.REDUCE - {"einsum"}) | {"effect", "embedding"}
)
_RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})


@dataclass(frozen=True)
class NodeCost:
    """One node's share."""

    flops: int | None = 0  # of the forward pass; None where they cannot be counted
    activation_bytes: int = 0  # kept until the backward pass
    parameters: int = 0  # elements of the parameters it reads
    parameter_bytes: int = 0


NOTHING = NodeCost()


@dataclass(frozen=True)
class Cost:
    """One recorded step, at the sizes it was recorded with. `nodes` holds those that cost anything."""

    nodes: dict[fx.Node, NodeCost] = field(default_factory=dict)
    flops: int = 0  # of the forward pass
    activation_bytes: int = 0
    hidden_bytes: int = 0  # of the activations, those that only kernels see: gates of a recurrent layer, weights of attention
    input_bytes: int = 0
    parameters: int = 0  # of the whole model, each once, used or not
    parameter_bytes: int = 0
    gradient_bytes: int = 0  # of the parameters that are trained
    buffer_bytes: int = 0
    uncounted: tuple[str, ...] = ()  # operations whose FLOPs are not known and not in the sum

    def of(self, node: fx.Node) -> NodeCost:
        """A node's share, nothing for one that costs nothing."""
        return self.nodes.get(node, NOTHING)


def estimate(record: Record) -> Cost:
    """The cost of a recorded step; of a run that failed, of the part that ran. Runs no user code and allocates nothing."""
    try:
        with torch_private.lean_dynamo():
            return _estimate(record)
    except torch_private.DynamoMissing:
        return _estimate(record)


def _estimate(record: Record) -> Cost:
    kept, hidden = _saved(record)
    counted: dict[Any, int | None] = {}
    nodes: dict[fx.Node, NodeCost] = {}
    uncounted: dict[str, None] = {}
    for node in record.nodes:
        flops = _flops(node, counted)
        if flops is None:
            uncounted[ops.op(node)] = None
        read = {n for n in node.all_input_nodes if n.op == "get_attr" and n.meta.get("parameter") and _tensor(n) is not None}
        cost = NodeCost(flops, kept.get(node, 0), sum(n.meta["val"].numel() for n in read), sum(_bytes(n.meta["val"]) for n in read))
        if cost != NOTHING:
            nodes[node] = cost
    parameters = list(record.model.parameters())
    return Cost(
        nodes,
        sum(c.flops or 0 for c in nodes.values()),
        sum(kept.values()),
        hidden,
        sum(_bytes(n.meta["val"]) for n in record.inputs.values() if _tensor(n) is not None),
        sum(p.numel() for p in parameters),
        sum(map(_bytes, parameters)),
        sum(_bytes(p) for p in parameters if p.requires_grad),
        sum(map(_bytes, record.model.buffers())),
        tuple(uncounted),
    )


def _tensor(node: fx.Node) -> torch.Tensor | None:
    val = node.meta.get("val")
    return val if isinstance(val, torch.Tensor) else None


def _bytes(tensor: torch.Tensor) -> int:
    try:
        return tensor.numel() * tensor.element_size()
    except RuntimeError:  # lazy parameters have no size yet
        return 0


# --- operations ----------------------------------------------------------------------------------------------------------


def _flops(node: fx.Node, counted: dict[Any, int | None]) -> int | None:
    """FLOPs of one call, by running it on tensors without storage under torch's counter; None if it does not run so.

    They are the record's own fakes where it has fakes: what its mode remembers of the operation is quick, torch's meta tensors are not.
    """
    if node.op != "call_function" or ops.op(node) in _UNCOUNTED or node.meta.get("scalar") or not ops.tensors(node.args):
        return 0
    try:
        mode = _mode_of(node)
        stand_in = _meta if mode is None else _fake
        args, kwargs = fx.map_arg(node.args, stand_in), fx.map_arg(dict(node.kwargs), stand_in)
    except _NoValue:
        return _recurrent(node)
    key = (node.target, _signature((args, kwargs)))
    if key not in counted:
        try:
            with torch.no_grad(), mode or contextlib.nullcontext(), FlopCounterMode(display=False) as counter:
                node.target(*args, **kwargs)  # type: ignore[operator]
            counted[key] = int(counter.get_total_flops())
        except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError, IndexError, AssertionError):
            counted[key] = _recurrent(node)  # a kernel without a form for shapes alone, such as those of sparse tensors
    return counted[key]


class _NoValue(Exception):
    """An argument is no tensor, and its value is not known."""


def _fake(node: fx.Node) -> Any:
    val = node.meta.get("val")
    if val is None or (isinstance(val, torch.Tensor) and val.layout is not torch.strided):
        raise _NoValue
    return val


def _meta(node: fx.Node) -> Any:
    val = _fake(node)
    return torch.empty(val.shape, dtype=val.dtype, device="meta") if isinstance(val, torch.Tensor) else val


def _mode_of(node: fx.Node) -> Any:
    """The mode of the fake tensors that a call gets; None where one of its tensors is none."""
    modes = [getattr(t, "fake_mode", None) for n in node.all_input_nodes if (t := _tensor(n)) is not None]
    return modes[0] if modes and all(m is modes[0] for m in modes) else None


def _signature(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return (tuple(value.shape), value.dtype)
    if isinstance(value, tuple | list):
        return tuple(_signature(v) for v in value)
    if isinstance(value, dict):
        return tuple((k, _signature(v)) for k, v in value.items())
    return repr(value)


def _recurrent(node: fx.Node) -> int | None:
    """A recurrent layer over packed sequences: each weight matrix once for each element of each sequence."""
    if ops.op(node) not in _RECURRENT:
        return None
    tensors = [t for n in ops.tensors(node.args) if (t := _tensor(n)) is not None]
    matrices = [t for n in ops.tensors(node.args) if n.meta.get("parameter") and (t := _tensor(n)) is not None and t.dim() == 2]
    return 2 * tensors[0].shape[0] * sum(t.numel() for t in matrices) if matrices else None


# --- what autograd keeps ---------------------------------------------------------------------------------------------------


def _saved(record: Record) -> tuple[dict[fx.Node, int], int]:
    """Bytes that autograd keeps for the backward pass, by the node that made them; and those among them that no node has as its value.

    Parameters, buffers and inputs are not among them.
    """
    makers: dict[int, fx.Node] = {}
    functions: dict[Any, fx.Node] = {}
    for node in record.nodes:
        if (val := _tensor(node)) is None:
            continue
        if (key := torch_private.storage_of(val)) is not None:
            makers.setdefault(key, node)
        if val.grad_fn is not None:
            functions.setdefault(val.grad_fn, node)
    kept: dict[fx.Node, int] = {}
    hidden = 0
    seen_storages: set[int] = set()
    for tensor, user in _saved_tensors(record, functions):
        key = torch_private.storage_of(tensor)
        if key is None or key in seen_storages:
            continue
        seen_storages.add(key)
        maker = makers.get(key, user)
        if maker is not None and maker.op == "call_function":
            size = int(tensor.untyped_storage().nbytes())
            kept[maker] = kept.get(maker, 0) + size
            hidden += size if key not in makers else 0
    return kept, hidden + sum(map(_gates, record.nodes))


def _gates(node: fx.Node) -> int:
    """Bytes that a recurrent layer keeps of its steps, which its kernel hides: of each gate about two values an element."""
    val = ops.tensors(node.args) if ops.op(node) in _RECURRENT and node.op == "call_function" else []
    tensors = [t for n in val if (t := _tensor(n)) is not None]
    matrices = [t for n in val if n.meta.get("parameter") and (t := _tensor(n)) is not None and t.dim() == 2]
    if not matrices:
        return 0
    steps = tensors[0].numel() // tensors[0].shape[-1]
    return int(steps * sum(t.shape[0] for t in matrices) * tensors[0].element_size())  # two matrices a layer: twice its gates


def _saved_tensors(record: Record, functions: dict[Any, fx.Node]) -> Iterator[tuple[torch.Tensor, fx.Node | None]]:
    """Each tensor that the backward pass from the loss (of all that ran, where there is none) will read, with the node whose
    backward function reads it."""
    last = _tensor(record.loss) if record.loss is not None else None
    start = [last.grad_fn] if last is not None and last.grad_fn is not None else list(functions)
    todo: list[tuple[Any, fx.Node | None]] = [(f, functions.get(f)) for f in start]
    seen: set[Any] = set()
    while todo:
        function, owner = todo.pop()
        if function is None or function in seen:
            continue
        seen.add(function)
        owner = functions.get(function, owner)
        for _, value in torch_private.saved_by(function, getattr(last, "fake_mode", None)):
            for tensor in value if isinstance(value, tuple | list) else (value,):
                if isinstance(tensor, torch.Tensor):
                    yield tensor, owner
        todo.extend((f, owner) for f, _ in function.next_functions)
