"""Tries steps: whether they run, and what their loss is and moves. Runs user code."""

from __future__ import annotations

from typing import Any

import torch

from vaelint.errors import TargetError
from vaelint.step.search import Measured, Trials
from vaelint.trace.ladder import Tracer


def trials_of(tracer: Tracer) -> Trials:
    """The trials of steps of one model."""
    return Trials(lambda step: _error_of(tracer, step), lambda step: _measured(tracer, step))


def _error_of(tracer: Tracer, step: Any) -> BaseException | None:
    """What a step raises, None if it runs. What it takes to run it says nothing of other steps."""
    rung = tracer.real_because
    try:
        record = tracer.attempt(step, {}) or tracer.run(step)
    except TargetError as error:
        return error
    finally:
        tracer.real_because = rung
    return record.failure.error if record.failure is not None else None


def _measured(tracer: Tracer, step: Any) -> Measured | None:
    """The loss of a step on real tensors, from fixed seeds, and what it moves; None where it does not run, or is no number."""
    torch.manual_seed(0)
    try:
        record = tracer.real(step)
    except TargetError:
        return None
    loss = record.loss_value
    if record.failure is not None or not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        return None
    moved, own = parameters_behind(loss), set(record.model.parameters())
    return Measured(float(loss.detach()), bool(moved & own), len(moved - own))


def parameters_behind(value: torch.Tensor) -> set[torch.Tensor]:
    """The leaves that get a gradient from a value."""
    todo, seen, found = [value.grad_fn], set[Any](), set[torch.Tensor]()
    while todo:
        function = todo.pop()
        if function is None or function in seen:
            continue
        seen.add(function)
        if isinstance(leaf := getattr(function, "variable", None), torch.Tensor):
            found.add(leaf)
        todo += [f for f, _ in function.next_functions]
    return found
