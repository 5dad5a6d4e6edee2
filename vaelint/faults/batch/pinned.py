"""What fixes the batch size: the expression that carries the number, found by laying a run that raised beside one that did not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from vaelint.anatomy.attribute_use import kept_as_given, usage_of
from vaelint.core.finding import Span
from vaelint.core.messages import message_of
from vaelint.faults.batch.linked import rows_are_linked
from vaelint.faults.batch.mixing import batch_of
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import Failure, name_of, shape, span

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_SHAPED = frozenset({"view", "reshape", "unflatten", "expand", "broadcast_to", "repeat", "tile", "split", "narrow", "getitem"})
_COPIES = frozenset({"expand", "broadcast_to", "repeat", "tile"})
_SUMS = frozenset({"sum", "nansum"})


@dataclass(frozen=True)
class Pinned:
    """A fixed number that is the batch size."""

    span: Span | None
    node: fx.Node | None  # the value that does not move with the batch
    partner: fx.Node | None  # the one that does
    size: int  # the number that is written
    tried: int  # the batch size at which it shows
    raises: Span | None  # where it raises at that size; None when it only gives another number
    text: str  # what torch says there


def pinned_sizes(model: Model) -> list[Pinned]:
    """VAE102: what makes the step raise at another batch size, when that is certain."""
    other, batch = model.other, model.inputs.batch
    if other is None or other.failure is None or batch is None or model.record.failure is not None:
        return []
    n, m = model.record.sizes[batch], other.sizes[batch]
    mine, theirs = model.record.nodes, other.nodes
    failure = other.failure
    if len(theirs) >= len(mine) or n < 2 or not isinstance(failure.error, RuntimeError | ValueError | IndexError):
        return []
    at = _where_it_raised(mine[len(theirs) :], failure)
    if at is None:
        return []
    twins = dict(zip(mine, theirs, strict=False))
    operands = [x for x in ops.tensors(at.args) + ops.tensors(dict(at.kwargs)) if isinstance(x.meta.get("val"), torch.Tensor)]
    moved = next((x for x in operands if x in twins and shape(x) != shape(twins[x])), None)
    fixed = _written_in_a_view(model, at, twins, n) or (_met_by_the_batch(model, operands, twins, n, m) if moved is not None else None)
    if fixed is None:
        return []
    raises = failure.spans[0] if failure.spans else span(at)
    text = next((x.strip() for x in message_of(failure.error).splitlines() if x.strip()), type(failure.error).__name__)
    place = _kept_at(model, fixed) or raises if fixed.op == "get_attr" else span(fixed)
    return [Pinned(place, fixed, moved, n, m, raises, text)]


def _where_it_raised(rest: list[fx.Node], failure: Failure) -> fx.Node | None:
    """The operation of the run that went through at which the other one raised; `rest` is what that never came to."""
    operations = (x for x in rest if x.op == "call_function" and not x.meta.get("scalar"))
    at = next((x for x in operations if failure.fn is not None or x.meta.get("module") == failure.module), None)
    return at if at is None or failure.fn is None or name_of(at.target) == name_of(failure.fn) else None


def _written_in_a_view(model: Model, at: fx.Node, twins: dict[fx.Node, fx.Node], n: int) -> fx.Node | None:
    """The first view or slice that carries the batch size as a number, where it stayed what it was in the other run."""
    for node in model.flow.sorted(model.flow.ancestors(at) | {at}):
        if _fixes(model, node, n) and (
            node is at or (node in twins and any(a == b == n for a, b in zip(shape(node), shape(twins[node]), strict=False)))
        ):
            return node
    return None


def _met_by_the_batch(model: Model, operands: list[fx.Node], twins: dict[fx.Node, fx.Node], n: int, m: int) -> fx.Node | None:
    """The first value laid out in the size of the batch that meets one which moves: kept by the model, or made by a number."""
    behind = model.flow.ancestors(*operands)
    filled = {x.args[0]: x for x in behind if ops.raw_name(x) in ops.OVERWRITES and x.args and isinstance(x.args[0], fx.Node)}
    for node in model.flow.sorted(behind | filled.keys()):
        if node not in twins or not _stays(node, twins[node], n) or not _meets(filled.get(node, node), operands, twins, n, m, model):
            continue
        if node.op == "get_attr" and (rows_are_linked(model) or _given(model, node)):
            return None
        if node.op == "get_attr" and not node.meta.get("parameter"):
            return node
        made = node.op == "call_function" and (not _tensor_inputs(node) or _copies(node, n))
        if made and n in _numbers(node.args, dict(node.kwargs)):
            return node
    return None


def _given(model: Model, node: fx.Node) -> bool:
    """Whether the caller gave the constructor this very tensor, as the adjacency of one graph: its sizes are no number of the file."""
    place = _kept_at(model, node)
    return place is not None and not node.meta.get("parameter") and kept_as_given(model, place)


def _kept_at(model: Model, node: fx.Node) -> Span | None:
    """Where a tensor of the model is assigned."""
    owner, _, name = str(node.target).rpartition(".")
    if name.startswith("_constant_"):
        return None
    return usage_of(model).assignment(model.record.model.get_submodule(owner), name)


def _fixes(model: Model, node: fx.Node, n: int) -> bool:
    """Whether a view or slice carries the batch size as a plain number at the place of the batch."""
    if node.op != "call_function" or ops.op(node) not in _SHAPED or not _tensor_inputs(node):
        return False
    sizes = _numbers(node.args[1:], dict(node.kwargs))
    if n not in sizes:
        return False
    samples = batch_of(model).samples
    labels = samples.of(node) if samples is not None else None
    if labels is None:
        return shape(node)[:1] == (n,)
    return any(p == n and q > 1 for p, q in zip(shape(node), labels.shape, strict=True))


def _copies(node: fx.Node, n: int) -> bool:
    """Whether a value without a batch is laid out that many times: a learned token for each sample."""
    inputs = _tensor_inputs(node)
    return ops.op(node) in _COPIES and len(inputs) == 1 and n not in shape(inputs[0])


def _stays(node: fx.Node, twin: fx.Node, n: int) -> bool:
    return n in shape(node) and shape(node) == shape(twin)


def _meets(node: fx.Node, operands: list[fx.Node], twins: dict[fx.Node, fx.Node], n: int, m: int, model: Model) -> bool:
    """Whether an operand made of `node` has the old batch size where another operand has the new one."""
    for a in operands:
        if a not in twins or shape(a) != shape(twins[a]) or n not in shape(a) or node not in model.flow.ancestors(a):
            continue
        if any(b in twins and shape(b) != shape(twins[b]) and m in shape(twins[b]) for b in operands):
            return True
    return False


def _tensor_inputs(node: fx.Node) -> list[fx.Node]:
    return [n for n in ops.value_inputs(node) if not n.meta.get("scalar")]


def _numbers(*values: Any) -> list[int]:
    """The plain whole numbers among some arguments; sizes taken from a tensor are nodes, and not among them."""
    found: list[int] = []
    for v in values:
        if isinstance(v, bool):
            continue
        if type(v) is int:
            found.append(v)
        elif isinstance(v, tuple | list):
            found += _numbers(*v)
        elif isinstance(v, dict):
            found += _numbers(*v.values())
        elif isinstance(v, slice):
            found += _numbers(v.start, v.stop)
    return found


def fixed_divisors(model: Model) -> list[Pinned]:
    """VAE102 without an error: a sum over the batch that is divided by the number that the batch size happens to be.

    None where all batches of the training that was observed have this size.
    """
    batch, record = model.inputs.batch, model.record
    if batch is None or record.even or not record.lifted or model.other is None or record.loss is None:
        return []
    n = record.sizes[batch]
    if n < 3 or [s for s, v in model.symbols.items() if v == n and s != batch]:
        return []  # the number may be another size
    found = []
    for node in model.flow.sorted(model.reaching_loss):
        if ops.op(node) not in ops.DIV or len(node.args) < 2 or not isinstance(node.args[0], fx.Node) or shape(node):
            continue
        divisor = node.args[1]
        if type(divisor) in (int, float) and divisor == n and _summed_over_batch(model, node.args[0]):
            found.append(Pinned(span(node), node, node.args[0], n, model.other.sizes[batch], None, ""))
    return found


def _summed_over_batch(model: Model, node: fx.Node) -> bool:
    """Whether a number is a sum over the batch, up to signs and constant factors."""
    for _ in range(12):
        sources = [x for x in ops.value_inputs(node) if x in model.flow.learned]
        if ops.op(node) in _SUMS:
            samples = batch_of(model).samples
            labels = samples.of(sources[0]) if sources and samples else None
            axes = ops.dims_of(node)
            if labels is not None and axes is not None and any(labels.shape[a] > 1 for a in axes):
                return True
            if shape(sources[0] if sources else node) == ():
                return False
        elif ops.op(node) in ops.LOSSES:
            return node.kwargs.get("reduction") == "sum" or "sum" in node.args
        elif ops.op(node) not in ops.ADD | ops.MUL | {"neg", "negative", "float", "double"}:
            return False
        if not sources:
            return False
        node = sources[0]
    return False
