"""What an experiment says of a claim, and the table of experiments by the type of claim that they measure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from vaelint.core.claim_and_repair import Claim
from vaelint.late import dataclass

if TYPE_CHECKING:
    from vaelint.experiment.trial import Trial

POWER = 10.0
"""How far above the tolerance the least effect must stand for its absence to mean anything."""

_FLOOR = 0.01  # of the tolerance: what is below does not rise from there with larger values, it is nothing


@dataclass(frozen=True)
class Verdict:
    """`holds`: the measurement agrees with the prediction; False refutes the finding; None: both outcomes look alike at these values.

    `silent`: it rests on an effect that was not seen, and nothing at these values says that it would have been.
    """

    holds: bool | None
    measured: str
    detail: str = ""
    silent: bool = False


class CannotMeasureError(Exception):
    """The experiment does not apply to this run; the text says why, in words for the user."""


class NoPowerError(CannotMeasureError):
    """The experiment ran, and what it saw (not a number, no gradient, values all alike) decides nothing."""


def seen(effect: float, tolerance: float, measured: str, detail: str = "", *, claimed: bool = True, least: float | None = None) -> Verdict:
    """The verdict on a claim that there is an effect, or with `claimed=False` that there is none.

    Args:
        effect: how far a value moved, in the units of `tolerance`, below which nothing is seen.
        least: the least effect that there is at these values, if there is one: what a control moved, or what follows from the claim.
            None where no control is known: an effect that was not seen is then looked for again at amplified values.

    Raises:
        NoPowerError: for an effect that is not a number.
    """
    if math.isnan(effect) or math.isnan(tolerance):
        raise NoPowerError(f"{measured}: not a number")
    if effect > tolerance:
        return Verdict(claimed, measured, detail)
    if least is not None and least >= POWER * tolerance:
        return Verdict(not claimed, measured, detail)
    if effect > _FLOOR * tolerance:
        return Verdict(None, measured, detail)
    return Verdict(not claimed, measured, detail, silent=True)


def exactly(holds: bool, *numbers: float) -> bool:
    """`holds`, where all numbers that it was read from are numbers. Raises NoPowerError where one is not."""
    for value in numbers:
        if not math.isfinite(value):
            raise NoPowerError(f"a number that it rests on is {value}")
    return holds


@dataclass(frozen=True)
class Experiment:
    """A measurement: `claim` says in words what is looked at, `tolerance` what counts as no difference; `run` does it.

    `at_start`: the claim is about the values that training starts from; at others nothing can be said of it.
    """

    kind: type[Claim]
    claim: str
    tolerance: str
    run: Callable[[Trial, Any], Verdict]
    at_start: bool = False


_EXPERIMENTS: dict[type[Claim], Experiment] = {}

T = TypeVar("T")
C = TypeVar("C", bound=Claim)
Measure = Callable[["Trial", C], Verdict]


def experiment(kind: type[C], claim: str, tolerance: str, *, at_start: bool = False) -> Callable[[Measure[C]], Measure[C]]:
    """Registers the experiment that measures claims of a type."""

    def register(run: Measure[C]) -> Measure[C]:
        _EXPERIMENTS[kind] = Experiment(kind, claim, tolerance, run, at_start)
        return run

    return register


def experiment_of(kind: type[Claim]) -> Experiment | None:
    """The experiment that measures claims of a type, if there is one."""
    return _EXPERIMENTS.get(kind)


def experiments() -> list[Experiment]:
    """All of them, by the name of what they measure."""
    return sorted(_EXPERIMENTS.values(), key=lambda e: e.kind.in_words())


def known(value: T | None) -> T:
    """What a claim speaks of, where a rule found it. Raises CannotMeasureError where it did not."""
    if value is None:
        raise CannotMeasureError("the value was not found in the run")
    return value


def number(value: int | float) -> str:
    """A measured number: four digits, which is what two runs of the same code agree on."""
    return f"{value:.4g}"
