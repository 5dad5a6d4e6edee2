"""The anatomy and the objective in words and numbers, as reports print them."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from torch import fx

from vaelint.anatomy.kl.kl_parts import PART_WORDS
from vaelint.anatomy.kl.kl_probe import KNOWN
from vaelint.anatomy.loss.addends.addend_reduction import weight_within
from vaelint.anatomy.loss.balance import likelihood_scaling
from vaelint.anatomy.loss.extras import EXTRA_WORDS, PAIRS, Extra, find_extras
from vaelint.anatomy.loss.facts import Beta, KlFact, ReconFact
from vaelint.anatomy.loss.known_objectives import name_objective
from vaelint.anatomy.loss.logged_names import name_rows
from vaelint.anatomy.loss.published import importance_samples, known_divergence
from vaelint.anatomy.loss.sampled_terms import SampledTerm, averages_over, balance_of, sampled_terms, sums_over
from vaelint.anatomy.loss.terms import Leaf
from vaelint.anatomy.loss.unsettled import why_no_beta
from vaelint.anatomy.model import Model
from vaelint.anatomy.reconstruction.density_kind import Density
from vaelint.replay.scale import Scaling

KL_WORDS = {
    "exact": "Gaussian KL to N(0, 1)",
    "prior": "Gaussian KL to a Gaussian prior",
    "monte_carlo": "Monte Carlo KL, log q(z) - log p(z)",
    "drawn": "Monte Carlo KL to another prior, log q(z) - log p(z)",
    "mean_only": "Gaussian KL (only the part of the mean was measured)",
    "decomposed": "KL taken apart over the minibatch",
    "wrong": "not a KL: its formula is off",
    "sign": "Gaussian KL of wrong sign",
    "parameterisation": "Gaussian KL of another parameterisation than the sampler's",
    "swapped": "Gaussian KL with mean and log-variance exchanged",
    "reversed": "reversed Gaussian KL, KL(p || q)",
    "inverted_floor": "KL with its gradient cut where it is large",
    "at_mean": "Monte Carlo KL with the prior taken at the posterior's mean",
    "categorical": "categorical KL",
    "bernoulli": "Bernoulli KL",
    "sphere": "von Mises-Fisher KL to the uniform prior on the sphere",
    "concentration": "KL of a Gamma or Dirichlet posterior",
    "sampled": "KL of the posterior that is drawn, in closed form",
    "other": "another divergence",
    "unknown": "not measured",
}

RECON_WORDS = {
    "squared_error": "squared error",
    "absolute_error": "absolute error",
    "bce": "Bernoulli on probabilities",
    "bce_with_logits": "Bernoulli on logits",
    "poisson": "Poisson",
    "poisson_log": "Poisson on log rates",
    "cross_entropy": "categorical on logits",
    "nll": "categorical on log-probabilities",
    "log_cosh": "log-cosh",
    "cross_entropy_soft": "cross-entropy",
    "negative_log_probability": "negative log-probability",
    "other": "other",
    "unknown": "not measured",
}


def describe_anatomy(model: Model) -> dict[str, Any]:
    """Sites with mu, scale, eps and z, and the reconstruction."""
    sites = [
        {
            "kind": s.kind,
            "mu": _value(model, s.mu),
            "scale": _value(model, s.scale),
            "eps": _value(model, s.noise[0] if s.noise else None),
            "z": _value(model, s.z),
            "parameterisation": model.parameterisation(s).name,
        }
        for s in _one_a_place(model)
    ]
    return {"sites": sites, "recon": _value(model, model.recons[0].pair.recon) if model.recons else None}


def _one_a_place(model: Model) -> list[Any]:
    seen: dict[Any, Any] = {}
    for s in model.sites:
        seen.setdefault(model.where(s.z), s)
    return list(seen.values())


def _value(model: Model, node: fx.Node | None) -> dict[str, Any] | None:
    if node is None:
        return None
    place = model.where(node)
    return {"shape": list(model.dims(node)), "span": asdict(place) if place else None, "expression": model.written(node)}


def describe_loss(model: Model) -> dict[str, Any]:
    """Terms with kernel, reduction and weight; effective beta; the objective in words."""
    if not model.has_loss:
        return {}
    sites = sampled_terms(model)
    if sites and (sums_over(model) or averages_over(model)):
        return _of_sites(model, sites)
    found = _of_structure(model)
    return _of_sites(model, sites) if sites and not _is_measured(found, balance_of(sites)) else found


def _is_measured(found: dict[str, Any], balance: float | None) -> bool:
    """Whether each term was recognised by its values, and the KLs weigh what the sites say: of several draws one alone may be seen."""
    unknown = {KL_WORDS["other"], KL_WORDS["unknown"], RECON_WORDS["other"], RECON_WORDS["unknown"]}
    rows = [(t["role"], t["kernel"]) for t in found["terms"]]
    named = all(role in ("reconstruction", "kl") and kernel not in unknown for role, kernel in rows)
    if not named or found["beta"] is None or not {"reconstruction", "kl"} <= {role for role, _ in rows}:
        return False
    return balance is None or abs(found["beta"]["value"] - balance) <= 1e-3 * abs(balance)


def _of_structure(model: Model) -> dict[str, Any]:
    """The terms as they were found in the flow of values, and measured."""
    terms: list[dict[str, Any]] = []
    told: list[tuple[dict[str, Any], list[Leaf]]] = []  # rows, and the addends that they are of
    for r in model.recons:
        weighed = (
            likelihood_scaling(r) if (r.learned_variance or r.moving_weight) and r.unit is None else r.scaling
        )  # an error's own weight moves with its scale
        add = _row(model, "reconstruction", recon_name(r), weighed, r.event, r.probe.weight, r.pair.meet, r.probe.reason)
        if add not in terms:  # of a loop's turns, one
            terms.append(add)
            told.append((add, r.term.leaves))
    for k in model.kls:
        if k.probe.verdict == "decomposed":
            continue
        terms.append(_kl_row(model, k))
        told.append((terms[-1], k.term.leaves))
    for p in model.parts:
        terms.append(_row(model, p.role, PART_WORDS.get(p.symbol) or PART_WORDS[p.kind], p.scaling, p.own, 0.0, p.node, "", p.symbol))
    extras = find_extras(model)
    for e in _one_each(model, extras):
        terms.append(_extra_row(model, e))
        told.append((terms[-1], e.leaves))
    if any(e.kind in PAIRS for e in extras):
        terms.sort(key=lambda t: t["role"] != "reconstruction")
    name_rows(model, told)
    for t in model.terms:
        if t.detached is not None:
            terms.append(_row(model, t.role, "detached: no gradient", None, (), 0.0, t.core, ""))
        elif t.role == "mixed":
            samples = importance_samples(model, t)
            name = f"log-mean of {samples} importance weights" if samples else "log-sum-exp that mixes its parts"
            terms.append(_row(model, t.role, name, None, (), 0.0, t.core, ""))
    beta = next((b for b in model.betas if b.recon.probe.kernel not in ("other", "unknown") and not b.kl.probe.several), None)
    unsettled = why_no_beta(model, beta, extras) if beta is not None else ""
    naming = name_objective(model, beta, extras, unsettled)
    return {
        "terms": terms,
        "beta": _beta(beta) if beta is not None and not unsettled else None,
        "objective": naming.words,
        "published": naming.sources(),
        "weights": naming.weights,
        "notes": [f"effective beta: unknown, as {unsettled}"] if unsettled else [],
    }


def _of_sites(model: Model, sites: list[SampledTerm]) -> dict[str, Any]:
    """The bound of a probabilistic program, by its sample sites."""
    rows = [_row(model, t.role, t.words, t.scaling, (), 0.0, t.node, "") | {"reduction": ""} for t in sites]
    alone = [t.shown for t in sites if t.is_alone]
    value = balance_of(sites) if not alone else None
    points = any(t.is_point for t in sites)
    words = _several_weights(sites) if value is None else "an ELBO" if abs(value - 1) < 1e-3 else f"beta-VAE, beta = {value:.6g}"
    if alone:
        words = f"no bound on the evidence: only one of guide and model has a density for the draw of {', '.join(alone)}"
    words += "; with a latent that is summed over" if sums_over(model) else ""
    return {
        "terms": rows,
        "beta": {"expression": f"{value:.6g}", "value": value, "note": ""} if value is not None else None,
        "objective": words + ("; with a latent that is a point" if points else ""),
        "published": [], "weights": {}, "notes": [],
    }  # fmt: skip


def _several_weights(sites: list[SampledTerm]) -> str:
    """A bound whose latents are weighed each on its own, or not in a way that is known."""
    likelihoods, latent = ([t for t in sites if (t.role == "reconstruction") is data and t.role != "other"] for data in (True, False))
    weights = {round(t.weight, 6) if t.weight else None for t in likelihoods}
    if len(weights) != 1 or None in weights or any(t.weight is None for t in latent):
        return "weights not all known"
    (unit,) = weights
    shown = (f"{(t.weight or 0.0) / (unit or 1.0):.6g} for {t.shown}" for t in latent)
    return f"a beta-VAE with a beta for each latent: {', '.join(shown)}"


def _kl_row(model: Model, k: KlFact) -> dict[str, Any]:
    if k.silent is None:
        place, reason = _placed(model, k), k.probe.reason
        return _row(model, "kl", kl_name(model, k), k.scaling, k.latent, k.probe.weight, place, reason, known=_is_weighed(k))
    name = next((f" ({f.text})" for f in k.factors if f.value == 0 and f.text), "")
    note = f"its weight is 0 at this step{name}; where that is 1, it is {k.silent.text()}"
    row = _row(model, "kl", kl_name(model, k), k.silent, k.latent, k.probe.weight, k.term.core, note)
    return row | {"weight": "0", "value": 0.0}


def _placed(model: Model, k: KlFact) -> fx.Node | None:
    """The expression of a KL; of one that a library adds up within a single call of the user's, the density of the posterior."""
    place = model.where(k.term.core)
    if place is not None and place != model.where(model.record.loss):
        return k.term.core
    inside = model.flow.ancestors(*(leaf.node for leaf in k.term.leaves))
    densities = [n for n in model.record.graph.nodes if n in inside and (s := n.meta.get("sampled")) and s.of_guide and not s.observed]
    drawn: dict[str, fx.Node] = {n.meta["sampled"].name: n for n in densities}
    if len(drawn) == 1:  # a bound that sums over values packs the densities anew
        return next(iter(drawn.values()))
    heads = {h for s in model.sites for h in s.heads}
    placed = [leaf for leaf in k.term.leaves if model.where(leaf.node) not in (None, place)]
    return next((leaf.node for leaf in sorted(placed, key=lambda leaf: heads.isdisjoint(leaf.frontier))), k.term.core)


