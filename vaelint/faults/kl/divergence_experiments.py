"""Experiments on the KL: its formula against the closed form, its sign, its weight against the reconstruction's."""

from __future__ import annotations

import math

import torch
from torch import fx

from vaelint.anatomy.kl.kl_gamma import FAMILIES
from vaelint.anatomy.loss.facts import Beta, KlFact, ReconFact
from vaelint.anatomy.posterior.sites import Site
from vaelint.experiment.isolated import closed_form, laplace_form, leaves_like, moments, share, slope, term_value
from vaelint.experiment.trial import Trial, rounding
from vaelint.experiment.verdict import CannotMeasureError, NoPowerError, Verdict, exactly, experiment, number, seen
from vaelint.faults.kl.concentrations import against_closed_forms, concentration_weight
from vaelint.faults.kl.discrete import against_bernoulli, discrete_weight
from vaelint.faults.kl.kl_claims import GradientRatio, KlClosedForm, KlGradient
from vaelint.faults.likelihood.likelihood_gradients import steepness
from vaelint.record import ops

_CLOSE = 0.03  # of a weight: float32 sums over many elements, and the nodes' own rounding
_FORM = 3e-3


def _site(fact: KlFact) -> Site:
    if fact.site is None:
        raise CannotMeasureError("the term's posterior is not a Gaussian found by its draw")
    return fact.site


@experiment(KlClosedForm, "the KL term against the closed form, over random posteriors", "0.3 % of the term's spread, or 2 roundings")
def kl_closed_form(trial: Trial, claim: KlClosedForm) -> Verdict:
    """Whether the term differs from every multiple of the closed form."""
    fact: KlFact = claim.fact
    if fact.site is None and any(s.kind == "categorical" for s in fact.term.sites):
        return against_bernoulli(trial, fact) if claim.binary else _categorical(trial, fact)
    if fact.probe.family in FAMILIES:
        return against_closed_forms(trial, fact)
    site, prior = _site(fact), fact.probe.prior if fact.probe.verdict in ("exact", "prior") else (0.0, 1.0)
    values, exact = [], []
    with torch.no_grad():
        for seed in range(8):
            heads = leaves_like(trial, site.heads, spread=1.0, seed=seed)
            m, s = moments(trial, site, heads)
            values.append(float(term_value(trial, fact.term, heads).double()))
            exact.append(float(closed_form(m.double(), s.double(), prior).sum()))
    if fact.probe.constant:
        return _at_the_prior(values, exact)
    return _compare(values, exact, "the term", max(_FORM, 2 * rounding(*(trial.like(h) for h in site.heads))))


def _at_the_prior(values: list[float], exact: list[float]) -> Verdict:
    """What is left of a multiple of the closed form where that is 0."""
    w, rest = _fitted(values, exact)[0].flatten().tolist()
    left = rest / w if w else math.nan
    return Verdict(
        exactly(abs(left) > 0.4, left), f"at the prior the term is {number(rest)}, where a KL is 0", f"{len(values)} random posteriors"
    )


