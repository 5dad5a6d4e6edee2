"""The experiment on shape annotations: the shapes of real calls."""

from __future__ import annotations

from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import CannotMeasureError, Verdict, experiment
from vaelint.faults.shapes.shapes_claims import AnnotatedShape


@experiment(AnnotatedShape, "the shapes of the call, at two batch sizes", "exact")
def annotated_shape(trial: Trial, claim: AnnotatedShape) -> Verdict:
    """Whether a value does not have the `rank` or `size` that is written; whether two axes of one name differ at one of the batch sizes
    (`bound`); whether an axis that is called the batch keeps its size as the batch grows (`batch`)."""
    node, measure, bound = claim.node, claim.measure, claim.bound
    shape = tuple(trial.value(node).shape)
    name = trial.model.written(node)
    if measure.how == "rank":
        few = len(shape) < measure.written
        return Verdict(few or (len(shape) != measure.written and not measure.more), f"{name} {shape}")
    axis = measure.axis
    if measure.how == "size":
        return Verdict(shape[axis] != measure.written, f"{name} {shape}")
    symbol = trial.model.inputs.batch
    runs = [trial]
    if symbol is not None and trial.batch is not None:
        other = trial.again({symbol: trial.batch + 1})
        runs += [other] if other.has(node) and other.has(bound or node) else []  # it may raise later on, as a check at run time does
    if measure.how == "batch":
        if len(runs) < 2:
            raise CannotMeasureError("the step does not run at another batch size")
        sizes = [int(run.value(node).shape[axis]) for run in runs]
        return Verdict(
            sizes[0] == sizes[1],
            f"axis {axis} of {name} has {sizes[0]} and {sizes[1]} elements at {symbol}={runs[0].batch} and {runs[1].batch}",
        )
    if bound is None:
        raise CannotMeasureError("the value that it is held against is not known")
    pairs = [(int(run.value(node).shape[axis]), int(run.value(bound).shape[measure.other])) for run in runs]
    if len(runs) < 2 and pairs[0][0] == pairs[0][1]:
        raise CannotMeasureError("equal at this batch size, and the step does not come there at another")
    told = " and ".join(f"{a} against {b}" for a, b in dict.fromkeys(pairs))
    return Verdict(any(a != b for a, b in pairs), f"{name} against {trial.model.written(bound)}: {told}")
