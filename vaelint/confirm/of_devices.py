"""Experiments on devices: whether values made on the CPU meet a model that has moved."""

from __future__ import annotations

import torch
from torch import fx

from vaelint.confirm.of_batch import first_line
from vaelint.confirm.runs import seeded
from vaelint.confirm.trial import Trial
from vaelint.confirm.verdict import About, CannotMeasureError, Verdict, experiment
from vaelint.finding import Span
from vaelint.graph import Failure, span
from vaelint.trace.elsewhere import Elsewhere
from vaelint.trace.run import record_step
from vaelint.trace.standin import as_if_on_gpu

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


@experiment("device_error", "the step with model and inputs on another device", "raises or not")
def device_error(trial: Trial, about: About) -> Verdict:
    """Whether the step raises for a tensor on the wrong device, once the model has moved.

    With a CUDA device that is the run there. Without one, a run on real tensors keeps account of which would have moved.
    With `asked`, the claim is about a machine without CUDA.
    """
    if about.get("asked"):
        if torch.cuda.is_available():
            raise CannotMeasureError("there is a CUDA device here")
        failure = _without_cuda(trial)
        if failure is None:
            return Verdict(False, "it runs")
        if any(w in str(failure.error) for w in _NO_CUDA):
            return Verdict(True, f"it raises {first_line(failure.error)}")
        raise CannotMeasureError(f"it raises something else first: {first_line(failure.error)}")
    if trial.elsewhere is None and trial.device == "cpu":
        return _apart(trial, about)
    failure, where = trial.elsewhere, "on a CUDA device"
    if failure is None:
        return Verdict(False, "it runs", where)
    if not any(w in str(failure.error) for w in _APART):
        raise CannotMeasureError(f"it raises something else first: {first_line(failure.error)}")
    line = f" at line {failure.spans[0].line}" if failure.spans else ""
    return Verdict(True, f"it raises {first_line(failure.error)}{line}", where)


def _apart(trial: Trial, about: About) -> Verdict:
    """Whether, with model and inputs counted as moved, a tensor of the CPU is combined with one of theirs at the claim's place."""
    met, failure = _run_elsewhere(trial)
    where = "real tensors, model and inputs counted as moved to another device"
    node: fx.Node | None = about.get("node")
    place = span(node) if node is not None else None
    mine = [name for s, name in met if place is None or s is None or (s.file, s.line) == (place.file, place.line)]
    if mine:
        return Verdict(True, f"{mine[0]} gets tensors of two devices, which torch refuses", where)
    if failure is not None and place is not None and failure.spans and failure.spans[0].line in (place.line, _line(about.get("born"))):
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


@experiment("autocast_refuses", "the step on a CUDA device", "raises or not")
def autocast_refuses(trial: Trial, about: About) -> Verdict:
    """Whether autocast refused a function on the GPU. Only a CUDA device does."""
    if trial.elsewhere is None and trial.device == "cpu":
        raise CannotMeasureError("only a CUDA device refuses it, and there is none here")
    if trial.elsewhere is None:
        return Verdict(False, "it runs")
    if "unsafe to autocast" not in str(trial.elsewhere.error):
        raise CannotMeasureError(f"it raises something else first: {first_line(trial.elsewhere.error)}")
    return Verdict(True, f"it raises {first_line(trial.elsewhere.error)}")


def _without_cuda(trial: Trial) -> Failure | None:
    """What the step raises with model and inputs on `meta`, where nothing is given in the place of CUDA."""
    with seeded(0, "cpu"):
        built = trial.runner.tracer.construct_real()
        built.model.to("meta")
        inputs = {k: v.to("meta") for k, v in trial.runner.inputs().items()}
        return record_step(built, trial.runner.step, inputs, dict(trial.record.sizes), trial.runner.tracer.spans, "real").failure
