"""Law B4: a counter that the loss depends on moves in training.

Intervention: the step runs several times on one model, first in training, then in evaluation; and once with the counter set forward.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from vaelint.core.finding import Label, Span
from vaelint.experiment.trial import differ
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.faults.schedule.reset_counters import user_objects
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.rule import Found
from vaelint.trace.mode import set_mode

_STEPS = 3
_FORWARD = (7.0, 1000.0)
_NOTHING = 1e-5

_Key = tuple[int, str]  # the place of an object among the user's, and an attribute of it


@law("counters-move-in-training", "a counter that the loss depends on moves in training", covered=("VAE416",), cost="all")
def counters_move_in_training(bench: Bench) -> Iterator[Broken]:
    """Only counters that the same step moves in evaluation: what nothing in the step moves, a callback may."""
    if not bench.model.record.reads_mode:
        return
    built = bench.base.runner.build()
    writes: dict[str, Span] = {}
    first = _numbers(built.model)
    objects = user_objects(built.model)
    kinds = {type(objects[at]) for at, _ in first}
    _steps(bench, built, training=True)
    trained = _numbers(built.model)
    with _watched(bench, kinds, writes):
        _steps(bench, built, training=False)
    after = _numbers(built.model)
    for key, value in after.items():
        name = key[1]
        if first.get(key) != trained.get(key) or value == trained.get(key) or name not in writes:
            continue
        moved = _follows(bench, key)
        if moved is not None:
            yield _stands(bench, name, trained[key], moved, writes[name])
            return


def _numbers(model: torch.nn.Module) -> dict[_Key, float]:
    """The plain numbers that the user's own objects hold."""
    return {
        (at, name): float(value)
        for at, owner in enumerate(user_objects(model))
        for name, value in vars(owner).items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "training"
    }


def _steps(bench: Bench, built: Any, *, training: bool) -> None:
    def put(model: torch.nn.Module, _: dict[str, torch.Tensor]) -> None:
        set_mode(model, training)

    for seed in range(_STEPS):
        run = bench.base.again(seed=seed, built=built, prepare=put, as_is=True)
        if run.record.failure is not None:
            raise CannotMeasureError("the step cannot be repeated on one model" if training else "the step does not run in evaluation")


def _follows(bench: Bench, key: _Key) -> float | None:
    """The counter's distance at which the training loss follows it; None where it does not."""
    at, name = key
    for far in _FORWARD:

        def put(model: torch.nn.Module, _: dict[str, torch.Tensor], far: float = far) -> None:
            owner = user_objects(model)[at]
            was = vars(owner)[name]
            setattr(owner, name, was + (int(far) if isinstance(was, int) else far))

        again = bench.base.again(prepare=put)
        if again.record.failure is None and differ(bench.base.loss.detach(), again.loss.detach()) > _NOTHING:
            return far
    return None


@contextmanager
def _watched(bench: Bench, kinds: set[type], writes: dict[str, Span]) -> Iterator[None]:
    """Notes where the user's code sets which number."""
    originals = {kind: kind.__setattr__ for kind in kinds}
    spans = bench.model.tracer.spans

    def watching(original: Any) -> Any:
        def watch(self: Any, name: str, value: Any) -> None:
            if isinstance(value, int | float) and not isinstance(value, bool):
                stack = spans.stack(sys._getframe(1), limit=1)
                if stack:
                    writes[name] = stack[0]
            original(self, name, value)

        return watch

    try:
        for kind, original in originals.items():
            kind.__setattr__ = watching(original)  # type: ignore[method-assign]
        yield
    finally:
        for kind, original in originals.items():
            kind.__setattr__ = original  # type: ignore[method-assign]


def _stands(bench: Bench, name: str, value: float, moved: float, written: Span) -> Broken:
    condition = _condition(bench, written)
    found = Found(
        condition or written,
        label=f"{name} moves in evaluation only" if condition is None else f"keeps training from moving {name}",
        labels=(Label(written, "moves here, in evaluation"),) if condition is not None else (),
        why="what the loss works out from it stays at its first value all through training: a warm-up never warms up",
        help="move the counter where the model trains: `if self.training:`",
    )
    text = (
        f"{name} is {value:g} after {_STEPS} steps of training and other after evaluation; the loss follows it (set {moved:g} further on)"
    )
    return Broken("counter-stands-still", found, "a counter that the loss depends on moves in training", text)


def _condition(bench: Bench, place: Span) -> Span | None:
    """The line of the innermost `if` around a place, in its function."""
    inside = [
        n
        for n in ast.walk(bench.model.source.file(place.file).tree)
        if isinstance(n, ast.If) and n.lineno < place.line <= (n.end_lineno or 0)
    ]
    if not inside:
        return None
    test = max(inside, key=lambda n: n.lineno).test
    return bench.model.source.file(place.file).place(place.file, test)
