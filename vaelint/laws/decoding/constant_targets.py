"""Law A11, for one of several likelihoods: what is decoded of the data is compared with the data.

Observed on the record: a loss of torch's, on what a layer of the decoder put out, whose target is made of no data at all, while an input
of the very sizes, or a step of one, is read by the encoder and compared with nothing. The decoder learns a constant in its place.

Exempt: penalties against 0 of what has no such input, labels of a critic, and errors whose other side holds the data already.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.reach import reachable
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.rule import Found

_CUTS = ops.SELECT | ops.SHAPE | ops.CAST | {"getitem", "unbind"}


@law(
    "what-is-decoded-is-compared-with-data",
    "an output of the decoder of the sizes of an input is not held to a constant while that input is compared with nothing",
    covered=("VAE306",),
    cost="replay",
)
def what_is_decoded_is_compared_with_data(bench: Bench) -> Iterator[Broken]:
    """Losses of torch's that reach the objective."""
    model, flow = bench.model, bench.model.flow
    loss = model.record.loss
    if loss is None or not model.sites:
        return
    for node in flow.sorted({n for n in flow.ancestors(loss) if ops.op(n) in ops.LOSSES}):
        sides = (ops.tensors(node.args) + ops.tensors(dict(node.kwargs)))[:2]
        if len(sides) < 2 or sides[0] not in model.decoded or flow.ancestors(sides[0]) & _compared(bench):
            continue
        target = sides[1]
        if target in flow.data or target in flow.learned or target in flow.noisy or flow.random & flow.ancestors(target):
            continue
        missed = _uncompared(bench, sides[0])
        if missed is not None:
            yield _constant(bench, node, target, missed)
            return


def _compared(bench: Bench) -> set[fx.Node]:
    """Values in which the data has met what was decoded: errors."""
    model, flow = bench.model, bench.model.flow
    bare = flow.data - flow.learned
    return {n for n in model.decoded if ops.op(n) in ops.ADD and any(i in bare for i in ops.value_inputs(n))}


def _uncompared(bench: Bench, recon: fx.Node) -> fx.Node | None:
    """An input of the sizes of a reconstruction that the encoder reads and no likelihood is given."""
    model, flow = bench.model, bench.model.flow
    size = [n for n in shape(recon) if n != 1]
    drawn = {s.z for s in model.sites}
    bare = flow.data - flow.learned
    met = flow.ancestors(*(i for n in model.decoded for i in ops.value_inputs(n) if i in bare and shape(i)))
    for node in _given(bench):
        encoded = bool(flow.descendants(node) & drawn)
        if encoded and [n for n in shape(node) if n != 1] == size and node not in met and bench.is_real(node):
            return node
    return None


def _given(bench: Bench) -> list[fx.Node]:
    """The inputs, and what is only cut out of them: the steps of a sequence."""
    model = bench.model
    inputs = list(model.record.inputs.values())
    cut = reachable(inputs, lambda n: [u for u in model.flow.users.get(n, ()) if ops.op(u) in _CUTS])
    return inputs + [n for n in model.flow.sorted(cut) if n not in inputs and isinstance(n.meta.get("val"), torch.Tensor)]


def _constant(bench: Bench, node: fx.Node, target: fx.Node, missed: fx.Node) -> Broken:
    model = bench.model
    behind = {missed} | model.flow.ancestors(missed)
    name = next(str(n.meta.get("input", n.name)) for n in model.record.inputs.values() if n in behind)
    name = name if "input" in missed.meta else f"a part of {name}"
    found = Found(
        model.where(node),
        label=f"compares the decoder's output with {model.written(target)}, which is made of no data",
        labels=model.labels((missed, f"{name} is encoded, and compared with nothing")),
        why=f"the decoder learns a constant where {name} belongs, and the code has nothing to tell of it",
        help=f"compare it with {name}",
    )
    text = f"no term of the loss reads {name} beside the encoder, and this one reads no data"
    return Broken("wrong-target", found, "the target of a reconstruction is data", text)
