"""Law B1, for a scale that the step multiplies its loss by and takes out of the gradients itself: it leaves no trace.

Observed on the step as it runs: the norm of the gradients that the optimizer uses, against the norm that they were limited to. Where it
is smaller by the number that the differentiated loss was multiplied by, the limit was held against the gradients with the scale in them.
Exempt is a limit that is as many times larger as the scale says, and a small number: an average over batches or workers.

Source: Micikevicius et al. 2018, Mixed Precision Training, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.finding import Label
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import GradientUse, Record
from vaelint.rule import Found

_LEAST = 64.0  # a scale
_LIMIT = 0.05  # over the scale: what is limited to more was limited with the scale in mind
_CLOSE = 1e-3


@law("own-scales-leave-no-trace", "a scale of the loss leaves no trace in the update", covered=("VAE909", "VAE914"), cost="all")
def own_scales_leave_no_trace(bench: Bench) -> Iterator[Broken]:
    """Limits by `clip_grad_norm_` between a pass and the step that uses it."""
    if not any(u.kind == "limited" for u in bench.model.record.uses):
        return
    record = bench.trained
    for use in (u for u in record.uses if u.kind == "shrunk" and u.place is not None):
        if use.by >= _LEAST and use.limit < _LIMIT * use.by and _is_scaled_by(record, use):
            yield _limited(record, use)
            return


def _is_scaled_by(record: Record, use: GradientUse) -> bool:
    """Whether a loss whose gradients were limited had been multiplied by the number that they became smaller by."""
    passes = [c for c in record.backwards[: use.passes] if c.moved & use.of]
    return any(math.isclose(scale, use.by, rel_tol=_CLOSE) for c in passes for scale in _scales(c.node))


def _scales(node: fx.Node) -> Iterator[float]:
    """The numbers that a loss is a multiple by of what it is made of, from the outside in."""
    scale = 1.0
    while ops.op(node) in ops.MUL | ops.DIV | {"neg", "negative"}:
        live = [n for n in ops.value_inputs(node) if n.meta.get("grad")]
        by = [a for a in node.args if a not in live]
        if len(live) != 1 or len(node.args) - len(by) != 1:
            return
        for one in by:
            number: object = one.meta.get("val") if isinstance(one, fx.Node) else one
            size = _size(number)
            scale = (scale / size if ops.op(node) in ops.DIV else scale * size) if size else 0.0
        yield scale
        node = live[0]


def _size(number: object) -> float:
    """How large a number is that multiplies a loss; 0 for anything else."""
    if isinstance(number, torch.Tensor):
        return abs(float(number.detach())) if number.numel() == 1 else 0.0
    return abs(float(number)) if isinstance(number, int | float) else 0.0


def _limited(record: Record, use: GradientUse) -> Broken:
    passed = next((c.span for c in reversed(record.backwards[: use.passes]) if c.moved & use.of), None)
    found = Found(
        use.place,
        label="limits the gradients while the scale is still in them",
        labels=(Label(passed, f"the loss is {use.by:g} times larger here"),) if passed is not None else (),
        why="the limit is held against gradients that are as many times larger as the scale says: all are cut, and once the scale is taken "
        "out next to nothing is left of them",
        help="divide the gradients by the scale first, then limit them",
    )
    text = f"limited to a norm of {use.limit:g}, the gradients that the step uses have one of {use.limit / use.by:.3g}"
    return Broken("scaled-gradients-changed", found, "the update is the same for every scale", text)
