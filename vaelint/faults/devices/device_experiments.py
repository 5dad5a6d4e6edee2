"""Experiments on devices: whether values made on the CPU meet a model that has moved."""

from __future__ import annotations

import contextlib

import torch
from torch import fx

from vaelint.core.errors import TargetError
from vaelint.core.finding import Span
from vaelint.core.messages import message_of
from vaelint.experiment.runs import seeded
from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import CannotMeasureError, Verdict, experiment
from vaelint.faults.batch.batch_experiments import first_line
from vaelint.faults.devices.devices_claims import AutocastRefuses, DeviceError
from vaelint.record.record import Failure, span
from vaelint.trace.recorded_run import record_step
from vaelint.trace.second_device import Elsewhere
from vaelint.trace.standin import WithoutCuda, as_if_on_gpu, as_if_without_gpu

_APART = ("same device", "at least two devices", "is not on the expected device", "on device")
_NO_CUDA = (
    "Torch not compiled with CUDA",
    "Cannot initialize CUDA",
    "type torch.cuda.",
    "No CUDA GPUs",
    "no NVIDIA driver",
    "CUDA driver",
    "HIP",
)


@experiment(DeviceError, "the step with model and inputs on another device", "raises or not")
def device_error(trial: Trial, claim: DeviceError) -> Verdict:
    """Whether the step raises for a tensor on the wrong device, once the model has moved.

    With a CUDA device that is the run there. Without one, a run on real tensors keeps account of which would have moved.
    With `asked`, the claim is about a machine without CUDA.
    """
    if claim.asked:
        failure = _without_cuda(trial, claim.place)
        if failure is None:
            return Verdict(False, "it runs")
        if any(w in message_of(failure.error) for w in _NO_CUDA):
            return Verdict(True, f"it raises {first_line(failure.error)}")
        raise CannotMeasureError(f"it raises something else first: {first_line(failure.error)}")
    if trial.elsewhere is None and trial.device == "cpu":
        return _apart(trial, claim)
    failure, where = trial.elsewhere, "on a CUDA device"
    if failure is None:
        return Verdict(False, "it runs", where)
    if not any(w in message_of(failure.error) for w in _APART):
        raise CannotMeasureError(f"it raises something else first: {first_line(failure.error)}")
    if failure.spans and not _speaks_of(failure, claim):
        return _apart(trial, claim)  # the run on the device ended elsewhere; this one, on the CPU, comes to all places
    line = f" at line {failure.spans[0].line}" if failure.spans else ""
    return Verdict(True, f"it raises {first_line(failure.error)}{line}", where)


def _speaks_of(failure: Failure, claim: DeviceError) -> bool:
    """Whether what was raised is about a claim's tensor: where it meets the others, or where it is made."""
    lines = {_line(claim.node), _line(claim.born)} - {None}
    return not lines or any(s.line in lines for s in failure.spans)


def _apart(trial: Trial, claim: DeviceError) -> Verdict:
    """Whether, with model and inputs counted as moved, a tensor of the CPU is combined with one of theirs at the claim's place."""
    met, failure = _run_elsewhere(trial)
    where = "real tensors, model and inputs counted as moved to another device"
    node = claim.node
    place = span(node) if node is not None else None
    mine = [name for s, name in met if place is None or s is None or (s.file, s.line) == (place.file, place.line)]
    if mine:
        return Verdict(True, f"{mine[0]} gets tensors of two devices, which torch refuses", where)
    if failure is not None and place is not None and failure.spans and failure.spans[0].line in (place.line, _line(claim.born)):
        return Verdict(True, f"it raises {first_line(failure.error)}", where)
    if failure is not None:
        raise CannotMeasureError(f"it raises something else first: {first_line(failure.error)}")
    return Verdict(False, "all tensors that meet there are on one device", where)


def _line(node: fx.Node | None) -> int | None:
    place = span(node) if node is not None else None
    return place.line if place is not None else None


def _run_elsewhere(trial: Trial) -> tuple[list[tuple[Span | None, str]], Failure | None]:
    """The one run that all claims about devices read."""
    if "elsewhere" not in trial.shared:
        runner = trial.runner
        with seeded(0, "cpu"):
            built, inputs = runner.build(), runner.inputs()
            moved = Elsewhere(runner.tracer.spans, [*built.model.parameters(), *built.model.buffers(), *inputs.values()])
            with moved, as_if_on_gpu():
                record = record_step(built, runner.step, inputs, dict(trial.record.sizes), runner.tracer.spans, "real")
        trial.shared["elsewhere"] = (moved.met, record.failure)
    found: tuple[list[tuple[Span | None, str]], Failure | None] = trial.shared["elsewhere"]
    return found


@experiment(AutocastRefuses, "the step on a CUDA device", "raises or not")
def autocast_refuses(trial: Trial, claim: AutocastRefuses) -> Verdict:
    """Whether autocast refused a function on the GPU. Only a CUDA device does."""
    if trial.elsewhere is None and trial.device == "cpu":
        raise CannotMeasureError("only a CUDA device raises here, and this machine has none")
    if trial.elsewhere is None:
        return Verdict(False, "it runs")
    if "unsafe to autocast" not in message_of(trial.elsewhere.error):
        raise CannotMeasureError(f"it raises something else first: {first_line(trial.elsewhere.error)}")
    return Verdict(True, f"it raises {first_line(trial.elsewhere.error)}")


def _without_cuda(trial: Trial, place: Span | None) -> Failure | None:
    """What the constructor raises, if it asks at `place`, or the step with model and inputs on `meta`: nothing takes CUDA's place."""
    tracer = trial.runner.tracer
    inputs = {k: v.to("meta") for k, v in trial.runner.inputs().items()}
    none_here = WithoutCuda() if torch.cuda.is_available() else contextlib.nullcontext()
    with seeded(0, "cpu"), as_if_without_gpu(), none_here:
        try:
            tracer.construct_real(on_gpu=True)
        except TargetError as error:
            said = [p for p, _ in trial.model.record.asked_for_cuda]
            if error.__cause__ is not None and place is not None and error.span is not None:
                if error.span.line == place.line:
                    return Failure(error.__cause__, (error.span,))
                if any(w in message_of(error.__cause__) for w in _NO_CUDA):
                    if said == [place]:  # `device = torch.device("cuda")` raises nothing: what is moved to it does
                        return Failure(error.__cause__, (error.span,))
                    raise CannotMeasureError(f"the constructor raises at line {error.span.line} first") from error
        built = tracer.construct_real()
        built.model.to("meta")
        return record_step(built, trial.runner.step, inputs, dict(trial.record.sizes), tracer.spans, "real").failure
