"""Law A7, for places that layers compute: what is computed for a place is read, there or by way of another place.

Measured by gradients: a layer below the data or below a draw puts out several places (steps of a sequence, bars of a conductor), and the
loss reads only one of them. Where nothing that it was made of reaches the loss through the other places either, they are computed for
nothing. A class token and the last state of a recurrent network have read the others, and keep the law.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.core.finding import Severity
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.rule import Found

_LEAST = 3  # places
_RECURRENT = frozenset({"gru", "lstm", "rnn_tanh", "rnn_relu"})


@law("places-are-read", "what a recurrent layer puts out for a step is read", covered=("VAE104", "VAE317", "VAE512"))
def places_are_read(bench: Bench) -> Iterator[Broken]:
    """Outputs of recurrent layers of which only the first step has a gradient: it has read nothing of the others."""
    loss = bench.model.record.loss
    if loss is None or not bench.knows(loss):
        return
    for node in _outputs(bench):
        for axis in (0, 1):
            if bench.base.batch_axis(node) == axis or shape(node)[axis] < _LEAST:
                continue
            got = bench.base.gradient(bench.value_with_graph(loss), [bench.value_with_graph(node)])[0]
            if got is None:
                continue
            pulled = got.movedim(axis, 0).flatten(1).abs().sum(1) > 0
            if pulled[:1].all() and not pulled[1:].any() and not _carried(bench, node):
                yield _unread(bench, node, axis)
                return


def _outputs(bench: Bench) -> Iterator[fx.Node]:
    """The first results of recurrent layers that run forwards alone: every step has read those before it, and no other."""
    for node in bench.model.record.nodes:
        source = node.all_input_nodes[0] if ops.op(node) == "getitem" and node.all_input_nodes else None
        if source is None or ops.op(source) not in _RECURRENT or ops.part(node) != 0 or not bench.knows(node):
            continue
        if len(shape(node)) == 3 and not _both_ways(source):
            yield node


def _both_ways(layer: fx.Node) -> bool:
    """Whether a recurrent layer runs backwards as well: the flag behind `train`, in torch's own order of arguments."""
    return len(layer.args) < 9 or bool(layer.args[7])


def _carried(bench: Bench, node: fx.Node) -> bool:
    """Whether the layer's last state reaches the loss as well."""
    others = [u for u in node.all_input_nodes[0].users if u is not node]
    reaching = bench.model.reaching_loss
    return any(o in reaching for o in others)


def _unread(bench: Bench, node: fx.Node, axis: int) -> Broken:
    model, flow = bench.model, bench.model.flow
    steps = shape(node)[axis]
    reads = [u for u in flow.users.get(node, ()) if ops.op(u) in ("getitem", "select", "narrow") and u in model.reaching_loss]
    last = reads[-1] if reads else node
    after_draw = any(s.z in flow.ancestors(node) for s in model.sites)
    found = Found(
        model.pointed(last) or model.where(last),
        label=f"reads step 0 of {steps}, which has seen none of the others",
        labels=model.labels((node, f"{model.shape_text(node)}: all steps are computed here")),
        shapes=(model.row(node), model.row(last)) if last is not node else (model.row(node),),
        why="every step is decoded from the first state alone" if after_draw else "the posterior is made of the first step alone",
        help="read the step of this turn, or the last one for the whole sequence",
        severity=Severity.WARNING,
    )
    return Broken("steps-unread", found, "every step moves the loss, or another step", f"steps 1 to {steps - 1} have no gradient")
