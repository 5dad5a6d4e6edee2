"""Tries steps: whether they run, and what their loss is and moves. Runs user code."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from vaelint.anatomy.analyse import analyse
from vaelint.core.errors import TargetError
from vaelint.core.inputs import InputSet
from vaelint.faults.likelihood.likelihood import swapped_arguments
from vaelint.record.record import Record
from vaelint.record.walk import leaves_behind
from vaelint.source.written import Source
from vaelint.step.find_loss.search import Measured, Parts, Trials
from vaelint.trace.ladder import Tracer
from vaelint.trace.standin import as_if_without_gpu

_MOST, _NODES = 24, 12_000  # steps whose loss is taken apart, and operations that are run for them


def trials_of(tracer: Tracer, inputs: InputSet, source: Source, record: Record) -> Trials:
    """The trials of steps of one model, each of which runs about what was recorded."""
    most = min(_MOST, _NODES // max(1, len(record.graph.nodes)))
    parts = partial(_parts_of, tracer, inputs, source)
    return Trials(lambda step: _error_of(tracer, step), lambda step: _measured(tracer, step), parts, most)


def _error_of(tracer: Tracer, step: Any) -> BaseException | None:
    """What a step raises, None if it runs. What it takes to run it says nothing of other steps."""
    rung = tracer.real_because
    try:
        record = tracer.attempt(step, {}) or tracer.run(step)
    except TargetError as error:
        return error
    finally:
        tracer.real_because = rung
    if record.failure is not None:
        return record.failure.error
    loss = record.loss_value
    if step.place and isinstance(loss, torch.Tensor) and not set(leaves_behind(loss)) & set(record.model.parameters()):
        return ValueError("its loss moves no parameter of the model")  # that of a discriminator, say
    return None


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
    moved, own = set(leaves_behind(loss)), set(record.model.parameters())
    return Measured(float(loss.detach()), bool(moved & own), len(moved - own))


def leaves_a_loss(tracer: Tracer, step: Any) -> bool:
    """Whether a step runs, and leaves one number with a gradient in `loss`."""
    with as_if_without_gpu():
        return _with_gradient(tracer, step) is not None


def _with_gradient(tracer: Tracer, step: Any) -> Record | None:
    try:
        record = tracer.attempt(step, {})
    except TargetError:
        return None
    loss = record.loss_value if record is not None and record.failure is None else None
    return record if isinstance(loss, torch.Tensor) and loss.numel() == 1 and loss.requires_grad else None


def _parts_of(tracer: Tracer, inputs: InputSet, source: Source, step: Any) -> Parts | None:
    record = _with_gradient(tracer, step)
    if record is None:
        return None
    model = analyse(record, tracer, inputs, step, source, None)
    if not model.recons:
        return None
    exchanged = sum(swapped_arguments(model, r) for r in model.recons) + sum(k.probe.verdict == "swapped" for k in model.kls)
    return Parts(bool(model.kls), exchanged)
