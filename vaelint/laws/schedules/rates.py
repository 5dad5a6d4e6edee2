"""Law B4, for the learning rate: a schedule of factors comes near 1 at some step.

Intervention: the function that a LambdaLR was given is asked for the factor of many steps, from the first to the hundred-thousandth.
Factors that never come within a twentieth of the optimizer's own rate are rates, and are multiplied with that rate once more.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

from vaelint.core.finding import Span
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.rule import Found
from vaelint.source.blame import one_line

_STEPS = (0, 1, 2, 5, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
_NEAR = 0.05


@dataclass
class _Made:
    """A LambdaLR, and where it was made."""

    scheduler: Any
    span: Span | None


@law("schedules-are-factors", "the factors of a LambdaLR come near 1 at some step", covered=("VAE416",), cost="all")
def schedules_are_factors(bench: Bench) -> Iterator[Broken]:
    """Schedules that the step makes."""
    if not any(o.in_step for o in bench.model.record.optimizers):
        return
    seen: list[_Made] = []
    with _noting(bench, seen):
        run = bench.base.again(as_is=True)
    if run.record.failure is not None:
        raise CannotMeasureError("the step does not run with its optimizers")
    for made in seen:
        for factor_at, group in zip(made.scheduler.lr_lambdas, made.scheduler.optimizer.param_groups, strict=False):
            factors = _factors(factor_at)
            if factors and 0 < max(factors) < _NEAR and made.span is not None:
                yield _tiny(made.span, max(factors), float(group.get("initial_lr", group["lr"])))
                return


@contextlib.contextmanager
def _noting(bench: Bench, seen: list[_Made]) -> Iterator[None]:
    """Notes each LambdaLR that is made while inside."""
    kind = torch.optim.lr_scheduler.LambdaLR
    original = kind.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        seen.append(_Made(self, next(iter(bench.model.tracer.spans.stack(sys._getframe(1), limit=1)), None)))

    kind.__init__ = init  # type: ignore[method-assign]
    try:
        yield
    finally:
        kind.__init__ = original  # type: ignore[method-assign]


def _factors(factor_at: Callable[[int], float]) -> list[float]:
    try:
        return [abs(float(factor_at(step))) for step in _STEPS]
    except Exception as error:
        raise CannotMeasureError(f"the schedule raises at another step: {one_line(error)}") from error


def _tiny(place: Span, largest: float, rate: float) -> Broken:
    found = Found(
        place,
        label=f"multiplies the optimizer's rate of {rate:.3g} by {largest:.3g} at most",
        why=f"LambdaLR multiplies: the rate is {rate * largest:.3g} at its highest, and hardly anything is learned",
        help="return a factor of the optimizer's rate, 1.0 for the whole of it",
    )
    return Broken("rate-twice", found, "a factor near 1 at some step", f"the largest factor over a hundred thousand steps is {largest:.3g}")
