"""The gradient of the loss in the reconstruction, through one term alone, beside that of the likelihood."""

from __future__ import annotations

import torch

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.anatomy.reconstruction.recon import FAMILIES
from vaelint.experiment.isolated import slope, term_value
from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import CannotMeasureError


def recon_slope(trial: Trial, fact: ReconFact) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """(reconstruction, target, d loss / d reconstruction) of the run, other terms silent."""
    pair = fact.pair
    recon = trial.value(pair.recon).detach().clone().requires_grad_()
    changes = {pair.recon: recon}
    for extra in pair.extra:  # the weight was derived at a variance parameter of 1/2
        changes[extra] = torch.full_like(trial.value(extra).detach(), 0.5)
    got = slope(term_value(trial, fact.term, changes), {pair.recon: recon})[pair.recon]
    target = trial.value(pair.target).detach() if pair.target is not None else None
    return recon.detach(), target, got


def steepness(trial: Trial, fact: ReconFact) -> tuple[torch.Tensor, torch.Tensor]:
    """(d loss / d reconstruction, the same for a likelihood of weight 1), element by element."""
    r, t, got = recon_slope(trial, fact)
    if t is None:
        raise CannotMeasureError("the target was not found")
    return got, family_slope(fact.probe.kernel, r, t, fact.probe.axis)


def family_slope(kernel: str, r: torch.Tensor, t: torch.Tensor, axis: int | None) -> torch.Tensor:
    """d NLL / d reconstruction of a named likelihood."""
    if kernel in ("cross_entropy", "nll"):
        return _categorical(kernel, r, t, axis)
    family = FAMILIES.get(kernel)
    if family is None:
        raise CannotMeasureError("the reconstruction's likelihood is not one that vaelint knows")
    if r.shape != t.shape:
        raise CannotMeasureError("reconstruction and target have different shapes")
    return family(r, t.to(r.dtype))


def _categorical(kernel: str, r: torch.Tensor, t: torch.Tensor, axis: int | None) -> torch.Tensor:
    if axis is None:
        raise CannotMeasureError("the axis of the classes is not known")
    if t.shape == r.shape:
        return torch.softmax(r, axis) * t.sum(axis, keepdim=True) - t
    known = (t >= 0) & (t < r.shape[axis])
    onehot = torch.nn.functional.one_hot(t.long().clamp(0, r.shape[axis] - 1), r.shape[axis]).movedim(-1, axis).to(r.dtype)
    got = (torch.softmax(r, axis) - onehot) if kernel == "cross_entropy" else -onehot
    return got * known.unsqueeze(axis)
