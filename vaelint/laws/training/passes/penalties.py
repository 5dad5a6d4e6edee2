"""Law B1, for penalties on a slope: a term that is made of a network's gradient holds that network.

Observed on the record of the step: an addend of a loss that is differentiated, which is computed from what `torch.autograd.grad` gave
and has no gradient itself. Without the graph of that gradient it is a number. Exempt are gradients that weigh a term, go into what
has a gradient otherwise, or are a step that what they were taken to goes (a posterior that is refined for each sample), and what takes
the number of a surrogate back (RELAX).

Source: Gulrajani et al. 2017, Improved Training of Wasserstein GANs, section 4.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.walk import behind
from vaelint.rule import Found

_CUT = frozenset({"detach", "data"})
_SUMS = frozenset({"add", "sub", "rsub", "iadd", "isub", "radd"})
_KEEP = ops.SHAPE | ops.CAST | ops.MUL | ops.DIV | {"mean", "sum", "nanmean", "neg", "negative", "getitem"}


@law(
    "penalties-hold-slopes",
    "a term of a loss that is made of a network's gradient has a gradient in that network",
    covered=("VAE413", "VAE509", "VAE901"),
)
def penalties_hold_slopes(bench: Bench) -> Iterator[Broken]:
    """Every loss that the step differentiates, and the one that it leaves in `loss`."""
    record = bench.model.record
    slopes = [n for n in record.nodes if n.op == "call_function" and n.target is torch.autograd.grad]
    if not slopes:
        return
    losses = [c.node for c in record.backwards if c.kind == "backward"] or ([record.loss] if record.loss is not None else [])
    for loss in losses:
        for addend in _without_gradient(bench, loss):
            slope = next((s for s in reversed(slopes) if s in bench.model.flow.ancestors(addend)), None)
            if slope is not None and _is_live(slope) and not (_is_a_step(bench, slope, addend) or _is_taken_back(bench, loss, addend)):
                yield _constant(bench, slope, addend)
                return


def _without_gradient(bench: Bench, loss: fx.Node) -> Iterator[fx.Node]:
    """The addends of a loss that have no gradient, and of what it is an average of or a multiple of."""
    waiting, seen = [loss], set[fx.Node]()
    while waiting:
        node = waiting.pop()
        operands = [n for n in ops.value_inputs(node) if bench.is_real(n)]
        live = [n for n in operands if n.meta.get("grad")]
        if ops.op(node) in _SUMS:
            yield from (n for n in operands if n not in live)
        elif len(live) > 1 or ops.op(node) not in _KEEP:
            continue
        waiting += [n for n in live if n not in seen]
        seen.update(live)


def _is_live(slope: fx.Node) -> bool:
    """Whether something that is trained stands behind what the gradient was taken of."""
    asked = slope.args[0] if slope.args else slope.kwargs.get("outputs")
    return any(isinstance(n, fx.Node) and n.meta.get("grad") for n in (asked if isinstance(asked, list | tuple) else [asked]))


def _is_a_step(bench: Bench, slope: fx.Node, addend: fx.Node) -> bool:
    """Whether the gradient is added to the very values that it was taken to: they climb by it."""
    flow = bench.model.flow
    given = slope.args[1] if len(slope.args) > 1 else slope.kwargs.get("inputs")
    values = [n for n in (given if isinstance(given, list | tuple) else [given]) if isinstance(n, fx.Node)]
    way = flow.descendants(slope) & flow.ancestors(addend) | {addend}
    return any(ops.op(n) in _SUMS and any(v in ops.value_inputs(n) for v in values) for n in way)


def _is_taken_back(bench: Bench, loss: fx.Node, addend: fx.Node) -> bool:
    """Whether it is the number of what the loss has with its gradient, too: of `score - score.detach()` only the gradient is left."""
    source = behind(addend, _KEEP | _CUT)
    first = behind(addend, _KEEP)
    return ops.op(first) in _CUT and bool(source.meta.get("grad")) and loss in bench.model.flow.descendants(source, stop={first})


def _constant(bench: Bench, slope: fx.Node, addend: fx.Node) -> Broken:
    model = bench.model
    found = Found(
        model.where(slope),
        label="gives numbers without a graph",
        labels=model.labels((addend, "added to the loss: a constant for its backward()")),
        why="the penalty is computed and added, and no parameter has a gradient by it: the slope that it is to hold is not held",
        help="torch.autograd.grad(..., create_graph=True)",
    )
    text = f"{model.written(addend)} is made of a gradient, is added to a loss, and has no gradient"
    return Broken("term-without-gradient", found, "a penalty on a gradient has a gradient", text)
