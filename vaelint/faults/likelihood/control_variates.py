"""Likelihoods that are taken away again: of two draws, with one weight, by one decoder, their difference has the expectation 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.record.record import route

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_SAME = 1e-6


def is_control_variate(model: Model, fact: ReconFact) -> bool:
    """Whether a likelihood of another draw, by the same expression and against the same data, has the opposite weight.

    The difference lowers the variance of a score-function estimator, and moves its expectation by nothing (Tucker et al. 2017, REBAR).
    """
    for other in model.recons:
        alike = other is not fact and other.pair.target is fact.pair.target and other.probe.kernel == fact.probe.kernel
        if not alike or other.pair.recon is fact.pair.recon or route(other.pair.meet)[:1] != route(fact.pair.meet)[:1]:
            continue
        if abs(other.probe.weight + fact.probe.weight) <= _SAME * abs(fact.probe.weight):
            return True
    return False
