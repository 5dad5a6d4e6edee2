"""What an optimizer's step does to parameters that are frozen for the turn: nothing, where their gradient is none.

Observed on the step's own optimizers, over several runs on one model, as networks take turns. Parameters whose `requires_grad` is off when
an optimizer that holds them steps must be where they were once the run is over. A gradient of zeros, or one that an earlier step has used,
is a gradient to Adam and to SGD with momentum: they go on along what they remember, and weight decay pulls as well.

Exempt are gradients that the step writes itself, such as those of an evolution strategy, and moves that the step takes back.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from vaelint.core.errors import TargetError
from vaelint.core.finding import Span
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.record.record import Record

_TURNS = 6


@dataclass
class _Watch:
    """Held parameters that are frozen while their optimizer steps: where each was, and the gradients that steps have used."""

    moved: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)  # the parameter, and where it was
    used: dict[int, torch.Tensor] = field(default_factory=dict)
    frozen: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def before(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """An optimizer is about to step."""
        self.frozen = {}
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            if p.grad is None or p.grad.is_sparse:
                continue
            is_stale = id(p) in self.used and torch.equal(self.used[id(p)], p.grad)
            if not p.requires_grad and (is_stale or not bool(p.grad.any())):
                self.frozen[id(p)] = (p, p.detach().clone())
            self.used[id(p)] = p.grad.detach().clone()

    def after(self, *_: Any) -> None:
        """It has stepped."""
        self.moved.update({k: (p, was) for k, (p, was) in self.frozen.items() if not torch.equal(p.detach(), was)})


@contextmanager
def _watching(watch: _Watch) -> Iterator[None]:
    hooks = [register_optimizer_step_pre_hook(watch.before), register_optimizer_step_post_hook(watch.after)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class FrozenMove:
    """Parameters that moved while they were frozen: how many, how many runs it took to see it, where and by what."""

    names: list[str]
    runs: int
    place: Span
    clears: bool  # the place is where their gradients are made zeros


def moved_while_frozen(bench: Bench) -> FrozenMove | None:
    """The first run in which that happens. Raises CannotMeasureError where the step cannot be repeated."""
    record = bench.model.record
    if bench.is_observed or not record.objectives or not _freezes(bench):
        return None
    built, watch = bench.base.runner.build(), _Watch()
    with _watching(watch):
        for run in range(_TURNS):
            watch.moved = {}
            seen = bench.base.again(seed=run, built=built, as_is=True).record
            if seen.failure is not None and not isinstance(seen.failure.error, TargetError):  # it ran, and its loss is a number
                raise CannotMeasureError("the step cannot be repeated on one model")
            stay = {k for k, (p, was) in watch.moved.items() if not torch.equal(p.detach(), was)}
            names = [n for n, p in built.model.named_parameters() if id(p) in stay]
            place, clears = _place(seen, stay)
            if names and place is not None:
                return FrozenMove(names, run + 1, place, clears)
    return None


def _freezes(bench: Bench) -> bool:
    """Whether the files of the step switch gradients of anything."""
    files = {place.file for n in bench.model.record.nodes for place in n.meta.get("stack") or ()}
    trees = (bench.model.source.file(f).tree for f in sorted(files))
    return any(isinstance(n, ast.Attribute) and n.attr in ("requires_grad", "requires_grad_") for tree in trees for n in ast.walk(tree))


def _place(record: Record, moved: set[int]) -> tuple[Span | None, bool]:
    """Where the gradients of these parameters are cleared, else where their optimizer steps."""
    for kind in ("cleared", "stepped"):
        found = [u.place for u in record.uses if u.kind == kind and u.of & moved and u.place is not None]
        if found:
            return found[-1], kind == "cleared"
    return None, False
