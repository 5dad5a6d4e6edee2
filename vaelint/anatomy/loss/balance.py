"""The effective beta: what a KL weighs against its reconstruction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from vaelint.anatomy.kl.kl_probe import KNOWN
from vaelint.anatomy.loss.facts import Beta, KlFact, ReconFact
from vaelint.anatomy.posterior.sites import Site
from vaelint.record.record import shape
from vaelint.replay.scale import Scaling, ratio


def joined_draws(known: list[ReconFact]) -> ReconFact:
    """The first reconstruction, with the weight of all that are compared with the same target: several draws of one posterior."""
    first = known[0]
    assert first.scaling is not None
    same = [
        r
        for r in known
        if r.scaling is not None
        and r.pair.target is first.pair.target
        and r.probe.kernel == first.probe.kernel
        and r.scaling.exponents == first.scaling.exponents
    ]
    if len(same) == 1:
        return first
    factor = sum(r.scaling.constant for r in same if r.scaling is not None) / first.scaling.constant
    return replace(first, scaling=Scaling(first.scaling.value * factor, first.scaling.exponents, first.scaling.constant * factor))


def joined_members(facts: list[KlFact], sites: list[Site]) -> list[KlFact]:
    """The KLs of a mixture's members as one of the posterior that is drawn: their weights add up, KL(q || p) <= sum_k w_k KL(q_k || p).

    Members of which one was not measured, or that are not weighed alike with the sizes, have no weight together.
    """
    joined: list[KlFact] = []
    for z in dict.fromkeys(f.site.z if f.site is not None else None for f in facts):
        own = [f for f in facts if (f.site.z if f.site is not None else None) is z]
        whole = next((s for s in sites if s.z is z), None)
        if whole is None or len(own) < 2 or any(f.site is not None and f.site.heads == whole.heads for f in own):
            joined += own
            continue
        first = next((f for f in own if f.probe.verdict not in KNOWN), own[0])
        if first.probe.verdict in KNOWN and first.scaling is not None and all(_alike(f, first) for f in own):
            factor = sum(f.scaling.constant for f in own if f.scaling is not None) / first.scaling.constant
            scaling = Scaling(first.scaling.value * factor, first.scaling.exponents, first.scaling.constant * factor)
            probe = replace(first.probe, weight=first.probe.weight * factor)
            joined.append(replace(first, site=whole, scaling=scaling, probe=probe))
        else:
            joined.append(replace(first, site=whole, scaling=None))
    return joined


def _alike(one: KlFact, other: KlFact) -> bool:
    """Whether two KLs are of one form, and move alike with the sizes."""
    assert other.scaling is not None
    return one.probe.verdict == other.probe.verdict and one.scaling is not None and one.scaling.exponents == other.scaling.exponents


def likelihood_scaling(recon: ReconFact) -> Scaling | None:
    """The weight of the likelihood itself, in nats: that of a fixed scale, or of a learned one, which the error's own weight moves with.

    None where a scale is learned and its weight could not be told.
    """
    known = recon.scaling
    if known is not None and recon.unit is not None:
        return Scaling(known.value * recon.unit, known.exponents, known.constant * recon.unit)
    if known is None or not known.constant or not (recon.learned_variance or recon.moving_weight):
        return known
    if recon.probe.kernel in ("bce", "bce_with_logits", "cross_entropy", "poisson", "poisson_log"):
        return known  # softplus(h) - x h, exp(h) - x h, in two addends: nothing of it is a scale
    if recon.learned_weight is None:
        return None
    factor = recon.learned_weight / abs(known.constant)
    return Scaling(known.value * factor, known.exponents, known.constant * factor)


def effective_beta(kl: KlFact, recon: ReconFact, symbols: Mapping[str, int]) -> Beta | None:
    """beta = (KL weight) / (reconstruction weight), or None where one of them is unknown."""
    if kl.scaling is None or recon.scaling is None or not recon.scaling.constant or not kl.scaling.constant:
        return None
    recon = _in_deviations(recon)
    likelihood = likelihood_scaling(recon)
    if likelihood is None or recon.scaling is None or (recon.learned_weight is not None and _is_over_time(kl.scaling, recon.scaling)):
        return None
    # an expectation is a mean over its draws, an ensemble's likelihood one over its members: together they have the weight of one
    for s in dict.fromkeys((*kl.samples, *recon.stacked)):
        power = likelihood.exponents.get(s)
        if power is not None and s in recon.event and not _sums_over(recon, s, symbols):
            likelihood = Scaling(likelihood.value * symbols[s], {**likelihood.exponents, s: power + 1}, likelihood.constant)
    if recon.rounds > 1:
        likelihood = Scaling(likelihood.value * recon.rounds, likelihood.exponents, likelihood.constant * recon.rounds)
    scaling = ratio(kl.scaling, likelihood, symbols)
    variance = None
    learned = recon.learned_variance or recon.moving_weight
    open_scale = recon.unit is None and not learned and (recon.density is None or recon.density.name == "huber")
    if recon.probe.kernel == "squared_error" and open_scale:
        variance = scaling.value / 2 * (recon.deviation or 1.0) ** 2
        if _halved(recon, kl):
            scaling = Scaling(scaling.value / 2, scaling.exponents, scaling.constant / 2)
    return Beta(scaling, kl, recon, variance)


def _sums_over(recon: ReconFact, drawn: str, symbols: Mapping[str, int]) -> bool:
    """Whether a likelihood was read by how it moves with the data, which all draws are compared with: their sum, and not one of them."""
    target = recon.pair.target
    return (
        recon.density is not None and target is not None and math.prod(shape(target)) * symbols[drawn] == math.prod(shape(recon.pair.recon))
    )


def _in_deviations(recon: ReconFact) -> ReconFact:
    """The reconstruction with its error measured in the decoder's own deviation, where its author wrote one."""
    if recon.deviation is None or recon.scaling is None or recon.density is not None:
        return recon
    unit = recon.deviation ** (2 if recon.probe.kernel == "squared_error" else 1)
    return replace(recon, scaling=Scaling(recon.scaling.value * unit, recon.scaling.exponents, recon.scaling.constant * unit))


def _is_over_time(kl: Scaling, recon: Scaling) -> bool:
    """Whether both are means over another axis and not over the one that is called the batch: it is time, and rows are no samples."""
    shared = {s for s, e in kl.exponents.items() if e == -1 and recon.exponents.get(s) == -1}
    return bool(shared - {"B"}) and not kl.exponents.get("B") and not recon.exponents.get("B")


def _halved(recon: ReconFact, kl: KlFact) -> bool:
    """Whether the squared error is written with the 1/2 of a unit-variance Gaussian.

    A factor that the KL has as well is none of its own, and so is what a mean over a part of the batch has of the whole batch.
    """
    assert recon.scaling is not None
    literal, shared = 1.0, 1.0
    both = {f.node for f in kl.factors}
    for f in recon.factors:
        if f.node in both:
            shared *= f.value if f.value is not None and f.origin in ("literal", "named") else 1.0
        elif f.origin == "literal" and f.value is not None:
            literal *= f.value
    rows = (recon.share * recon.rounds) ** (recon.scaling.exponents.get("B") or 0.0)
    constant = abs(recon.scaling.constant / (shared * rows)) if shared else 0.0
    return abs(constant - 0.5) < 1e-9 or (abs(literal - 0.5) < 1e-9 and abs(constant - 1) > 1e-9)
