"""Law A5: every column that the last layers of encoder and decoder put out is read.

Intervention: the columns without a gradient are moved, far and in both directions. Where no addend of the loss follows, nothing reads
them: a slice that never moved on, a second half that was taken for the first.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.finding import Severity
from vaelint.core.reach import reachable
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape, span
from vaelint.rule import Found
from vaelint.source.offsets import moved_on_at

_STEPS = (1.0, -1.0, 1e3, -1e3)  # far enough to pass what clamps it
_SLICES = frozenset({"getitem", "chunk", "split", "split_with_sizes", "tensor_split", "narrow", "select", "unbind"})


@law(
    "outputs-are-read",
    "each column that the last layers of encoder and decoder put out moves the loss",
    covered=("VAE215", "VAE320", "VAE412", "VAE413", "VAE501", "VAE503"),
)
def outputs_are_read(bench: Bench) -> Iterator[Broken]:
    """One layer may be called several times: a column is unread where no call's is read."""
    if bench.model.record.loss is None or not bench.knows(bench.model.record.loss):
        return
    for calls in _last_layers(bench):
        axis = _columns(calls[0])
        unread = _unread(bench, calls, axis)
        if 0 < len(unread) < shape(calls[0])[axis] and _is_passed_over(bench, calls, axis, unread):
            yield _broken(bench, calls, axis, unread)
            return


def _last_layers(bench: Bench) -> list[list[fx.Node]]:
    """The layers whose output reaches a posterior or the loss past no other layer, each with all its calls."""
    model, flow = bench.model, bench.model.flow
    drawn = {s.z for s in model.sites}
    ends = [h for s in model.sites for h in s.heads]
    ends += [
        f for t in model.terms if t.role in ("reconstruction", "mixed") for leaf in t.leaves for f in leaf.frontier if f in model.decoded
    ]
    layers: dict[fx.Node, list[fx.Node]] = {}
    for node in flow.sorted(reachable(ends, lambda n: [] if _is_layer(n) or n in drawn else ops.value_inputs(n))):
        if _is_layer(node) and node not in drawn and bench.knows(node):
            layers.setdefault(_weight(node), []).append(node)
    return list(layers.values())


def _is_layer(node: fx.Node) -> bool:
    return node.op == "call_function" and ops.op(node) in ops.LAYERS and ops.uses_parameter(node)


def _weight(node: fx.Node) -> fx.Node:
    return next((n for n in node.all_input_nodes if n.op == "get_attr"), node)


def _columns(node: fx.Node) -> int:
    """The axis of a layer's outputs, from the end, as calls may have more axes before it: of a convolution the channels."""
    return -1 - (int(ops.op(node)[-2]) if ops.op(node).startswith("conv") else 0)


def _unread(bench: Bench, calls: list[fx.Node], axis: int) -> list[int]:
    """The columns that no addend of the loss follows."""
    loss = bench.model.record.loss
    assert loss is not None
    base = {n: bench.value(n) for n in calls}
    live = [bench.value_with_graph(n) for n in calls]
    got = bench.base.gradient(bench.value_with_graph(loss), live)
    if not any(g is not None and bool(g.any()) for g in got):
        return []  # wholly cut off: other laws speak of it
    pulled = sum(g.abs().movedim(axis, 0).reshape(g.shape[axis], -1).sum(1) for g in got if g is not None)
    suspects = [c for c in range(shape(calls[0])[axis]) if not bool(pulled[c])] if isinstance(pulled, torch.Tensor) else []
    wanted = [loss, *(leaf.node for term in bench.model.terms for leaf in term.leaves)]
    before = bench.after({n: v.clone() for n, v in base.items()}, wanted) if suspects else {}
    for size in _STEPS:
        while suspects and _moves(bench, base, axis, suspects, size, wanted, before):
            suspects = [c for c in suspects if not _moves(bench, base, axis, [c], size, wanted, before)] if len(suspects) > 1 else []
    return suspects


def _is_passed_over(bench: Bench, calls: list[fx.Node], axis: int, unread: list[int]) -> bool:
    """Whether slices leave the columns out, and not what is computed of all: the other triangle of a matrix, the mask of a MADE."""
    read = [n for n in _cuts(bench, calls) if bench.model.flow.users.get(n) and bench.knows(n)]
    base = {n: bench.value(n) for n in calls}
    return bool(read) and not _moves(bench, base, axis, unread, _STEPS[0], read, {n: bench.value(n) for n in read})