def _extra_row(model: Model, e: Extra) -> dict[str, Any]:
    if e.own is not None:
        return _row(model, e.role, EXTRA_WORDS[e.kind], e.scaling, e.own, 0.0, e.node, "", e.symbol)
    scaling, reduction = weight_within(model, e.leaves[0].node, e.scaling) if e.scaling is not None else (None, "")
    row = _row(model, e.role, EXTRA_WORDS[e.kind], scaling, (), scaling.constant if scaling else 0.0, e.node, "", e.symbol)
    return row | {"reduction": reduction}


def _one_each(model: Model, extras: list[Extra]) -> list[Extra]:
    """Of a loop's turns, the first."""
    seen: dict[Any, Extra] = {}
    for e in extras:
        seen.setdefault((e.kind, model.where(e.node)), e)
    return list(seen.values())


def _row(
    model: Model,
    role: str,
    kernel: str,
    scaling: Scaling | None,
    own: tuple[str, ...],
    weight: float,
    node: fx.Node | None,
    note: str,
    symbol: str = "",
    known: bool = True,
) -> dict[str, Any]:
    place, told = model.where(node), kernel != "other" and known
    return {
        "role": role,
        "kernel": kernel,
        "weight": "" if scaling is None else abs(scaling).text() if told else scaling.form(),
        "reduction": scaling.reduction(own) if scaling is not None else "",
        "sign": "-" if weight < 0 or (scaling is not None and scaling.constant < 0) else "+",
        "value": scaling.value if scaling is not None and told and math.isfinite(scaling.value) else None,
        "symbol": symbol,
        "span": asdict(place) if place else None,
        "note": note,
    }


