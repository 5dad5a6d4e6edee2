"""Training and evaluation mode, also of models that use the names `train` and `eval` for something else."""

from __future__ import annotations

import inspect
import re

from torch import nn

_FLAG = re.compile(r"_*(mode|is_?)?_?(train(ing)?)?_?(mode)?", re.IGNORECASE)


def set_mode(model: nn.Module, training: bool) -> None:
    """What `model.train(training)` does. A `train` that takes something else than a mode is a training loop, and is not called."""
    if all(_is_switch(type(m)) for m in model.modules()):
        model.train(training)
        return
    for module in model.modules():
        module.training = training


def _is_switch(cls: type[nn.Module]) -> bool:
    if cls.train is nn.Module.train:
        return True
    try:
        parameters = list(inspect.signature(cls.train).parameters.values())[1:]
    except (TypeError, ValueError):
        return True
    required = [p for p in parameters[1:] if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return bool(parameters) and not required and _FLAG.fullmatch(parameters[0].name) is not None
