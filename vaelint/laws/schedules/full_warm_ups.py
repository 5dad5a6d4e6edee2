"""Law B4, for what a warm-up ends at: a weight that comes to rest at 1 says that the loss is then the ELBO.

Intervention: the expression that a KL's weight is reckoned by is evaluated at many values of its counter. Where it never leaves [0, 1] and
still comes to 1 after any number of steps, it is a share of the KL and no beta: the objective is judged as it is with all of the KL, as one
without a weight is. Exempt are weights that rest elsewhere (a beta), that fall, and losses that are right at the end of the schedule.

Source: Bowman et al. 2016, Generating Sentences from a Continuous Space, section 3.1; Kingma & Welling 2014, appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from vaelint.anatomy.loss.balance import effective_beta
from vaelint.anatomy.loss.facts import Beta, KlFact
from vaelint.anatomy.loss.term_weights import Factor
from vaelint.faults.kl.imbalance import BALANCE, Words
from vaelint.faults.kl.scale_report import scale_found
from vaelint.faults.kl.scale_verdicts import ScaleFault, ScaleVerdict, judge_scale, without_masks
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.schedules.reckoned import Reckoned, reckoned_weights
from vaelint.replay.scale import Scaling
from vaelint.source.arithmetic import NotArithmetic

_STEPS = tuple(range(200)) + tuple(round(1.27**k) for k in range(24, 90))
_LATE = 10_000_000  # steps: beyond any warm-up
_CLOSE = 1e-6

_HALF = Words(
    label="counts each latent twice at the end of the warm-up",
    why="the weight comes to rest at 1, which is to be the ELBO: this trains a beta-VAE with beta = 2",
    help="multiply by 0.5",
)


@law(
    "warm-ups-end-at-the-elbo",
    "where the weight of a KL comes to rest at 1, the loss is the ELBO",
    covered=("VAE401", "VAE402", "VAE403", "VAE404", "VAE405", "VAE406", "VAE414", "VAE416", "VAE903"),
    cost="all",
)
def warm_ups_end_at_the_elbo(bench: Bench) -> Iterator[Broken]:
    """KLs that one number of the user's code weighs, a share that is reckoned from a counter."""
    model = bench.model
    for kl in model.kls:
        named = [f for f in kl.factors if f.origin == "named" and f.value is not None and f.value != 1.0]
        shares = [(f, w) for f in named for w in reckoned_weights(bench) if _is_of(f, w) and _comes_to_one(w)]
        if len(shares) != 1 or (beta := _at_the_end(bench, kl, shares[0][0])) is None:
            continue
        verdict = judge_scale(without_masks(beta, model), model.record, model.symbols, bool(model.step.unknown_weights))
        if verdict is not None and verdict.fault in _RULES and not verdict.explicit and not verdict.is_twice_the_elbo:
            yield _broken(bench, verdict, shares[0][0].text or shares[0][1].name)
            return


def _is_of(factor: Factor, weight: Reckoned) -> bool:
    return factor.value is not None and math.isclose(factor.value, weight.value, rel_tol=_CLOSE, abs_tol=_CLOSE)


def _comes_to_one(weight: Reckoned) -> bool:
    """Whether the weight follows a counter, which may have been counted on since, never leaves [0, 1], and comes to 1 however late."""
    starts = ((counter, at) for counter, now in weight.counters() for at in {now, now - 1, 0.0})
    return any(weight.follows(counter, at) and _is_share(weight, counter) for counter, at in starts)


def _is_share(weight: Reckoned, counter: str) -> bool:
    try:
        values = [weight.at(counter, step) for step in _STEPS]
        late = [weight.at(counter, _LATE + step) for step in _STEPS]
    except NotArithmetic:
        return False
    most, least = max(*values, *late), min(*values, *late)
    return least >= 0 and abs(most - 1) < _CLOSE and abs(max(late) - 1) < _CLOSE and values[0] < max(late)


def _at_the_end(bench: Bench, kl: KlFact, share: Factor) -> Beta | None:
    """The effective beta where a share of the KL is 1."""
    model = bench.model
    recon = next((b.recon for b in model.betas if b.kl.term is kl.term), model.recon)
    if recon is None or any(f.node is share.node for f in recon.factors):
        return None
    by = share.value or 0.0
    if by and kl.scaling is not None:
        whole = Scaling(kl.scaling.value / by, kl.scaling.exponents, kl.scaling.constant / by)
    elif not by and kl.silent is not None:
        whole = kl.silent
    else:
        return None
    return effective_beta(replace(kl, scaling=whole, factors=[f for f in kl.factors if f is not share]), recon, model.symbols)


_RULES: dict[ScaleFault, str] = {
    "half": "kl-missing-half",
    "latent": "kl-mean-over-latent",
    "axis": "kl-wrong-axis",
    "data": "kl-overweight",
}


def _broken(bench: Bench, verdict: ScaleVerdict, weight: str) -> Broken:
    words = _HALF if verdict.fault == "half" else BALANCE[verdict.fault]
    found = scale_found(bench.model, verdict, label=words.label, why=words.why, help=words.help)
    found = replace(found, when=f"{weight} has come to 1", claim=None, repair=None)
    text = f"{weight} is at most 1, and comes to it at any number of steps; beta is {verdict.beta.value:.6g} there"
    return Broken(_RULES[verdict.fault], found, "with all of the KL the loss is the ELBO", text)
