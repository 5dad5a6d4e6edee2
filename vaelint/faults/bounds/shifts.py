"""The largest exponent that is taken off before a sum of exponentials and added again after its logarithm: it must cancel.

log sum exp u = m + log sum exp(u - m) for every m, so nothing that is made of the two may move with m.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.loss.logsums import LogSum, log_sums, shifts_of
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Uncancelled:
    """A log-sum-exp with its largest exponent taken off: where it is added again, or the logarithm; what the shift still weighs."""

    node: fx.Node
    source: fx.Node
    largest: tuple[fx.Node, ...]


def uncancelled_shifts(model: Model) -> list[Uncancelled]:
    """Shifts against overflow that the loss still moves with."""
    loss, found = model.record.loss, []
    if loss is None:
        return []
    for s in log_sums(model):
        largest = shifts_of(s)
        if not largest:
            continue
        try:
            by_shift, by_both = _slopes(model, loss, s, largest)
        except ReplayError:
            continue
        constant = not any(n.meta.get("grad") for n in largest) and abs(by_shift + by_both) < _TOLERANCE
        if abs(by_shift) > _TOLERANCE and abs(by_both) > _TOLERANCE and not constant:  # a constant that is left out moves no gradient
            again = model.flow.descendants(s.node) & set().union(*map(model.flow.descendants, largest)) & model.reaching_loss
            sums = [n for n in model.flow.sorted(again) if ops.op(n) in ops.ADD]
            found.append(Uncancelled(sums[0] if sums else s.node, s.source, largest))
    return found


def _slopes(model: Model, loss: fx.Node, s: LogSum, largest: tuple[fx.Node, ...]) -> tuple[float, float]:
    """d loss / d m with the exponents where they are, and d loss / d all exponents with m where it is."""
    sizes = dict(model.symbols)
    got = model.replay([s.source, *largest], {}, sizes)
    shift, exponents = torch.zeros((), dtype=torch.float64).requires_grad_(), torch.zeros((), dtype=torch.float64).requires_grad_()
    held = {s.source: got[s.source].detach().double() + exponents, **{n: got[n].detach().double() + shift for n in largest}}
    out = model.replay([loss], held, sizes, attached=True)[loss]
    slopes = torch.autograd.grad(out.sum(), [shift, exponents], allow_unused=True)
    by_shift, by_both = (0.0 if g is None else float(g) for g in slopes)
    return by_shift, by_both
