"""Experiments on devices: whether values made on the CPU meet a model that has moved."""

from __future__ import annotations

import contextlib

import torch

from vaelint.confirm.of_batch import first_line
from vaelint.confirm.runs import seeded
from vaelint.confirm.trial import Trial
from vaelint.confirm.verdict import About, CannotMeasureError, Verdict, experiment
from vaelint.graph import Failure
from vaelint.trace.run import record_step
from vaelint.trace.standin import InsteadOfCuda, as_if_on_gpu

_APART = ("same device", "at least two devices", "is not on the expected device", "on device")
_NO_CUDA = ("Torch not compiled with CUDA", "No CUDA GPUs", "no NVIDIA driver", "CUDA driver", "HIP")


@experiment("device_error", "the step with model and inputs on another device")
def device_error(trial: Trial, about: About) -> Verdict:
    """Whether the step raises for a tensor on the wrong device, once the model has moved.

    With a CUDA device that is the run there. Elsewhere model and inputs move to torch's device without memory, which takes part in the
    same checks. With `asked`, the claim is about a machine without CUDA.
    """
    if about.get("asked"):
        if torch.cuda.is_available():
            raise CannotMeasureError("there is a CUDA device here")
        failure = _moved(trial, with_cuda=False)
        if failure is None:
            return Verdict(False, "it runs")
        if any(w in str(failure.error) for w in _NO_CUDA):
            return Verdict(True, f"it raises {first_line(failure.error)}")
        raise CannotMeasureError(f"it raises something else first: {first_line(failure.error)}")
    if trial.elsewhere is not None or trial.device != "cpu":
        failure, where = trial.elsewhere, "on a CUDA device"
    else:
        failure, where = _moved(trial, with_cuda=True), "model and inputs on the device meta, in the place of a GPU"
    if failure is None:
        return Verdict(False, "it runs", where)
    if not any(w in str(failure.error) for w in _APART):
        raise CannotMeasureError(f"it raises something else first: {first_line(failure.error)}")
    line = f" at line {failure.spans[0].line}" if failure.spans else ""
    return Verdict(True, f"it raises {first_line(failure.error)}{line}", where)


@experiment("autocast_refuses", "the step on a CUDA device")
def autocast_refuses(trial: Trial, about: About) -> Verdict:
    """Whether autocast refused a function on the GPU. Only a CUDA device does."""
    if trial.elsewhere is None and trial.device == "cpu":
        raise CannotMeasureError("only a CUDA device refuses it, and there is none here")
    if trial.elsewhere is None:
        return Verdict(False, "it runs")
    if "unsafe to autocast" not in str(trial.elsewhere.error):
        raise CannotMeasureError(f"it raises something else first: {first_line(trial.elsewhere.error)}")
    return Verdict(True, f"it raises {first_line(trial.elsewhere.error)}")


def _moved(trial: Trial, *, with_cuda: bool) -> Failure | None:
    """What the step raises with model and inputs on `meta`, either as if that were CUDA or as a machine without it."""
    with seeded(0, "cpu"):
        built = trial.runner.tracer.construct_real()
        built.model.to("meta")
        inputs = {k: v.to("meta") for k, v in trial.runner.inputs().items()}
        with contextlib.ExitStack() as stack:
            if with_cuda:
                stack.enter_context(as_if_on_gpu())
                stack.enter_context(InsteadOfCuda(device="meta"))
            return record_step(built, trial.runner.step, inputs, dict(trial.record.sizes), trial.runner.tracer.spans, "real").failure
