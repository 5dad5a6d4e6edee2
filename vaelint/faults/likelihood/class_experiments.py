"""Experiments on what is looked up: probabilities of classes, rows of a codebook's input."""

from __future__ import annotations

import torch
from torch import fx

from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import Verdict, experiment, number, seen
from vaelint.faults.likelihood.likelihood_claims import ClassSums, RowsOfChannels

_FAR = 0.02


@experiment(ClassSums, "the sum of the probabilities that a class is looked up among", f"{_FAR:g}")
def class_sums(trial: Trial, claim: ClassSums) -> Verdict:
    """Sums probabilities, or exponentials of log-probabilities, along the axis of the classes, as they are in the run."""
    node: fx.Node = claim.node
    values = trial.value(node).detach().double()
    chances = values.exp() if float(values.max()) <= 0 else values
    sums = chances.sum(int(claim.axis))
    low, high = float(sums.min()), float(sums.max())
    told = f"they sum to {number(low)} to {number(high)}"
    return seen(max(1 - low, high - 1), _FAR, told, "a distribution over the classes sums to 1", least=_apart(chances))


def _apart(chances: torch.Tensor) -> float:
    """How far sums along a wrong axis would be from one another: not at all where all chances are alike, as at initialisation."""
    count = max(chances.shape)
    return float((chances.std() / chances.mean().clamp(min=1e-300)) / count**0.5)


@experiment(RowsOfChannels, "the channels in one row of the lookup", "exact")
def rows_of_channels(trial: Trial, claim: RowsOfChannels) -> Verdict:
    """Writes the number of its channel into each value of the encoder, and reads the rows that are compared with the codes."""
    origin, rows = claim.origin, claim.rows
    val = trial.value(origin).detach()
    numbers = torch.arange(val.shape[1], device=val.device, dtype=val.dtype)
    filled = numbers.reshape([-1 if d == 1 else 1 for d in range(val.dim())]).expand(val.shape).clone()
    got = trial.recompute([rows], {origin: filled})[rows].detach().reshape(-1, trial.value(rows).shape[-1])
    counts = torch.tensor([len(set(row)) for row in got.tolist()])
    whole = got.shape[1]
    return Verdict(bool((counts < whole).any()), f"a row of {whole} values comes from {int(counts.min())} to {int(counts.max())} channels")
