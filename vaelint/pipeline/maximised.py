"""Whether what a step was found to give is a bound that is maximised: what nobody minimises in the code has no wrong sign."""

from __future__ import annotations

import re
from typing import Any

from vaelint.anatomy.model import Model
from vaelint.step.meaning import is_bound_name

_LEFT = re.compile(r"(?P<before>.*\bloss = )(?P<value>[^;]+)", re.DOTALL)


def settled(model: Model, step: Any) -> Any | None:
    """The step whose loss is one number that is minimised, where what was found is a bound, or a method's loss for each sample; else None.

    A bound rewards each reconstruction and each KL is taken off it, so that as a loss all of its signs are wrong, not one. By its
    name a bound may have terms that are not known. A step that was told, or cut out of training code, is taken as it is.
    """
    parts = _LEFT.fullmatch(step.code)
    loss = model.record.loss
    if parts is None or step.place or loss is None:
        return None
    value = parts["value"]
    mean = ".mean()" if model.dims(loss) == ("B",) else ""
    if _is_bound(model, value):
        note = f"{value} is treated as a bound: it grows with the likelihood, and nothing in the code minimises it"
        return step.rewritten(f"{parts['before']}-({value}){mean}", note)
    if mean and not step.call and parts["before"] == "loss = ":  # the model's own method, which nobody was seen to call
        return step.rewritten(f"{parts['before']}({value}){mean}", f"{value} has a value for each sample: their mean is used as the loss")
    return None


def _is_bound(model: Model, value: str) -> bool:
    known = [r for r in model.recons if r.probe.kernel not in ("other", "unknown")]
    if not known or any(r.probe.weight >= 0 for r in known) or any(k.probe.weight > 0 for k in model.kls):
        return False
    called = value.partition("(")[0].rpartition(".")[2]
    return any(k.probe.weight < 0 for k in model.kls) or is_bound_name(called)
