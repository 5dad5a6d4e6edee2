"""The experiment on shape annotations: the shapes of a real call."""

from __future__ import annotations

from vaelint.confirm.trial import Trial
from vaelint.confirm.verdict import About, Verdict, experiment


@experiment("annotated_shape", "the shapes of the call")
def annotated_shape(trial: Trial, about: About) -> Verdict:
    """The shape that a value had in the run. That two sizes are equal now does not make them one."""
    found = tuple(trial.value(about["node"]).shape)
    measured = f"{trial.model.written(about['node'])} {found}"
    bound = about.get("bound")
    if bound is None or bound is about["node"]:
        static = tuple(about["node"].meta["val"].shape)
        return Verdict(True if len(found) == len(static) else None, measured)
    other = tuple(trial.value(bound).shape)
    return Verdict(True if set(found) ^ set(other) else None, f"{measured}, {trial.model.written(bound)} {other}")
