"""Law B4, for the learning rate: a schedule of factors comes near 1 at some step.

Intervention: the function that a LambdaLR was given is asked for the factor of many steps, from the first to the hundred-thousandth.
Factors that never come within a twentieth of the optimizer's own rate, or whose largest is that rate itself, are rates, and are multiplied
with that rate once more. Exempt is an optimizer whose own rate is about 1: its schedule gives the rates.

Factors that are 0 for all of the first steps leave nothing to learn with: a warm-up starts at 0 at most for one. Exempt is an optimizer of
which some group has a rate then, and one beside another optimizer, whose turn comes first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from vaelint.core.finding import Label, Span
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.places.returns import last_return
from vaelint.rule import Found
from vaelint.source.blame import one_line
from vaelint.trace.optimizers import noting_schedules

_STEPS = (0, 1, 2, 5, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
_NEAR = 0.05
_OWN = 0.5  # a rate of the optimizer from which on it stands for 1
_CLOSE = 1e-6
_FIRST = 5  # steps that a schedule may not leave without any rate


@law("schedules-are-factors", "the factors of a LambdaLR come near 1 at some step", covered=("VAE416",), cost="all")
def schedules_are_factors(bench: Bench) -> Iterator[Broken]:
    """Schedules that the step or the model's constructor makes, or that an observed training made."""
    for scheduler, place in _schedules(bench):
        for factor_at, group in zip(scheduler.lr_lambdas, scheduler.optimizer.param_groups, strict=False):
            largest, rate = max(_factors(factor_at)), float(group.get("initial_lr", group["lr"]))
            is_rate = 0 < largest < _NEAR or (0 < largest < _OWN and math.isclose(largest, rate, rel_tol=_CLOSE))
            if is_rate and rate < _OWN and place is not None:
                code = getattr(factor_at, "__code__", None)
                yield _tiny((last_return(bench, code) if code is not None else None) or place, place, largest, rate)
                return


def _schedules(bench: Bench) -> list[tuple[Any, Span | None]]:
    """Each LambdaLR, with its place."""
    record = bench.model.record
    if bench.is_observed or not any(o.in_step for o in record.optimizers):
        return record.schedules
    seen: list[tuple[Any, Span | None]] = []
    with noting_schedules(bench.model.tracer.spans, seen):
        run = bench.base.again(as_is=True)
    if run.record.failure is not None:
        raise CannotMeasureError("the step does not run with its optimizers")
    return record.schedules + seen


def _factors(factor_at: Callable[[int], float], steps: Iterable[int] = _STEPS) -> list[float]:
    try:
        return [abs(float(factor_at(step))) for step in steps]
    except Exception as error:
        raise CannotMeasureError(f"the schedule raises at another step: {one_line(error)}") from error


def _tiny(returned: Span, made: Span, largest: float, rate: float) -> Broken:
    found = Found(
        returned,
        label=f"multiplies the optimizer's rate of {rate:.3g} by {largest:.3g} at most",
        labels=(Label(made, "multiplies by it"),) if made != returned else (),
        why=f"LambdaLR multiplies: the rate is {rate * largest:.3g} at its highest, and hardly anything is learned",
        help="return a factor of the optimizer's rate, 1.0 for the whole of it",
    )
    return Broken("rate-twice", found, "a factor near 1 at some step", f"the largest factor over a hundred thousand steps is {largest:.3g}")


@law("rates-are-above-zero", "a schedule leaves a rate at some of the first steps", covered=("VAE416",), cost="all")
def rates_are_above_zero(bench: Bench) -> Iterator[Broken]:
    """The only optimizer of a step, by the factors of all of its groups."""
    schedules = _schedules(bench)
    if len({id(scheduler.optimizer) for scheduler, _ in schedules}) != 1 or len(bench.model.record.optimizers) > 1:
        return
    scheduler, place = schedules[-1]
    early = [max(_factors(f, range(_FIRST))) for f in scheduler.lr_lambdas]
    if place is None or any(early) or len(early) < len(scheduler.optimizer.param_groups):
        return
    later = [max(_factors(f)) for f in scheduler.lr_lambdas]
    code = getattr(scheduler.lr_lambdas[0], "__code__", None)
    yield _idle((last_return(bench, code) if code is not None else None) or place, place, max(later))


def _idle(returned: Span, made: Span, largest: float) -> Broken:
    then = f"and {largest:.3g} at its largest later" if largest else "and at every later one"
    found = Found(
        returned,
        label=f"multiplies the rate by 0 at each of the first {_FIRST} steps, {then}",
        labels=(Label(made, "multiplies by it"),) if made != returned else (),
        why="with a rate of 0 the optimizer moves nothing: the batches of these steps are lost",
        help="let the factor rise from the first step on: min(1.0, (step + 1) / warm_up), divided with / and not with //",
    )
    return Broken("rate-twice", found, "a factor above 0 at some of the first steps", f"factors of 0 at the first {_FIRST} steps, {then}")
