"""What one iteration leaves to the next: gradients that it has used, and that the next one adds to.

Intervention: the step runs twice on one model, and again twice on another that is made alike, where the gradients that the first run left
are taken away before the second. Prediction: the second run moves the parameters to the same place. Where it does not, and the first run
has stepped, each step follows the sum of all batches so far.

Exempt are runs that do not step (gradients are accumulated), steps that clear nothing at all (their caller may), and gradients that are
made smaller each time before the new one is added: a momentum of the code's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from vaelint.core.finding import Label, Span
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.record.record import Record
from vaelint.trace.recorded_run import Built

_SEEDS = (1, 2)
_ALIKE = 0.02  # of the way of the second run
_WHOLE = 0.05  # of what was left, which the next gradient holds besides its own

Named = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Left:
    """Gradients that a step has used and leaves to the next one: the parameters, and where it clears others, or adds to these."""

    names: tuple[str, ...]
    place: Span | None
    clears: bool  # the place is where others are cleared
    passed: Span | None

    @property
    def label(self) -> str:
        """What happens at the place."""
        return (
            "clears other gradients than those that this step fills" if self.clears else "adds to gradients that an earlier step has used"
        )

    @property
    def labels(self) -> tuple[Label, ...]:
        """Where they add up."""
        return (Label(self.passed, "adds to what the last step left"),) if self.clears and self.passed is not None else ()


def left_to_the_next(bench: Bench, record: Record) -> Left | None:
    """The gradients of one run that the next one adds to and follows. Raises CannotMeasureError where the step cannot be repeated."""
    kinds = {u.kind for u in record.uses}
    if bench.is_observed or not {"cleared", "stepped"} <= kinds or not any(c.kind == "backward" for c in record.backwards):
        return None
    built = bench.base.runner.build()
    start = _values(built)
    _run(bench, built, _SEEDS[0])
    middle, left = _values(built), _gradients(built)
    second = _run(bench, built, _SEEDS[1])
    cleared = frozenset[int]().union(*(u.of for u in second.uses if u.kind == "cleared"))
    kept = [n for n, p in built.model.named_parameters() if n in left and id(p) not in cleared]
    ids = {id(p) for n, p in built.model.named_parameters() if n in kept}
    passed = next((c for c in second.backwards if c.kind == "backward" and c.leaves & ids), None)
    if not kept or passed is None or not _apart(start, middle):
        return None
    other = bench.base.runner.build()
    _run(bench, other, _SEEDS[0])
    if _apart(_values(other), middle):
        raise CannotMeasureError("two models that are made alike do not learn alike")
    for name, parameter in other.model.named_parameters():
        if name in kept:
            parameter.grad = None
    _run(bench, other, _SEEDS[1])
    way, gap = _apart(_values(other), middle), _apart(_values(other), _values(built))
    if not way or gap <= _ALIKE * way or not _is_added(left, _gradients(built), _gradients(other), kept):
        return None
    place = _cleared_instead(second, ids)
    return Left(tuple(kept), place or passed.span, place is not None, passed.span)


def _cleared_instead(record: Record, ids: set[int]) -> Span | None:
    """Where others are cleared last before the step over these parameters; of a step over copies of them, where alone it is."""
    others = [(k, u.place) for k, u in enumerate(record.uses) if u.kind == "cleared" and u.place is not None and not u.of & ids]
    stepped = next((k for k, u in enumerate(record.uses) if u.kind == "stepped" and u.of & ids), None)
    if stepped is None:
        return others[0][1] if len({place for _, place in others}) == 1 else None
    return next((place for k, place in reversed(others) if k < stepped), None)


def _run(bench: Bench, built: Built, seed: int) -> Record:
    record = bench.base.again(seed=seed, built=built, as_is=True).record
    if record.failure is not None:
        raise CannotMeasureError("the step cannot be repeated on one model")
    return record


def _values(built: Built) -> Named:
    return {n: p.detach().double().clone() for n, p in built.model.named_parameters()}


def _gradients(built: Built) -> Named:
    """The gradients that are there, and not 0."""
    found = {n: p.grad for n, p in built.model.named_parameters()}
    return {n: g.detach().double().clone() for n, g in found.items() if g is not None and not g.is_sparse and bool(g.any())}


def _apart(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    return math.sqrt(sum(float((one[n] - other[n]).square().sum()) for n in one if n in other and one[n].shape == other[n].shape))


def _is_added(left: Named, after: Named, without: Named, kept: list[str]) -> bool:
    """Whether what was left is whole in the next gradients."""
    gap = sum(float((after.get(n, left[n] * 0) - without.get(n, left[n] * 0) - left[n]).square().sum()) for n in kept)
    return gap <= (_WHOLE**2) * sum(float(left[n].square().sum()) for n in kept)
