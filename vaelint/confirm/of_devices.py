"""Experiments on devices: whether values made on the CPU meet a model that has moved."""

from __future__ import annotations

from torch import fx

from vaelint.confirm.of_batch import first_line
from vaelint.confirm.runs import seeded
from vaelint.confirm.trial import Trial
from vaelint.confirm.verdict import About, CannotMeasureError, Verdict, experiment
from vaelint.trace.run import record_step

_WORDS = ("device", "cuda", "CUDA", "meta")


@experiment("device_error", "the step with model and inputs on another device")
def device_error(trial: Trial, about: About) -> Verdict:
    """Whether the step raises for a tensor on the wrong device, once the model has moved.

    On a CUDA run that is the run itself. Elsewhere model and inputs move to torch's device without memory, which takes part in the same checks.
    """
    if trial.device.startswith("cuda"):
        failure = trial.record.failure
        if failure is not None and any(w in str(failure.error) for w in _WORDS):
            return Verdict(True, f"it raises {first_line(failure.error)}")
        return Verdict(False, "it runs")
    moved = _moved(trial)
    node: fx.Node | None = about.get("node")
    if moved is None:
        return Verdict(False, "it runs", "model and inputs on a device without memory")
    error, lines = moved
    place = trial.model.where(node)
    detail = "model and inputs on a device without memory"
    if place is not None and lines and place.line not in lines:
        detail += f"; raised at line {lines[0]}"
    if not any(w in str(error) for w in _WORDS):
        raise CannotMeasureError(f"the step does not run without memory: {first_line(error)}")
    return Verdict(True, f"it raises {first_line(error)}", detail)


def _moved(trial: Trial) -> tuple[BaseException, list[int]] | None:
    """What the step raises with model and inputs on `meta`, and the user's lines of it."""
    with seeded(0, "cpu"):
        built = trial.runner.tracer.construct_real()
        built.model.to("meta")
        inputs = {k: v.to("meta") for k, v in trial.runner.inputs().items()}
        record = record_step(built, trial.runner.step, inputs, dict(trial.record.sizes), trial.runner.tracer.spans, "real")
    if record.failure is None:
        return None
    if isinstance(record.failure.error, NotImplementedError) or (
        "meta" in str(record.failure.error) and "at least two devices" not in str(record.failure.error)
    ):
        raise CannotMeasureError(f"the step does not run without memory: {first_line(record.failure.error)}")
    return record.failure.error, [s.line for s in record.failure.spans]
