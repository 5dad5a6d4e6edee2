"""Whether an experiment could have told: what it did not see is looked for again where it would stand out.

At initialisation logits are nearly equal, layers that start at zero pass nothing on, a squashed probability has no gradient. There a wrong
model and a right one look alike. So an effect that was not seen is sought again with larger weights and other draws, and a number that is
not a number is measured again elsewhere, until one of them decides or all are spent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from vaelint.core.claim_and_repair import Claim
from vaelint.experiment.runs import Prepare
from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import CannotMeasureError, Experiment, NoPowerError, Verdict

LEVELS = (3.0, 8.0, 1.5)
"""How much larger the weights are made, one after the other."""

_ENOUGH = 2  # amplified runs in which nothing was seen either


def put_to(trial: Trial, known: Experiment, claim: Claim) -> Verdict:
    """The experiment's verdict, repeated at amplified values where it saw nothing.

    Raises:
        NoPowerError: nothing that could be measured anywhere decides.
        CannotMeasureError: it does not run at all.
    """
    try:
        first: Verdict | NoPowerError = known.run(trial, claim)
    except NoPowerError as error:
        first = error
    if isinstance(first, Verdict) and (known.at_start or (first.holds is not None and not first.silent)):
        return first
    if known.at_start:
        raise first  # type: ignore[misc]  # a verdict has been returned
    unseen = 0
    for level, again in _amplified(trial, known, claim):
        if again.holds is not None and not again.silent:
            return replace(again, detail="; ".join(filter(None, [again.detail, f"with weights {level:g} times as large"])))
        unseen += again.silent
        if unseen == _ENOUGH:
            break
    return _unseen(first, unseen)


def _amplified(trial: Trial, known: Experiment, claim: Claim) -> Iterator[tuple[float, Verdict]]:
    """What the experiment says at larger weights, where it runs."""
    for level in LEVELS:
        try:
            yield level, known.run(amplified(trial, level), claim)
        except CannotMeasureError:
            continue


def _unseen(first: Verdict | NoPowerError, unseen: int) -> Verdict:
    """What follows where no run showed an effect.

    That nothing is there, as a claim said, needs no more. That nothing is there although a claim said so takes a run at larger weights.
    """
    if isinstance(first, Verdict) and first.silent and (first.holds or unseen):
        also = f"as with {unseen} sets of larger weights" if unseen else ""
        return replace(first, detail="; ".join(filter(None, [first.detail, also])), silent=False)
    said = str(first) if isinstance(first, NoPowerError) else first.measured
    raise NoPowerError(f"{said}; a right model and a wrong one look alike here, and at larger weights")


def amplified(trial: Trial, level: float) -> Trial:
    """A run of the step with the model's weights made larger, and other draws; one for all experiments.

    Raises:
        CannotMeasureError: such a run raises, is not finite, or there is no time for it.
    """
    key = f"amplified {level:g}"
    if key not in trial.shared:
        try:
            trial.shared[key] = _run(trial, level)
        except CannotMeasureError as error:
            trial.shared[key] = error
    found = trial.shared[key]
    if isinstance(found, CannotMeasureError):
        raise found
    assert isinstance(found, Trial)
    return found


def _run(trial: Trial, level: float) -> Trial:
    larger = trial.prepared(_enlarge(level)).again(seed=int(7 * level))
    loss = larger.record.loss_value
    if larger.record.failure is not None or (isinstance(loss, torch.Tensor) and not bool(loss.detach().isfinite().all())):
        raise CannotMeasureError("the step does not run at larger weights")
    return larger


def _enlarge(level: float) -> Prepare:
    """Makes a model's parameters `level` times as large as they are, or as layers usually begin. Once for each model."""
    done: list[torch.nn.Module] = []

    def prepare(model: torch.nn.Module, _: dict[str, torch.Tensor]) -> None:
        if any(model is m for m in done):
            return
        done.append(model)
        generator = torch.Generator().manual_seed(int(100 * level))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.is_floating_point() and parameter.numel():
                    parameter.copy_(_larger(parameter.detach().double().cpu(), level, generator))

    return prepare


def _larger(values: torch.Tensor, level: float, generator: torch.Generator) -> torch.Tensor:
    """Other values of the same kind: unequal where all were equal (zeros, ones), finite where some were not."""
    values = values.nan_to_num(0.0, 0.0, 0.0)
    drawn = torch.randn(values.shape, generator=generator, dtype=torch.float64)
    middle, spread = float(values.mean()), float(values.std()) if values.numel() > 1 else 0.0
    if abs(middle) > 3 * spread > 0 or (middle and not spread):  # a gain, a scale
        return (values + 0.1 * abs(middle) * drawn) * level
    usual = values[0].numel() ** -0.5 if values.dim() > 1 else 0.1  # of a layer's weights, by its inputs; of an offset
    kept = values / spread if spread > 1e-12 else torch.zeros_like(values)
    return level * max(spread, usual) * (kept + 0.3 * drawn)
