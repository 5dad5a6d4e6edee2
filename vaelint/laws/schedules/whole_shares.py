"""Law B4, for the way: a factor of the loss that is reckoned from a counter takes values between its first and its last one.

Intervention: the counter is replaced by a whole number that tells by what it is divided and where; then the step runs with the counter at
some shares of that number. Where the loss stays at its first value until the counter has come to all of it, and then never moves again,
and where the same division with its rest gives a ramp, the division cut the ramp away. A switch that is meant compares, and stays a switch;
a schedule in stairs has more than one.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import field
from functools import partial
from typing import Any

import torch

from vaelint.core.finding import Span
from vaelint.experiment.trial import differ
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.faults.schedule.reset_counters import user_objects
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.rule import Found

_BEFORE = (0.0, 0.3, 0.6, 0.95)  # shares of the divisor
_AFTER = (1.2, 2.3, 7.1)
_NOTHING = 1e-6
_LEAST = 3  # of a divisor: nothing lies between 0 and 1 of 2


@dataclass
class _Seen:
    """By what a counter was divided, and from where."""

    exactly: bool = False  # whether the division keeps its rest
    divisors: list[tuple[float, Any]] = field(default_factory=list)
    place: Callable[[Any], Span | None] = lambda frame: None

    def note(self, divisor: object) -> None:
        if isinstance(divisor, int | float) and not isinstance(divisor, bool) and divisor >= _LEAST:
            self.divisors.append((float(divisor), self.place(sys._getframe(2))))


class _Counter(int):
    """A counter that tells of divisions that leave a whole number."""

    seen: _Seen

    @classmethod
    def of(cls, value: int, seen: _Seen) -> _Counter:
        made = cls(value)
        made.seen = seen
        return made

    def __floordiv__(self, other: Any) -> Any:
        self.seen.note(other)
        return int(self) / other if self.seen.exactly else int(self) // other

    def __add__(self, other: Any) -> Any:
        return self._kept(int(self) + other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self._kept(int(self) - other)

    def _kept(self, value: Any) -> Any:
        return _Counter.of(value, self.seen) if type(value) is int else value


@law(
    "schedules-have-a-way",
    "a factor of the loss that follows a counter takes values between its first and its last",
    covered=("VAE416",),
    cost="all",
)
def schedules_have_a_way(bench: Bench) -> Iterator[Broken]:
    """Whole numbers that the user's objects hold and that the step moves, in files that divide whole numbers without their rest."""
    if not any(
        _cuts(bench.model.source.file(f).tree) for f in {s.file for n in bench.model.record.nodes for s in n.meta.get("stack") or ()}
    ):
        return
    for at, name in _moved(bench):
        seen = _Seen(place=lambda frame: next(iter(bench.model.tracer.spans.stack(frame, limit=1)), None))
        _loss(bench, at, name, partial(_Counter.of, seen=seen))
        for divisor, place in dict(seen.divisors).items():
            if place is not None and _jumps(bench, at, name, divisor) and _is_a_share(bench, at, name, divisor):
                yield _broken(name, divisor, place)
                return


def _cuts(tree: ast.AST) -> bool:
    """Whether code divides without a rest: only a reason not to look elsewhere."""
    return any(isinstance(n, ast.FloorDiv) for n in ast.walk(tree))


def _moved(bench: Bench) -> list[tuple[int, str]]:
    """The whole numbers that a step of training moves."""
    built = bench.base.runner.build()
    before = _numbers(built.model)
    if not before:
        return []
    if bench.base.again(built=built, as_is=True).record.failure is not None:
        raise CannotMeasureError("the step does not run with its optimizers")
    after = _numbers(built.model)
    return [key for key, value in before.items() if after.get(key, value) > value]


def _numbers(model: torch.nn.Module) -> dict[tuple[int, str], int]:
    return {(at, name): value for at, owner in enumerate(user_objects(model)) for name, value in vars(owner).items() if type(value) is int}


def _loss(bench: Bench, at: int, name: str, put: Callable[[int], int]) -> torch.Tensor:
    """The loss of a step with the counter at another value."""

    def prepare(model: torch.nn.Module, _: dict[str, torch.Tensor]) -> None:
        owner = user_objects(model)[at]
        setattr(owner, name, put(vars(owner)[name]))

    again = bench.base.again(prepare=prepare)
    if again.record.failure is not None:
        raise CannotMeasureError("the step does not run with its counter elsewhere")
    return again.loss.detach()


def _at(_: int, to: int) -> int:
    """A counter's new value, whatever it was."""
    return to


def _jumps(bench: Bench, at: int, name: str, divisor: float) -> bool:
    """Whether the loss has one value before the counter has come to the divisor, and another one from then on."""
    before, after = ([_loss(bench, at, name, partial(_at, to=int(share * divisor))) for share in shares] for shares in (_BEFORE, _AFTER))
    flat = all(differ(values[0], v) <= _NOTHING for values in (before, after) for v in values[1:])
    return flat and differ(before[0], after[0]) > _NOTHING


def _is_a_share(bench: Bench, at: int, name: str, divisor: float) -> bool:
    """Whether the loss takes other values on the way where the division keeps its rest: a switch that compares the result does not."""

    def exactly(share: float) -> torch.Tensor:
        return _loss(bench, at, name, lambda _: _Counter.of(int(share * divisor), _Seen(exactly=True)))

    first, third, most = exactly(0.0), exactly(0.3), exactly(0.6)
    return differ(first, third) > _NOTHING and differ(third, most) > _NOTHING


def _broken(name: str, divisor: float, place: Span) -> Broken:
    found = Found(
        place,
        label=f"{name} divided by {divisor:g} is a whole number: 0 until {name} is {divisor:g}",
        when="the step moves the counter",
        why="the weight that is reckoned from it stays at its first value and then jumps to its last: there is no warm-up",
        help="divide with /, and bound the share by min(1.0, ...)",
    )
    text = f"the loss is the same for {name} = 0 to {0.95 * divisor:g}, another one at {1.2 * divisor:g}, and the same from there on"
    return Broken("kl-weight-stuck", found, "the loss takes other values between the first and the last", text)