def kl_name(model: Model, fact: KlFact) -> str:
    """`Gaussian KL to N(0, 1), free bits`."""
    probe = fact.probe
    name = KL_WORDS[probe.verdict]
    if probe.verdict in ("other", "unknown", "drawn"):
        name = _unmeasured(model, fact)
    if probe.verdict == "monte_carlo":
        name = known_divergence(model, fact) or name
    if probe.family != "Gaussian":
        name = name.replace("N(0, 1)", f"{probe.family}(0, 1)").replace("Gaussian", probe.family)
    if probe.whole and probe.verdict in ("exact", "prior"):
        name = f"{name}, full covariance"
    if probe.verdict == "prior":
        name = (
            "Gaussian KLs to several priors"
            if probe.several
            else "Gaussian KL to a learned prior"
            if probe.learned_prior
            else "Gaussian KL to a Gaussian prior of correlated dimensions"
            if probe.correlated
            else f"{probe.family} KL to a prior of scale {probe.prior[1] ** 2:.3g}"
            if probe.family != "Gaussian"
            else f"Gaussian KL to N({round(probe.prior[0], 6) + 0.0:.3g}, {probe.prior[1] ** 2:.3g})"  # + 0.0: no "-0"
        )
    extras = [w for w, on in (("free bits", probe.floor), ("capacity", probe.capacity)) if on]
    return f"{name}, {', '.join(extras)}" if extras and probe.verdict in KNOWN else name


