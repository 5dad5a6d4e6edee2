"""Law B4, for the settings of an optimizer: a number that the step writes for one of them is what the optimizer steps with.

Observed over several runs on one model: numbers that the code writes to an optimizer under the name of a setting (`lr`, `weight_decay`),
into its `defaults` or as an attribute. An optimizer reads its groups; `defaults` are for groups that are added later. Where the
written number moves from run to run, the groups' own stays as it was, and another number in its place moves the parameters to the very
same place, the schedule acts on nothing.

Exempt are optimizers that read what was written, and such as get further groups.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from vaelint.core.finding import Span
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.rule import Found
from vaelint.trace.recorded_run import Built

_RUNS = 4
_TIMES = 3.0


@dataclass(frozen=True)
class _Written:
    """A number that was written for a setting."""

    owner: int  # which optimizer of the model
    key: str
    value: float
    own: tuple[float, ...]  # what its groups have then
    place: Span | None
    is_default: bool


class _Noting(dict[str, Any]):
    """Defaults that tell what is written into them."""

    def __init__(self, values: dict[str, Any], told: Any) -> None:
        super().__init__(values)
        self._told = told

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._told(key, value, sys._getframe(1))

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Also several at once."""
        for key, value in dict(*args, **kwargs).items():
            super().__setitem__(key, value)
            self._told(key, value, sys._getframe(1))


@law(
    "settings-reach-the-step",
    "a number that is written for an optimizer's setting is the one that it steps with",
    covered=("VAE926",),
    cost="all",
)
def settings_reach_the_step(bench: Bench) -> Iterator[Broken]:
    """Optimizers that the model's constructor makes."""
    record = bench.model.record
    if bench.is_observed or not record.objectives or not record.optimizers or all(o.in_step for o in record.optimizers):
        return
    built = bench.base.runner.build()
    groups = [len(o.param_groups) for o in _optimizers(built)]
    written: list[_Written] = []
    with _noting(bench, _optimizers(built), written):
        _run(bench, built)
    if groups != [len(o.param_groups) for o in _optimizers(built)]:
        return
    for owner, key in dict.fromkeys((w.owner, w.key) for w in written):
        mine = [w for w in written if (w.owner, w.key) == (owner, key)]
        moves = len({w.value for w in mine}) > 1
        if moves and len({w.own for w in mine}) == 1 and mine[0].place is not None and not _is_read(bench, built, mine[-1]):
            yield _broken(mine)
            return


def _optimizers(built: Built) -> list[torch.optim.Optimizer]:
    return [o.made for o in built.optimizers if not o.in_step]


def _run(bench: Bench, built: Built) -> None:
    for seed in range(_RUNS):
        if bench.base.again(seed=seed, built=built, as_is=True).record.failure is not None:
            raise CannotMeasureError("the step cannot be repeated on one model")


@contextmanager
def _noting(bench: Bench, optimizers: list[torch.optim.Optimizer], written: list[_Written]) -> Iterator[None]:
    """While the block runs, what is written for a setting of these optimizers is noted."""
    kind = torch.optim.Optimizer
    places = {id(o): k for k, o in enumerate(optimizers)}

    def note(optimizer: torch.optim.Optimizer, key: str, value: Any, frame: Any, *, is_default: bool) -> None:
        own = tuple(float(g[key]) for g in optimizer.param_groups if isinstance(g.get(key), int | float))
        if isinstance(value, int | float) and own:
            stack = bench.model.tracer.spans.stack(frame, limit=1)
            written.append(_Written(places[id(optimizer)], key, float(value), own, stack[0] if stack else None, is_default))

    def setting(self: torch.optim.Optimizer, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if id(self) in places and name in self.defaults:
            note(self, name, value, sys._getframe(1), is_default=False)

    for o in optimizers:
        o.defaults = _Noting(o.defaults, lambda key, value, frame, o=o: note(o, key, value, frame, is_default=True))
    kind.__setattr__ = setting  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del kind.__setattr__
        for o in optimizers:
            o.defaults = dict(o.defaults)


def _is_read(bench: Bench, built: Built, one: _Written) -> bool:
    """Whether another number in its place, whenever the optimizer steps, moves the parameters elsewhere."""
    other = bench.base.runner.build()
    changed = _optimizers(other)[one.owner]

    def change(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if optimizer is changed and one.is_default:
            optimizer.defaults[one.key] = _TIMES * optimizer.defaults[one.key]
        elif optimizer is changed:
            setattr(optimizer, one.key, _TIMES * getattr(optimizer, one.key))

    hook = register_optimizer_step_pre_hook(change)
    try:
        _run(bench, other)
    finally:
        hook.remove()
    pairs = zip(built.model.parameters(), other.model.parameters(), strict=True)
    return any(not torch.equal(a.detach(), b.detach()) for a, b in pairs)


def _broken(mine: list[_Written]) -> Broken:
    last = mine[-1]
    kind = f"defaults[{last.key!r}]" if last.is_default else f"an attribute {last.key}"
    found = Found(
        last.place,
        label=f"sets {kind}, which the optimizer does not read when it steps",
        why=f"an optimizer steps with the settings of its groups, and {last.key} stays at {last.own[0]:.4g} there: no schedule acts",
        help=f'for group in optimizer.param_groups: group["{last.key}"] = ...',
    )
    numbers = ", ".join(f"{w.value:.3g}" for w in mine[:3])
    text = f"{numbers} are written one after the other, the groups have {last.own[0]:.4g}; another number changes nothing"
    return Broken("setting-without-effect", found, "the optimizer steps with what is written", text)
