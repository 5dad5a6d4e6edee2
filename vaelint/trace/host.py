"""Values that leave torch and come back: through numpy, lists and plain numbers. What they depend on is found by running twice."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import fx

from vaelint.record.record import Record
from vaelint.trace.ladder import Tracer


def link_host_values(record: Record, tracer: Tracer, step: Any) -> None:
    """Gives tensors made of numbers from outside of torch the values these were read from: `meta["carried"]`.

    A tensor that is another one when the samples stand in another order, all draws the same, depends on the data. It comes from the value
    that was read before and holds the same numbers; else, for lack of more, from all that were read before it.
    """
    if not record.reads or record.rung != "real":
        return
    order = {n: i for i, n in enumerate(record.graph.nodes)}
    first = min(order[n] for n in record.reads)
    made = [n for n in record.graph.nodes if order[n] > first and _from_outside(n)]
    if not made:
        return
    with _same_draws():
        base = tracer.real(step)
    with _same_draws():
        moved = tracer.real(step, change=_in_another_order)
    mine, theirs, others = record.nodes, base.nodes, moved.nodes
    if not len(mine) == len(theirs) == len(others) or base.failure is not None or moved.failure is not None:
        return  # the path depends on the values: nothing can be laid side by side
    for node in made:
        a, b = theirs[order[node]].meta.get("val"), others[order[node]].meta.get("val")
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and (a.shape != b.shape or not torch.equal(a, b)):
            before = [n for n in dict.fromkeys(record.reads) if order[n] < order[node]]
            node.meta["carried"] = tuple([n for n in before if _same_numbers(n, node)][-1:] or before)


def _from_outside(node: fx.Node) -> bool:
    """A tensor of which torch does not know what it was made of."""
    val = node.meta.get("val")
    if not isinstance(val, torch.Tensor) or not val.is_floating_point() or val.requires_grad:
        return False
    if node.op == "get_attr":
        return str(node.target).startswith("_constant_")
    return node.op == "call_function" and not node.all_input_nodes and getattr(node.target, "__name__", "") in _MAKERS


_MAKERS = {"tensor", "as_tensor", "asarray", "from_numpy", "from_dlpack"}


def _same_numbers(source: fx.Node, node: fx.Node) -> bool:
    a, b = source.meta.get("val"), node.meta["val"]
    return isinstance(a, torch.Tensor) and a.numel() == b.numel() and torch.equal(a.detach().double().flatten(), b.double().flatten())


def _in_another_order(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each input rolled by one sample, so that all values stay possible ones."""
    return {k: v.flatten().roll(v[0].numel() if v.dim() else 1).view_as(v) for k, v in inputs.items()}


@contextlib.contextmanager
def _same_draws() -> Iterator[None]:
    """numpy's generator seeded, and put back; torch's own is seeded by the tracer."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        yield
        return
    kept = numpy.random.get_state()
    numpy.random.seed(0)
    try:
        yield
    finally:
        numpy.random.set_state(kept)
