"""The experiment on likelihoods of counts: whether their probabilities sum to one number, whatever the decoder puts out."""

from __future__ import annotations

import math

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.reconstruction.density import density_slice
from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import CannotMeasureError, NoPowerError, Verdict, experiment, number
from vaelint.faults.likelihood.likelihood_claims import SumsToOne

_CLOSE = 0.02
_COUNTS = 64  # beyond, nothing is left of a count whose mean is a few
_FILLS = (0.35, -0.45, 0.8)  # what all of the decoder's outputs are set to, in turn


@experiment(SumsToOne, "the sum of exp(-loss) over the counts, at several outputs of the decoder", f"{_CLOSE:g} of its logarithm")
def sums_to_one(trial: Trial, claim: SumsToOne) -> Verdict:
    """Whether the probabilities of all counts sum to a number that moves with the decoder's outputs: then they are none."""
    fact: ReconFact = claim.fact
    model = trial.model
    at = density_slice(fact.term, fact.pair.leaf, trial.loss_node, model.flow, model.replay)
    if at is None:
        raise CannotMeasureError("what the likelihood compares was not found")
    target = trial.value(at.target).detach()
    fixed: dict[fx.Node, torch.Tensor] = {n: torch.full_like(trial.value(n).detach(), 1.5) for n in at.conditions}
    reads = model.flow.descendants(*at.raw)
    for other in silence_others(at.term, model.replay, model.record.sizes):
        if other in reads:  # another term that moves with the same outputs; what reads parameters alone may normalise this one
            fixed[other] = torch.zeros_like(trial.value(other))
    # all but what the decoder's outputs are made of: the other terms keep their values, what is made of the data alone does not
    loss, inside = trial.loss_node, set(model.record.nodes) - model.flow.ancestors(*at.raw)
    rows = []
    with torch.no_grad():
        for fill in _FILLS:
            for i, node in enumerate((*at.raw, *at.parameters)):
                fixed[node] = torch.full_like(trial.value(node).detach(), fill + 0.17 * i)
            counts = [torch.full_like(target, float(k)) for k in range(_COUNTS)]
            rows.append([_total(trial.recompute([loss], {**fixed, at.target: k}, inside=inside)[loss]) for k in counts])
    totals = torch.tensor(rows, dtype=torch.float64)
    if not bool(totals.isfinite().all()):
        raise NoPowerError("the likelihood is not finite at all counts")
    elements, batch = target.numel(), trial.batch or 1
    # a sum over all elements, a mean over the batch, a mean over all: whichever makes the sums most alike
    logs = [torch.logsumexp(-totals / share, dim=1) for share in (elements, elements / batch, 1.0)]
    apart = min(float(z.max() - z.min()) for z in logs)
    told = f"the sum over all counts moves by a factor of {number(math.exp(min(apart, 700.0)))} with the decoder's outputs"
    return Verdict(apart > _CLOSE, told, f"up to {_COUNTS - 1}, at {len(_FILLS)} outputs of the decoder")


def _total(loss: object) -> float:
    if not isinstance(loss, torch.Tensor):
        raise CannotMeasureError("the loss is not a tensor")
    return float(loss.double().sum())
