"""Experiments on the model's own numbers: weights of the loss kept as attributes."""

from __future__ import annotations

from typing import Any

import torch

from vaelint.anatomy.loss.facts import KlFact
from vaelint.experiment.isolated import leaves_like, slope, term_value
from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import CannotMeasureError, Verdict, exactly, experiment, number, seen
from vaelint.faults.schedule.reset_counters import user_objects
from vaelint.faults.schedule.schedule_claims import ArgumentHasNoEffect, WeightHasNoEffect, WeightStays

_STEPS = 12


def _holders(model: torch.nn.Module, name: str) -> list[torch.nn.Module]:
    found = [m for m in model.modules() if _is_number(vars(m).get(name))]
    if not found:
        raise CannotMeasureError(f"no module has a number called {name}")
    return found


@experiment(WeightHasNoEffect, "the loss with another value of the weight", "exact")
def weight_has_no_effect(trial: Trial, claim: WeightHasNoEffect) -> Verdict:
    """Whether the loss stays the same when an attribute gets another value."""
    name = str(claim.name)
    was = float(vars(_holders(trial.record.model, name)[0])[name])
    now = 3 * was + 1

    def change(model: torch.nn.Module, _: dict[str, torch.Tensor]) -> None:
        for module in _holders(model, name):
            setattr(module, name, now)

    other = trial.again(prepare=change)
    before, after = float(trial.loss.detach().double().sum()), float(other.loss.detach().double().sum())
    told = f"the loss is {number(before)} at {name} = {was:g}, and {number(after)} at {now:g}"
    return seen(abs(after - before), 0.0, told, claimed=False)


@experiment(ArgumentHasNoEffect, "the loss with another value of the argument", "exact")
def argument_has_no_effect(trial: Trial, claim: ArgumentHasNoEffect) -> Verdict:
    """Whether the loss stays the same when a method of the model is given another number."""
    function, argument = str(claim.function), str(claim.argument)
    given: list[tuple[float, float]] = []

    def change(model: torch.nn.Module, _: dict[str, torch.Tensor]) -> None:
        own = getattr(model, function, None)
        if own is None:
            raise CannotMeasureError(f"the model has no method {function}")

        def changed(*args: Any, **kwargs: Any) -> Any:
            if _is_number(kwargs.get(argument)):
                given.append((float(kwargs[argument]), 3 * float(kwargs[argument]) + 1))
                kwargs[argument] = given[-1][1]
            return own(*args, **kwargs)

        setattr(model, function, changed)

    other = trial.again(prepare=change)
    if not given:
        raise CannotMeasureError(f"{argument} is not given by name")
    before, after = float(trial.loss.detach().double().sum()), float(other.loss.detach().double().sum())
    was, now = given[0]
    told = f"the loss is {number(before)} at {argument} = {was:g}, and {number(after)} at {now:g}"
    return seen(abs(after - before), 0.0, told, claimed=False)


@experiment(WeightStays, "the weight over many steps of one model", "1e-9")
def weight_stays(trial: Trial, claim: WeightStays) -> Verdict:
    """Whether an attribute, or else the measured weight of the KL, is the same after each of many steps."""
    name, built = str(claim.name), trial.runner.build()
    holder = next((o for o in user_objects(built.model) if _is_number(getattr(o, name, None))), None)
    facts = [f for f in trial.model.kls if f.site is not None and f.site.heads]
    if holder is None and not facts:
        raise CannotMeasureError(f"no module has a number called {name}")
    weights: list[float] = []
    for seed in range(_STEPS):
        step = trial.again(seed=seed, built=built)
        weights.append(float(getattr(holder, name)) if holder is not None else _steepness(step, facts[0]))
    stays = exactly(max(weights) - min(weights) <= 1e-9 * max(map(abs, weights)), *weights)
    what = name if holder is not None else "the KL's gradient"
    return Verdict(stays, f"{what} is {number(weights[-1])} after {_STEPS} steps, {number(weights[0])} after the first")


def _is_number(value: object) -> bool:
    if isinstance(value, torch.Tensor):
        return value.numel() == 1 and not value.requires_grad
    return isinstance(value, int | float) and not isinstance(value, bool)


def _steepness(trial: Trial, fact: KlFact) -> float:
    """The size of the KL's gradient at fixed heads."""
    assert fact.site is not None
    heads = leaves_like(trial, fact.site.heads, spread=1.0)
    return max(float(g.abs().max()) for g in slope(term_value(trial, fact.term, heads), heads).values())
