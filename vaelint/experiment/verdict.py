"""What an experiment says of a claim, and the table of experiments by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaelint.experiment.trial import Trial

About = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """`holds`: the measurement agrees with the prediction; False refutes the finding; None decides nothing."""

    holds: bool | None
    measured: str
    detail: str = ""


class CannotMeasureError(Exception):
    """The experiment does not apply to this run; the text says why, in words for the user."""


@dataclass(frozen=True)
class Experiment:
    """A measurement: `claim` says in words what is looked at, `tolerance` what counts as no difference; `run` does it."""

    name: str
    claim: str
    tolerance: str
    run: Callable[[Trial, About], Verdict]


_EXPERIMENTS: dict[str, Experiment] = {}


def experiment(name: str, claim: str, tolerance: str) -> Callable[[Callable[[Trial, About], Verdict]], Callable[[Trial, About], Verdict]]:
    """Registers an experiment under the name that claims use."""

    def register(run: Callable[[Trial, About], Verdict]) -> Callable[[Trial, About], Verdict]:
        _EXPERIMENTS[name] = Experiment(name, claim, tolerance, run)
        return run

    return register


def experiment_called(name: str) -> Experiment | None:
    """The experiment of that name, if there is one."""
    return _EXPERIMENTS.get(name)


def experiment_names() -> list[str]:
    """All names, sorted."""
    return sorted(_EXPERIMENTS)


def number(value: int | float) -> str:
    """A measured number: four digits, which is what two runs of the same code agree on."""
    return f"{value:.4g}"
