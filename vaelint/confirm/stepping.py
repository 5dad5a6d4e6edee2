"""One step of the user's optimizer on a fresh model: whether it moves the parameters, and the loss before and after."""

from __future__ import annotations

from typing import Any

import torch

from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.faults.batch.batch_experiments import first_line
from vaelint.faults.gradients.missed_parameters import Given, given_optimizer
from vaelint.trace import torch_private
from vaelint.trace.recorded_run import Built


def optimizer_step(trial: Trial) -> dict[str, Any] | None:
    """Facts of one step with the optimizer that the step builds or the file writes out; None where there is none.

    `name`, `loss_before` and `loss_after` (same data, same noise), `moved` and `parameters` (numbers that changed, of those it holds),
    `finite`; `reason` where it could not be done.
    """
    if (seen := getattr(trial.runner.step, "stepped", None)) is not None:
        return dict(seen)  # the script's own step was watched
    model = trial.model
    finished = any(c.moved for c in model.record.backwards)
    if model.record.objectives and not finished:
        return None  # the step moves the parameters in a way of its own
    written = None if model.record.optimizers else given_optimizer(model)
    if not model.record.optimizers and written is None:
        return None
    name = model.record.optimizers[0].name if written is None else written.name
    facts: dict[str, Any] = {"name": name}
    try:
        built = trial.runner.build()
        if finished:
            return facts | _own_step(trial, built)
        before = trial.again(built=built)
        with torch.enable_grad(), torch_private.lean_dynamo(trial.runner.lean):
            optimizer = before.record.optimizers[-1].made if written is None and before.record.optimizers else _build(written, built.model)
            if optimizer is None or before.record.failure is not None:
                return facts | {"reason": "the run did not come to the optimizer"}
            moved, held = _step(before, optimizer)
        after = trial.again(built=built)
        finite = all(bool(p.detach().isfinite().all()) for p in held)
        facts |= {"moved": moved, "parameters": sum(p.numel() for p in held), "finite": finite}
        return facts | {"loss_before": _number(before), "loss_after": _number(after)}
    except torch_private.DynamoMissing:
        trial.runner.lean = False
        return optimizer_step(trial)
    except CannotMeasureError as error:
        return facts | {"reason": str(error)}
    except Exception as error:  # noqa: BLE001  a closure that LBFGS wants, sparse gradients: the optimizer's own word is the answer
        return facts | {"reason": first_line(error)}


def _own_step(trial: Trial, built: Built) -> dict[str, Any]:
    """What the step itself did to the parameters that its optimizers hold."""
    parameters = list(built.model.parameters())
    was = [p.detach().clone() for p in parameters]
    ran = trial.again(built=built, as_is=True)
    if ran.record.failure is not None:
        raise CannotMeasureError(first_line(ran.record.failure.error))
    ids = {i for c in ran.record.backwards for i in c.moved}
    held = [(p, old) for p, old in zip(parameters, was, strict=True) if id(p) in ids]
    moved = sum(int((p.detach() != old).sum()) for p, old in held)
    finite = all(bool(p.detach().isfinite().all()) for p, _ in held)
    facts = {"moved": moved, "parameters": sum(p.numel() for p, _ in held), "finite": finite}
    return facts | {"loss_before": _number(ran), "loss_after": _number(trial.again(built=built))}


def _step(before: Trial, optimizer: torch.optim.Optimizer) -> tuple[int, list[torch.Tensor]]:
    """One step down the gradient of a run: (numbers that changed, the parameters that the optimizer holds)."""
    held = [p for group in optimizer.param_groups for p in group["params"]]
    grads = before.gradient(before.loss, held)
    was = [p.detach().clone() for p in held]
    for parameter, grad in zip(held, grads, strict=True):
        parameter.grad = grad
    optimizer.step()
    return sum(int((p.detach() != old).sum()) for p, old in zip(held, was, strict=True)), held


def _build(written: Given | None, model: torch.nn.Module) -> torch.optim.Optimizer | None:
    if written is None:
        return None
    held = [p for n, p in model.named_parameters() if n in written.covered]
    made: torch.optim.Optimizer = getattr(torch.optim, written.name)(held, **written.options)
    return made


def _number(trial: Trial) -> float:
    return float(f"{float(trial.loss.detach().double().mean()):.6g}")