def _unmeasured(model: Model, fact: KlFact) -> str:
    """What can be said of a divergence that was not held against a closed form."""
    if model.sites and all(s.kind == "categorical" for s in model.sites):
        return "a divergence of a categorical posterior"
    if known := known_divergence(model, fact):
        return known
    heads = {h for s in model.sites for h in s.heads}
    made = [d for d in model.record.distributions if d.family not in ("Normal", "Independent", "Bernoulli", "Categorical")]
    families = [d.family for d in made if heads & model.flow.ancestors(*d.parameters.values(), stop={s.z for s in model.sites})]
    if families:
        return f"a divergence of a {families[0]} posterior, left alone"
    if any(s.kind == "categorical" for s in fact.term.sites):
        return "a divergence of a categorical posterior"
    return KL_WORDS[fact.probe.verdict]


def recon_name(fact: ReconFact) -> str:
    """`Bernoulli on logits`."""
    if fact.density is not None and not fact.density.fault:
        return density_words(fact.density)
    if (fact.learned_variance or fact.learned_weight is not None) and fact.probe.kernel == "squared_error":
        return "Gaussian with learned variance"
    return RECON_WORDS.get(fact.probe.kernel, fact.probe.kernel)


DENSITY_WORDS = {
    "bernoulli": "Bernoulli on probabilities",
    "continuous_bernoulli": "continuous Bernoulli",
    "exponential": "exponential, the Itakura-Saito distance",
    "gaussian": "Gaussian with learned variance",
    "gaussian_in_rows": "Gaussian with learned variance",
    "correlated_gaussian": "Gaussian of correlated dimensions",
    "gaussian_optimal": "Gaussian with the variance that fits the batch best",
    "huber": "Huber",
    "laplace": "Laplace with learned scale",
    "logistic": "logistic",
    "discretised_logistic": "discretised logistic",
    "measured": "a density of no known family, which adds up to one",
    "negative_binomial": "negative binomial",
    "zero_inflated_negative_binomial": "zero-inflated negative binomial",
    "student_t": "Student's t",
    "mixture_of_gaussian": "mixture of Gaussians",
    "mixture_of_laplace": "mixture of Laplace distributions",
    "mixture_of_logistic": "mixture of logistics",
    "mixture_of_discretised_logistic": "mixture of discretised logistics",
}


def density_words(density: Density) -> str:
    """A likelihood with the parameters that were measured: `Student's t, nu = 4`."""
    known = density.parameters
    if "nu" in known and density.learned:
        return f"{DENSITY_WORDS[density.name]}, nu = {known['nu']:.4g}"
    if "delta" in known:
        return f"{DENSITY_WORDS[density.name]}, delta = {known['delta']:.4g}"
    if "half_width" in known:
        return f"{DENSITY_WORDS[density.name]}, bins of width {2 * known['half_width']:.3g}"
    return DENSITY_WORDS[density.name]


def _beta(beta: Beta) -> dict[str, Any] | None:
    """The weight of a KL; None for another function of the posterior, of which a number against the exact KL says nothing."""
    if not _is_weighed(beta.kl):
        return None
    note = _variance_note(beta) if beta.kl.probe.verdict in KNOWN else ""
    return {"expression": beta.scaling.text(), "value": beta.value, "note": note}


def _is_weighed(fact: KlFact) -> bool:
    """Whether a term's number is that of a KL: of the posterior that is drawn, of one read otherwise, or with its sign turned."""
    return fact.probe.verdict in KNOWN | {"sign", "parameterisation"}


def _variance_note(beta: Beta) -> str:
    if beta.variance is None:
        return ""
    return f"the exact ELBO of a Gaussian decoder with variance {abs(beta.variance):.4g}"
