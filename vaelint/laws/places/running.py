"""Law A8, for running sums: what runs along an axis has more than one entry to run along.

Read from the record: a running sum, product or extreme, an order or a turn along an axis that the code itself put in, with one entry.
Prediction: along the axis that is meant it changes something; along this one it gives back what it got.

Exempt are axes of one entry that are a size of the model's, a layer's outputs or a number of draws: one may be what is wanted there.

Source: the definition of `torch.cumsum`: y_i = x_1 + ... + x_i along `dim`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import fx

from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
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
        if axis is not None and shape(source)[axis] == 1 and _is_put_in(source, axis):
            yield _broken(bench, node, source, axis)
            return


def _axis(node: fx.Node, dimensions: int) -> int | None:
    """The one axis that the operation runs along."""
    name = ops.op(node)
    keyword, place = _AXES.get(name, ("dim", 1))
    given = node.args[place] if len(node.args) > place else node.kwargs.get(keyword, -1 if name in ("sort", "argsort") else None)
    axes = list(given) if isinstance(given, list | tuple) else [given]
    return axes[0] % dimensions if len(axes) == 1 and type(axes[0]) is int else None


def _is_put_in(node: fx.Node, axis: int) -> bool:
    """Whether the axis was put in by `unsqueeze` or `None` in an index, and is no size of the model's."""
    name, dimensions = ops.op(node), len(shape(node))
    if name == "unsqueeze":
        given = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        return type(given) is int and given % dimensions == axis
    if name == "getitem" and len(node.args) == 2:
        index = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
        return _place_of_none(index, dimensions) == axis
    same = [n for n in ops.value_inputs(node) if len(shape(n)) == dimensions and math.prod(shape(n)) == math.prod(shape(node))]
    return bool(same) and name not in ops.SHAPE and all(shape(n) == shape(node) and _is_put_in(n, axis) for n in same)


def _place_of_none(index: tuple[object, ...], dimensions: int) -> int | None:
    """Where in the result the only `None` of an index of whole slices stands."""
    if sum(i is None for i in index) != 1 or not all(i is None or i is ... or i == slice(None) for i in index):
        return None
    place = next(k for k, i in enumerate(index) if i is None)
    return dimensions - (len(index) - place) if ... in index[:place] else place


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
