"""Which sample of the batch each entry of each tensor belongs to, followed through the record on small integer tensors.

Every node gets a tensor of labels that broadcasts to its shape: the number of the sample, or `FREE` where the entry depends on none.
Operations that only move entries are run on the labels themselves, so that a `view` that cuts samples apart shows at its own line,
whatever its spelling. Sizes are those of the recorded run; no symbolic algebra is needed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import fx

from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import Record, shape
from vaelint.record.sizes import plain
from vaelint.replay.contractions import contracted
from vaelint.replay.labels import FREE, Labels, aligned, axis_of, compact, counts_whole, filled, free, reduce_labels, varying
from vaelint.trace.lift import SymbolPower

LIMIT = 1 << 24
"""Entries up to which labels are laid out in full; beyond, a node counts as unknown."""

Value = Labels | tuple[Any, ...] | None
Meeting = Literal["contracted", "combined", "recurrent", "softmax", "reduced"]

_MOVES = (
    ops.SHAPE
    | ops.JOIN
    | {
        "getitem",
        "chunk",
        "split",
        "split_with_sizes",
        "tensor_split",
        "narrow",
        "select",
        "unbind",
        "flip",
        "fliplr",
        "flipud",
        "roll",
        "repeat_interleave",
        "tile",
        "hsplit",
        "vsplit",
    }
)
PICKS = frozenset({"getitem", "chunk", "split", "split_with_sizes", "tensor_split", "narrow", "select", "unbind"})
_LIKE_SECOND = frozenset({"view_as", "reshape_as", "expand_as"})
_ALONG = frozenset(
    {"softmax", "log_softmax", "softmin", "gumbel_softmax", "cumsum", "cumprod", "logcumsumexp", "normalize", "sort", "argsort"}
)
_SOFTMAX = frozenset({"softmax", "log_softmax", "softmin", "gumbel_softmax"})
_LOOKS_UP = frozenset({"embedding", "one_hot"})


@dataclass(frozen=True)
class Meets:
    """A node in which entries of different samples come together."""

    node: fx.Node
    operands: tuple[fx.Node, ...]
    how: Meeting
    crossed: bool = False  # the samples lie on different axes: all pairs are meant


class Samples:
    """The labels of every node, and where samples are cut apart, picked out, or come together."""

    def __init__(self, record: Record, axes: dict[fx.Node, int]) -> None:
        self.values: dict[fx.Node, Value] = {}
        self.cut: dict[fx.Node, fx.Node] = {}  # a view that puts parts of several samples into one row -> its operand
        self.refolded: dict[fx.Node, fx.Node] = {}  # a view that gives the batch and another axis one place, where rows come round again
        self.picked: dict[fx.Node, fx.Node] = {}  # a selection of some samples only -> its operand
        self.meetings: list[Meets] = []
        self.statistics: dict[fx.Node, fx.Node] = {}  # a reduction over samples -> its operand
        self._record = record
        for node in record.graph.nodes:
            self.values[node] = self._start(node, axes) if node.op != "call_function" else self._follow(node)

    def of(self, node: fx.Node) -> Labels | None:
        """Labels of one tensor; None where they are not known."""
        found = self.values.get(node)
        return found if isinstance(found, torch.Tensor) else None

    def _start(self, node: fx.Node, axes: dict[fx.Node, int]) -> Value:
        rank = len(shape(node))
        if node not in axes:
            return free(rank)
        n = shape(node)[axes[node]]
        if n > LIMIT:
            return None
        return torch.arange(n, dtype=torch.int32).reshape([n if d == axes[node] else 1 for d in range(rank)])

    def _follow(self, node: fx.Node) -> Value:
        if node.meta.get("scalar"):
            return free(0)
        tensors = [n for n in ops.value_inputs(node) if not n.meta.get("scalar")]
        found = [self.values.get(n) for n in tensors]
        if any(f is None for f in found):
            return None
        if all(isinstance(f, torch.Tensor) and bool((f == FREE).all()) for f in found):
            return self._all_free(node)
        try:
            return self._rule(node)(node)
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AssertionError):
            return None  # an operation used in a way that is not modelled: nothing is claimed about what follows

    def _all_free(self, node: fx.Node) -> Value:
        val = node.meta.get("val")
        return free(val.dim()) if isinstance(val, torch.Tensor) else tuple(free(0) for _ in range(64))

    def _rule(self, node: fx.Node) -> Callable[[fx.Node], Value]:
        name = ops.op(node)
        if name == "getitem" and node.target is operator.getitem and isinstance(self.values.get(node.args[0]), tuple):  # type: ignore[arg-type]
            one = self.values[node.args[0]][node.args[1]]  # type: ignore[index]
            return lambda n: aligned(one, len(shape(n))) if isinstance(one, torch.Tensor) else one
        if name in _MOVES:
            return self._move
        if name in ops.POINTWISE | ops.COMPARE | {
            "iand",
            "ior",
            "ixor",
            "xor",
            "effect",
            "detach",
            "data",
            "batch_norm",
            "bernoulli",
            "dropout",
            "copy",
            "addcmul",
            "addcdiv",
            "normal",
            "nan_to_num",
        }:
            return self._combine
        if name == "setitem":
            return self._set
        if name in _ALONG:
            return self._along
        if name in ops.LOSSES:
            return self._combine if len(shape(node)) else lambda n: free(0)
        if name in _LOOKS_UP:
            return lambda n: self._operand(n, 0).unsqueeze(-1)
        if name in ops.REDUCE and name not in ("einsum", "trace"):
            return self._reduce
        return self._contract

    # --- operations that move entries ------------------------------------------------------------------------------

    def _move(self, node: fx.Node) -> Value:
        if node.target is operator.getitem and ops.op(node) == "expand":  # a result of broadcast_tensors
            return aligned(self._operand_of(ops.value_inputs(node)[0]), len(shape(node)))
        joins = ops.op(node) in ops.JOIN
        if not joins and any(not n.meta.get("scalar") for n in ops.tensors(node.args[1:]) if ops.op(node) not in _LIKE_SECOND):
            return self._look_up(node)
        args = tuple(self._argument(a, full=True) for a in node.args)
        kwargs = {k: self._argument(v, full=True) for k, v in node.kwargs.items()}
        if ops.op(node) in _LIKE_SECOND:
            other = node.args[1]
            args = (args[0], torch.empty(0).new_empty(()).expand(shape(other))) if isinstance(other, fx.Node) else args
        target: Any = (
            torch.Tensor.reshape if ops.op(node) == "view" else torch.Tensor.reshape_as if ops.op(node) == "view_as" else node.target
        )
        result = target(*args, **kwargs)
        if not isinstance(result, torch.Tensor):
            parts = tuple(compact(r) for r in result)
            self._note_pick(node, parts)
            return parts
        if joins:
            result = filled(result, node)
        made = compact(result)
        self._note_cut(node, made)
        self._note_pick(node, (made,))
        return made

    def _look_up(self, node: fx.Node) -> Value:
        """`table[index]`, with a table that belongs to no sample: each entry belongs to the sample that asked."""
        table, index = node.args[0], node.args[1]
        if isinstance(table, fx.Node) and isinstance(index, tuple):
            return self._pick_rows(node, table, index)
        if not isinstance(index, fx.Node) or not isinstance(table, fx.Node) or not bool((self._operand_of(table) == FREE).all()):
            raise TypeError("an index that is a tensor")
        labels = self._operand_of(index)
        return labels.reshape(list(labels.shape) + [1] * (len(shape(node)) - labels.dim()))

    def _pick_rows(self, node: fx.Node, table: fx.Node, index: tuple[Any, ...]) -> Value:
        """`states[length - 1, torch.arange(B)]`: each row keeps its sample where the rows are counted one by one."""
        labels = self._operand_of(table)
        along = [d for d, n in enumerate(labels.shape) if n > 1]
        if len(along) != 1 or along[0] >= len(index) or not all(isinstance(i, fx.Node) and not i.meta.get("scalar") for i in index):
            raise TypeError("an index that is a tensor")
        rows = index[along[0]]
        if not counts_whole(rows, shape(table)[along[0]]):
            raise TypeError("an index that is a tensor")
        after = [1] * (len(shape(table)) - len(index))
        rank = len(shape(node)) - len(after)
        parts = [(i, aligned(self._operand_of(i), rank)) for i in index]
        parts.append((table, aligned(labels.flatten().reshape(shape(rows)), rank)))
        together = self._together(node, parts, "combined")
        return together.reshape([*together.shape, *after]) if isinstance(together, torch.Tensor) else together

    def _note_cut(self, node: fx.Node, made: Labels) -> None:
        if ops.op(node) in ops.JOIN | PICKS:
            return
        source = ops.value_inputs(node)[0]
        before = self.of(source)
        if before is None or varying(before) > 1:
            return
        distinct = int(torch.unique(made[made >= 0]).numel())
        if (
            varying(made) == 1
            and ops.op(node) in ("view", "reshape", "view_as", "reshape_as")
            and distinct == before.numel() < made.numel()
        ):
            self.refolded[node] = source
        if varying(made) > 1 and distinct != made.numel():  # a clean split of the batch into groups keeps one sample to a place
            self.cut[node] = source

    def _note_pick(self, node: fx.Node, parts: tuple[Labels, ...]) -> None:
        if ops.op(node) not in PICKS:
            return
        source = ops.value_inputs(node)[0]
        before = self.of(source)
        if before is None:
            return
        whole = int(torch.unique(before[before >= 0]).numel())
        if whole > 1 and any(int(torch.unique(p[p >= 0]).numel()) < whole for p in parts):
            self.picked[node] = source

    def _set(self, node: fx.Node) -> Value:
        target, index, value = node.args[0], node.args[1], node.args[2] if len(node.args) > 2 else None
        assert isinstance(target, fx.Node)
        if isinstance(index, fx.Node) and _is_mask(index) and not isinstance(value, fx.Node):  # x[mask] = 3: each entry as it asks
            asked = self._operand_of(index)  # its axes are the first ones of the target
            asked = asked.reshape(list(asked.shape) + [1] * (len(shape(target)) - asked.dim()))
            return self._together(node, [(target, self._operand_of(target)), (index, asked)], "combined")
        whole = self._full(target).clone()
        if isinstance(value, fx.Node) and not value.meta.get("scalar"):
            whole[self._argument(index)] = self._full(value)
        return compact(whole)

    # --- operations that bring entries together --------------------------------------------------------------------

    def _combine(self, node: fx.Node) -> Value:
        rank = len(shape(node))
        operands = [n for n in ops.value_inputs(node) if not n.meta.get("scalar")]
        if ops.op(node) in ("batch_norm", "effect"):
            operands = operands[:1]
        return self._together(node, [(n, aligned(self._operand_of(n), rank)) for n in operands], "combined")

    def _together(self, node: fx.Node, parts: list[tuple[fx.Node, Labels]], how: Meeting) -> Value:
        result = parts[0][1]
        for _, labels in parts[1:]:
            if bool(((result >= 0) & (labels >= 0) & (result != labels)).any()):
                crossed = varying(result) == 1 and varying(labels) == 1 and axis_of(result) != axis_of(labels)
                self.meetings.append(Meets(node, tuple(n for n, _ in parts), how, crossed))
                return None
            result = torch.maximum(result, labels)
        return compact(result)

    def _reduce(self, node: fx.Node) -> Value:
        source = ops.value_inputs(node)[0]
        labels, axes = self._operand_of(source), ops.dims_of(node)
        if axes is None:
            return None
        statistic = False
        if varying(labels) > 1 and any(reduce_labels(labels, axis)[1] for axis in axes):
            self.meetings.append(Meets(node, (source,), "reduced"))
            return None
        for axis in axes:
            if labels.shape[axis] > 1:
                statistic = True  # a statistic of the batch: it belongs to no sample
                labels = torch.full_like(labels.narrow(axis, 0, 1), FREE)
        if statistic:
            self.statistics[node] = source
        val = node.meta.get("val")
        rank = val.dim() if isinstance(val, torch.Tensor) else len(shape(source)) - (0 if node.kwargs.get("keepdim") else len(axes))
        if rank != labels.dim():
            labels = labels.reshape([n for d, n in enumerate(labels.shape) if d not in axes])
        made = free(rank) if statistic and varying(labels) == 0 else labels
        return made if isinstance(val, torch.Tensor) else (made, made)

    def _along(self, node: fx.Node) -> Value:
        source = ops.value_inputs(node)[0]
        labels = self._operand_of(source)
        dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        if ops.op(node) == "gumbel_softmax":
            dim = node.kwargs.get("dim", -1)
        if dim is None:
            dim = (
                1 if ops.op(node) == "normalize" else -1 if ops.op(node) in ("sort", "argsort") else (0 if labels.dim() in (0, 1, 3) else 1)
            )
        if not isinstance(dim, int):
            return None
        together, conflict = reduce_labels(labels, dim % labels.dim())
        if conflict:
            self.meetings.append(
                Meets(
                    node,
                    (source,),
                    "softmax" if ops.op(node) in _SOFTMAX else "combined",
                    crossed=ops.op(node) not in _SOFTMAX,
                )
            )
            return None
        made = compact(together)
        return made if isinstance(node.meta.get("val"), torch.Tensor) else (made, made)

    def _contract(self, node: fx.Node) -> Value:
        plan = contracted(node)
        if plan is None:
            return None
        parts: list[tuple[fx.Node, Labels]] = []
        for position, (operand, axes) in enumerate(plan.operands):
            labels = self._operand_of(operand)
            for axis in axes:
                labels, conflict = reduce_labels(labels, axis)
                if conflict:
                    self.meetings.append(Meets(node, (operand,), "recurrent" if axis in plan.time else "contracted"))
                    return None
            parts.append((operand, plan.place(position, labels)))
        together = self._together(node, parts, "combined")
        if not isinstance(together, torch.Tensor) or isinstance(node.meta.get("val"), torch.Tensor):
            return together
        return plan.results(together)

    # --- arguments -------------------------------------------------------------------------------------------------

    def _operand(self, node: fx.Node, position: int) -> Labels:
        return self._operand_of(ops.value_inputs(node)[position])

    def _operand_of(self, node: fx.Node) -> Labels:
        found = self.values[node]
        if not isinstance(found, torch.Tensor):
            raise TypeError("several results")
        return found

    def _full(self, node: fx.Node) -> Labels:
        labels = self._operand_of(node)
        return labels.expand(shape(node))

    def _argument(self, value: Any, full: bool = False) -> Any:
        if isinstance(value, fx.Node):
            if value.meta.get("scalar"):
                return plain(value.meta["val"])
            if not full:
                raise TypeError("an index that is a tensor")
            whole = self._full(value)
            if whole.numel() > LIMIT:
                raise ValueError("too large to lay out")
            return whole
        if isinstance(value, SymbolPower):
            return value.at(self._record.sizes[value.symbol])
        if isinstance(value, tuple | list):
            return type(value)(self._argument(v, full) for v in value)
        if isinstance(value, slice):
            return slice(*(self._argument(v, full) for v in (value.start, value.stop, value.step)))
        return value


def _is_mask(node: fx.Node) -> bool:
    val = node.meta.get("val")
    return isinstance(val, torch.Tensor) and val.dtype is torch.bool
