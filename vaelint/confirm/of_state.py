"""Experiments on the model's own numbers: weights of the loss kept as attributes."""

from __future__ import annotations

import torch

from vaelint.confirm.trial import Trial
from vaelint.confirm.verdict import About, CannotMeasureError, Verdict, experiment, number

_STEPS = 12


def _holders(model: torch.nn.Module, name: str) -> list[torch.nn.Module]:
    found = [m for m in model.modules() if isinstance(vars(m).get(name), int | float) and not isinstance(vars(m).get(name), bool)]
    if not found:
        raise CannotMeasureError(f"no module has a number called {name}")
    return found


@experiment("weight_has_no_effect", "the loss with another value of the weight")
def weight_has_no_effect(trial: Trial, about: About) -> Verdict:
    """Whether the loss stays the same when an attribute gets another value."""
    name = str(about["name"])
    was = float(vars(_holders(trial.record.model, name)[0])[name])
    now = 3 * was + 1

    def change(model: torch.nn.Module, _: dict[str, torch.Tensor]) -> None:
        for module in _holders(model, name):
            setattr(module, name, now)

    other = trial.again(prepare=change)
    before, after = float(trial.loss.detach().double().sum()), float(other.loss.detach().double().sum())
    return Verdict(before == after, f"the loss is {number(before)} at {name} = {was:g}, and {number(after)} at {now:g}")


@experiment("weight_stays", "the weight over many steps of one model")
def weight_stays(trial: Trial, about: About) -> Verdict:
    """Whether an attribute has the same value after each of many steps."""
    name = str(about["name"])
    built = trial.runner.build()
    holder = _holders(built.model, name)[0]
    seen: list[float] = []
    for seed in range(_STEPS):
        trial.again(seed=seed, built=built)
        seen.append(float(vars(holder)[name]))
    stays = len(set(seen)) == 1
    return Verdict(stays, f"{name} is {number(seen[-1])} after {_STEPS} steps" + ("" if stays else f", {number(seen[0])} after the first"))