def _fitted(values: list[float], exact: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Factor and offset that bring the closed form nearest to a term, and what is left."""
    v, k = (torch.tensor(t, dtype=torch.float64) for t in (values, exact))
    columns = torch.stack([k, torch.ones_like(k)], 1)
    solution = torch.linalg.lstsq(columns, v.unsqueeze(1)).solution
    return solution, (columns @ solution - v.unsqueeze(1)).norm() / (v - v.mean()).norm().clamp(min=1e-30)


def _compare(values: list[float], exact: list[float], what: str, allowed: float) -> Verdict:
    residual = float(_fitted(values, exact)[1])
    measured = f"{what} is off the nearest multiple of the closed form by {residual:.2%} of its spread"
    return Verdict(exactly(residual > allowed, residual), measured, f"{len(values)} random posteriors")


def _categorical(trial: Trial, fact: KlFact) -> Verdict:
    """KL(q || uniform) = sum_k q_k (log q_k + log K): zero at the uniform, and a multiple of it elsewhere."""
    site = next(s for s in fact.term.sites if s.kind == "categorical")
    if site.mu is None or not site.heads:
        raise CannotMeasureError("the logits of the posterior were not found")
    values, exact = [], []
    with torch.no_grad():
        for seed, spread in enumerate((0.0, 0.5, 1.0, 1.5, 2.0, 3.0)):
            heads = leaves_like(trial, site.heads, spread=spread, seed=seed)
            logits = trial.recompute([site.mu], heads)[site.mu].double()
            q = torch.softmax(logits, dim=-1)
            values.append(float(term_value(trial, fact.term, heads).double()))
            exact.append(float((q * (q.clamp(min=1e-300).log() + math.log(q.shape[-1]))).sum()))
    v, k = (torch.tensor(t, dtype=torch.float64) for t in (values, exact))
    w = float((v * k).sum() / k.square().sum())
    residual = float((v - w * k).norm() / v.norm().clamp(min=1e-30))
    measured = f"{number(values[0])} at the uniform distribution, where a KL is 0; off a multiple of the KL by {residual:.2%}"
    return Verdict(exactly(residual > _FORM, residual), measured, f"{len(values)} posteriors, the uniform one among them")


def kl_weight(trial: Trial, fact: KlFact, spread: float | None = None, seed: int = 0) -> tuple[float, float]:
    """(weight of the term on the exact KL, residual), by the gradients in the heads: those of the run, or random ones."""
    if fact.probe.family in FAMILIES:
        return concentration_weight(trial, fact)
    if fact.probe.family in ("Bernoulli", "Categorical"):
        return discrete_weight(trial, fact)
    site = _site(fact)
    if fact.probe.learned_prior and fact.probe.verdict in ("exact", "prior") and not fact.probe.monte_carlo and not fact.probe.whole:
        return _weight_to_its_prior(trial, fact, site)
    nodes = site.mu_heads if fact.probe.verdict == "mean_only" else tuple(dict.fromkeys((*site.mu_heads, *site.scale_heads)))
    heads = leaves_like(trial, nodes, spread, seed)
    got = slope(term_value(trial, fact.term, heads), heads)
    fresh = {n: v.detach().clone().requires_grad_() for n, v in heads.items()}
    if fact.probe.monte_carlo:
        z = trial.recompute([site.z], fresh)[site.z]
        _, s = moments(trial, site, fresh)
        want = slope((z**2 / 2).sum() - s.abs().log().sum(), fresh)
    else:
        m, s = moments(trial, site, fresh)
        form = laplace_form if site.kind == "laplace" else closed_form
        want = slope(form(m, s, fact.probe.prior).sum(), fresh)
    weight, residual = share(*(torch.cat([t[n].flatten() for n in nodes]) for t in (got, want)))
    return weight, residual


def _weight_to_its_prior(trial: Trial, fact: KlFact, site: Site) -> tuple[float, float]:
    """(weight, residual) of a KL to a Gaussian that the run has its own values for: dL/dlog s = w (s^2 / v - 1) at two s, v the same."""
    if len(site.scale_heads) != 1 or site.scale_heads == site.mu_heads:
        raise CannotMeasureError("mean and scale have no head each")
    head, squares, slopes = site.scale_heads[0], [], []
    for seed in (1, 2):
        heads = leaves_like(trial, site.heads, 1.0, seed)
        got = slope(term_value(trial, fact.term, heads), heads)[head]
        fresh = {n: v.detach().clone().requires_grad_() for n, v in heads.items()}
        _, s = moments(trial, site, fresh)
        along = slope(s.abs().log().sum(), fresh)[head]
        if s.numel() != got.numel() or not bool((along != 0).all()):
            raise CannotMeasureError("the scale is not an elementwise function of its head")
        squares.append((s.detach().double() ** 2).flatten())
        slopes.append((got / along).double().flatten())
    apart = squares[0] - squares[1]
    used = (apart.abs() > 0.3 * apart.abs().max()) & (slopes[0] != 0) & (slopes[1] != 0)
    if not bool(used.any()):
        raise NoPowerError("no gradient to measure at these values")
    w = ((slopes[0] - slopes[1]) / apart * squares[0] - slopes[0])[used]
    middle = float(w.median())
    return middle, float((w - middle).abs().median()) / max(abs(middle), 1e-30)


def _weight(trial: Trial, fact: KlFact) -> float:
    """The weight at the run's own heads; at random ones where the KL has no gradient there, as with free bits."""
    tried: list[float] = []
    for spread in (None, 3.0):
        try:
            w, residual = kl_weight(trial, fact, spread)
        except CannotMeasureError:
            continue
        if residual < 0.02:
            return w
        tried.append(residual)
    if not tried:
        raise NoPowerError("the KL has no gradient at these values")
    raise CannotMeasureError(f"the term's gradients are not those of a KL to a fixed prior ({min(tried):.0%} off)")


_LEAST_SHARE = 0.1  # of a KL that a mask leaves of the whole, by whose sizes its weight is predicted


@experiment(GradientRatio, "the weights of KL and reconstruction, by their gradients", "3 %, or 4 roundings")
def gradient_ratio(trial: Trial, claim: GradientRatio) -> Verdict:
    """Measures w_kl / w_recon and compares it with the effective beta that was derived, at the sizes of this run."""
    beta: Beta = claim.beta
    measured = measured_beta(trial, beta)
    predicted = _predicted(trial, beta)
    if not math.isfinite(predicted) or predicted == 0:
        raise CannotMeasureError("no finite weight was predicted")
    if not math.isfinite(measured) or measured == 0:
        raise NoPowerError(f"KL over reconstruction = {number(measured)}")
    close = max(_CLOSE, 4 * rounding(trial.value(beta.recon.pair.recon)))
    masked = _is_masked(trial, beta.kl)
    loose, least = masked or _moves_with_the_data(beta), _LEAST_SHARE if masked else 0.5
    holds = abs(measured / predicted - 1) < close or (loose and _as_far(measured, predicted, least))
    text = f"KL over reconstruction = {number(measured)} times the ELBO's"
    sizes = [f"{k}={v}" for k, v in trial.record.sizes.items() if beta.scaling.exponents.get(k)]
    detail = f"at {', '.join(sizes)}" if sizes else ""
    symbol = trial.model.inputs.batch
    if (
        holds
        and symbol is not None
        and beta.scaling.exponents.get(symbol)
        and (other := _at_half_the_batch(trial, symbol, beta)) is not None
    ):
        ratio, told = other
        holds = abs(ratio / told - 1) < close or (loose and _as_far(ratio, told, least))
        detail += f"; {number(ratio)} at {symbol}={(trial.batch or 0) // 2}"
    return Verdict(holds, text, detail)


def _moves_with_the_data(beta: Beta) -> bool:
    """Whether the likelihood leaves out one class, or weighs its elements with a mask: a mean then divides by a count that the data give,
    not the sizes alone."""
    ignored = beta.recon.pair.meet.kwargs.get("ignore_index")
    return (isinstance(ignored, int) and ignored >= 0) or bool(beta.recon.probe.reason)


def _is_masked(trial: Trial, fact: KlFact) -> bool:
    """Whether data multiply the KL on its way to the loss: a mask, or counts."""
    flow = trial.model.flow
    products = {n for leaf in fact.term.leaves for n in leaf.chain if ops.op(n) in ops.MUL}
    others = {i for n in products for i in ops.value_inputs(n) if fact.term.core not in flow.ancestors(i) | {i}}
    return any(i in flow.data and i not in flow.learned for i in others)


def _as_far(measured: float, predicted: float, least: float) -> bool:
    """Whether two weights are on the same side of 1, both far from it, and alike: the one measured at least this part of the other."""
    return least < measured / predicted < 2 and not 0.4 < abs(measured) < 2.5


def _at_half_the_batch(trial: Trial, symbol: str, beta: Beta) -> tuple[float, float] | None:
    """(measured, predicted) beta at half the batch, where the step runs there."""
    if trial.batch is None or trial.batch < 4:
        return None
    try:
        half = trial.again({symbol: trial.batch // 2})
        return (measured_beta(half, beta), _predicted(half, beta)) if half.record.failure is None else None
    except CannotMeasureError:
        return None


def measured_beta(trial: Trial, beta: Beta) -> float:
    """w_kl / w_recon of this run, in the units of `Beta` (which halves the weight of a squared error written with 1/2)."""
    assert beta.kl.scaling is not None and beta.recon.scaling is not None
    if beta.recon.error is not None and beta.recon.error.value:
        likelihood = recon_weight(trial, beta.recon) * beta.recon.scaling.value / beta.recon.error.value
        return _weight(trial, beta.kl) / likelihood
    bare = beta.kl.scaling.constant / beta.recon.scaling.constant
    units = beta.scaling.constant / bare if bare else 1.0
    return units * _weight(trial, beta.kl) / recon_weight(trial, beta.recon)


def recon_weight(trial: Trial, fact: ReconFact) -> float:
    """The weight of the reconstruction term on the negative log-likelihood of one element."""
    w, residual = share(*steepness(trial, fact))
    if residual > 0.05 and not fact.probe.reason:
        raise CannotMeasureError(f"the reconstruction's gradient is not that of its likelihood ({residual:.0%} off)")
    return w


def _predicted(trial: Trial, beta: Beta) -> float:
    value = beta.value
    for symbol, exponent in beta.scaling.exponents.items():
        if exponent and symbol in trial.record.sizes:
            value *= (trial.record.sizes[symbol] / trial.model.symbols.get(symbol, trial.record.sizes[symbol])) ** exponent
    return value


@experiment(KlGradient, "the gradient of the loss in the posterior, through the KL alone", "the sign")
def kl_gradient(trial: Trial, claim: KlGradient) -> Verdict:
    """The sign of the KL's weight; for a term without gradient where the KL is large, the share of zeros there."""
    fact: KlFact = claim.fact
    if fact.probe.verdict == "inverted_floor":
        site = _site(fact)
        near = min(_zero_share(trial, fact, site, spread) for spread in (0.4, 0.05))  # a low ceiling leaves little room below it
        far = _zero_share(trial, fact, site, 8.0)
        return Verdict(
            exactly(far > near and far > 0.2, far, near), f"{far:.0%} of the means get no gradient far from the prior, {near:.0%} near it"
        )
    try:
        w, _ = kl_weight(trial, fact)
    except CannotMeasureError:
        w, _ = kl_weight(trial, fact, spread=1.0)
    if claim.zero:
        return seen(abs(w), 0.0, f"the KL's weight is {number(w)}", claimed=False)
    if w == 0 or not math.isfinite(w):
        raise NoPowerError(f"the KL's weight is {number(w)}")
    return Verdict(w < 0, f"the KL's weight is {number(w)}: a step towards the prior {'raises' if w < 0 else 'lowers'} the loss")


def _zero_share(trial: Trial, fact: KlFact, site: Site, spread: float) -> float:
    heads = leaves_like(trial, site.heads, spread)
    got = slope(term_value(trial, fact.term, heads), heads)
    zeros: list[fx.Node] = list(site.mu_heads)
    return max(float((got[n] == 0).double().mean()) for n in zeros)
