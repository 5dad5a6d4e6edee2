"""Law A8, for running sums: what runs along an axis has more than one entry to run along.

Read from the record: a running sum, product or extreme, an order or a turn along an axis that the code itself put in, with one entry.
Prediction: along the axis that is meant it changes something; along this one it gives back what it got.

Exempt are axes of one entry that are a size of the model's, a layer's outputs or a number of draws: one may be what is wanted there; and
what a loop has gathered by its first turn.

Source: the definition of `torch.cumsum`: y_i = x_1 + ... + x_i along `dim`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import fx

from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape, span
from vaelint.rule import Found

_RUNNING = {
    "cumsum": "a running sum", "cumprod": "a running product", "logcumsumexp": "a running sum", "cummax": "a running maximum",
    "cummin": "a running minimum", "sort": "an order", "argsort": "an order", "flip": "a turn", "roll": "a shift",
}  # fmt: skip
_AXES = {"flip": ("dims", 1), "roll": ("dims", 2)}


@law("running-sums-run", "a running sum has more than one entry to run along", covered=("VAE226", "VAE331"), cost="replay")
def running_sums_run(bench: Bench) -> Iterator[Broken]:
    """Running sums and products, orders and turns that the loss is made of."""
    model = bench.model
    for node in model.flow.sorted(model.reaching_loss):
        source = node.args[0] if ops.op(node) in _RUNNING and node.args else None
        if not isinstance(source, fx.Node) or math.prod(shape(source)[1:]) < 2:
            continue
        axis = _axis(node, len(shape(source)))
        if axis is not None and shape(source)[axis] == 1 and _is_put_in(source) and not _is_longer_elsewhere(bench, node, axis):
            yield _broken(bench, node, source, axis)
            return


def _axis(node: fx.Node, dimensions: int) -> int | None:
    """The one axis that the operation runs along."""
    name = ops.op(node)
    keyword, place = _AXES.get(name, ("dim", 1))
    given = node.args[place] if len(node.args) > place else node.kwargs.get(keyword, -1 if name in ("sort", "argsort") else None)
    axes = list(given) if isinstance(given, list | tuple) else [given]
    return axes[0] % dimensions if len(axes) == 1 and type(axes[0]) is int else None


def _is_put_in(node: fx.Node) -> bool:
    """Whether the axes of one entry were put in by another layout of values that had none: they are no size of the model's."""
    own, inputs = shape(node), ops.value_inputs(node)
    laid_out = len(inputs) == 1 and math.prod(shape(inputs[0])) == math.prod(own)
    if ops.op(node) in ops.SHAPE | ops.SELECT and laid_out and 1 not in shape(inputs[0]):
        return True
    alike = [n for n in inputs if shape(n) == own]
    return ops.op(node) in ops.POINTWISE | ops.CAST and bool(alike) and all(_is_put_in(n) for n in alike)


def _is_longer_elsewhere(bench: Bench, node: fx.Node, axis: int) -> bool:
    """Whether the same call runs along more entries in another turn of its loop: what has been gathered so far is one in the first."""
    others = (n for n in bench.model.record.nodes if n is not node and ops.op(n) == ops.op(node) and span(n) == span(node))
    sizes = (shape(n.args[0]) for n in others if n.args and isinstance(n.args[0], fx.Node))
    return any(len(size) > axis and size[axis] > 1 for size in sizes)


def _broken(bench: Bench, node: fx.Node, source: fx.Node, axis: int) -> Broken:
    model, words = bench.model, _RUNNING[ops.op(node)]
    found = Found(
        model.where(node),
        label=f"{words} along axis {axis}, which has one entry",
        labels=model.labels((source, "what it runs along")),
        shapes=(model.row(source),),
        why="it gives back what it got: nothing is summed up, multiplied or put in order, and no error says so",
        help="name the axis to run along: the one that `unsqueeze` or `None` put in is counted, too",
    )
    return Broken("running-over-nothing", found, "along another axis it changes what it gets", f"axis {axis} has one entry")