def _moves(
    bench: Bench,
    base: dict[fx.Node, torch.Tensor],
    axis: int,
    columns: list[int],
    size: float,
    wanted: list[fx.Node],
    before: dict[fx.Node, torch.Tensor],
) -> bool:
    """Whether anything of the loss is another number when some columns are moved, each sample's by another length."""
    changes = {}
    for node, value in base.items():
        changed = value.clone()
        part = changed.movedim(axis, 0)[columns]
        ramp = torch.linspace(0.5, 1.0, max(part.numel(), 2), dtype=part.dtype, device=part.device)[: part.numel()]
        changed.movedim(axis, 0)[columns] = part + size * ramp.reshape(part.shape)
        changes[node] = changed
    after = bench.after(changes, wanted)
    return any(n in after and not torch.equal(after[n], was) for n, was in before.items())


def _broken(bench: Bench, calls: list[fx.Node], axis: int, unread: list[int]) -> Broken:
    model = bench.model
    cuts = _cuts(bench, calls)
    read = [n for n in cuts if bench.model.flow.users.get(n)]
    dropped = [n for n in cuts if n not in read]
    place = _again(bench, read[-1]) if read else calls[-1]
    total = shape(calls[0])[axis]
    unused = f"of the layer's {total} outputs, {_range(unread)} enter nothing"
    step = moved_on_at(model.source, span(place)) if _overlap(bench, read, axis, total - len(unread)) else None
    found = Found(
        step or model.pointed(place) or model.where(place),
        label="from here the next slice begins inside of the one before it" if step else unused,
        labels=model.labels(
            *([(place, unused)] if step else []),
            (calls[-1], f"{model.shape_text(calls[-1])}: the layer that puts them out"),
        ),
        shapes=(model.row(calls[-1]), model.row(place)) if place is not calls[-1] else (model.row(calls[-1]),),
        why="a last layer has as many outputs as are meant to be read: something else is read instead of these",
        help="let each slice begin where the one before it ends, or use chunk; if they are not needed, make the layer smaller",
        severity=Severity.INFO if dropped else None,  # the code itself takes them apart and leaves them
    )
    return Broken(
        "outputs-unread",
        found,
        "each column moves an addend of the loss",
        f"moved by up to {_STEPS[-2]:g}, columns {_range(unread)} change no addend of the loss, and have no gradient",
    )


def _overlap(bench: Bench, read: list[fx.Node], axis: int, columns: int) -> bool:
    """Whether slices that follow each other are wider in all than the columns that they read."""
    cuts = [n for n in read if not any(u in read for u in bench.model.flow.users.get(n, ()))]
    return sum(shape(n)[axis] if len(shape(n)) >= -axis else 1 for n in cuts) > columns


def _cuts(bench: Bench, calls: list[fx.Node]) -> list[fx.Node]:
    """What is taken out of the layer's output before anything is computed of it."""
    users = bench.model.flow.users
    below = reachable(calls, lambda n: [u for u in users.get(n, ()) if ops.op(u) in ops.SHAPE | ops.CAST or _is_slice(u)])
    return [n for n in bench.model.flow.sorted(below) if _is_slice(n)]


def _is_slice(node: fx.Node) -> bool:
    """Whether a node takes a range out: not the places that a tensor of indices names, as of a triangle."""
    index = node.args[1:] if ops.op(node) == "getitem" else ()
    return ops.op(node) in _SLICES and not any(shape(i) for i in ops.tensors(index))


def _again(bench: Bench, cut: fx.Node) -> fx.Node:
    """Where the same slice is written once more, inside of a larger expression: both are one node of the record."""
    text = bench.model.source.expression(span(cut))
    users = [u for u in bench.model.flow.users.get(cut, []) if text and text in bench.model.source.expression(span(u))]
    return max([cut, *users], key=lambda n: bench.model.flow.order[n])


def _range(columns: list[int]) -> str:
    """`32 to 63` or `3, 7, 9 ...`."""
    if len(columns) > 2 and columns[-1] - columns[0] + 1 == len(columns):
        return f"{columns[0]} to {columns[-1]}"
    return ", ".join(map(str, columns[:4])) + (" ..." if len(columns) > 4 else "")
