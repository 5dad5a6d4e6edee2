"""The anatomy and the objective in words and numbers, as reports print them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import fx

from vaelint.anatomy.model import Model
from vaelint.anatomy.objective import Beta, KlFact, ReconFact
from vaelint.anatomy.published import importance_samples, known_divergence
from vaelint.anatomy.scale import Scaling

KL_WORDS = {
    "exact": "Gaussian KL to N(0, 1)",
    "prior": "Gaussian KL to a Gaussian prior",
    "monte_carlo": "Monte Carlo KL, log q(z) - log p(z)",
    "mean_only": "Gaussian KL (only the part of the mean was measured)",
    "wrong": "not a KL: its formula is off",
    "sign": "Gaussian KL of wrong sign",
    "parameterisation": "Gaussian KL of another parameterisation than the sampler's",
    "swapped": "Gaussian KL with mean and log-variance exchanged",
    "reversed": "reversed Gaussian KL, KL(p || q)",
    "inverted_floor": "KL with its gradient cut where it is large",
    "categorical": "categorical KL",
    "bernoulli": "Bernoulli KL",
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
    terms: list[dict[str, Any]] = []
    for r in model.recons:
        terms.append(_row(model, "reconstruction", _recon_name(r), r.scaling, r.event, r.probe.weight, r.pair.meet, r.probe.reason))
    for k in model.kls:
        terms.append(_row(model, "kl", _kl_name(model, k), k.scaling, k.latent, k.probe.weight, k.term.core, k.probe.reason))
    for t in model.terms:
        if t.detached is not None:
            terms.append(_row(model, t.role, "detached: no gradient", None, (), 0.0, t.core, ""))
        elif t.role not in ("kl", "reconstruction") or (t.role == "reconstruction" and not model.recons):
            samples = importance_samples(model, t) if t.role == "mixed" else None
            name = {
                "mixed": f"log-mean of {samples} importance weights" if samples else "log-mean of importance weights, or another mixture",
                "vq": "codebook or commitment",
                "prior": "log prior of z",
                "discrepancy": "distance between samples",
            }
            terms.append(_row(model, t.role, name.get(t.role, "other"), None, (), 0.0, t.core, ""))
    betas = model.betas
    beta = next((b for b in betas if b.recon.probe.kernel not in ("other", "unknown")), None)
    return {
        "terms": terms,
        "beta": None if beta is None else {"expression": beta.scaling.text(), "value": beta.value, "note": _variance_note(beta)},
        "objective": objective_words(model, beta),
        "notes": [],
    }


def _row(
    model: Model, role: str, kernel: str, scaling: Scaling | None, own: tuple[str, ...], weight: float, node: fx.Node | None, note: str
) -> dict[str, Any]:
    place = model.where(node)
    return {
        "role": role,
        "kernel": kernel,
        "weight": "" if scaling is None else scaling.form() if kernel == "other" else scaling.text(),
        "reduction": reduction_words(scaling, own),
        "sign": "-" if weight < 0 else "+",
        "span": asdict(place) if place else None,
        "note": note,
    }


def reduction_words(scaling: Scaling | None, own: tuple[str, ...]) -> str:
    """`mean over B, sum over L`."""
    if scaling is None:
        return ""
    words = []
    for symbol in dict.fromkeys(("B", *own)):
        exponent = scaling.exponents.get(symbol, 0.0)
        how = (
            "at a fixed"
            if exponent is None
            else {0.0: "sum over", -1.0: "mean over", -2.0: "averaged twice over"}.get(exponent, f"^{exponent:g} over")
        )
        words.append(f"{how} {symbol}")
    return ", ".join(words)


def _kl_name(model: Model, fact: KlFact) -> str:
    probe = fact.probe
    name = KL_WORDS[probe.verdict]
    if probe.verdict in ("other", "unknown"):
        name = _unmeasured(model, fact)
    if probe.family != "Gaussian":
        name = name.replace("N(0, 1)", f"{probe.family}(0, 1)").replace("Gaussian", probe.family)
    if probe.whole and probe.verdict in ("exact", "prior"):
        name = f"{name}, full covariance"
    if probe.verdict == "prior":
        name = (
            "Gaussian KL to a learned prior"
            if probe.learned_prior
            else f"{probe.family} KL to a prior of scale {probe.prior[1] ** 2:.3g}"
            if probe.family != "Gaussian"
            else f"Gaussian KL to N({round(probe.prior[0], 6) + 0.0:.3g}, {probe.prior[1] ** 2:.3g})"  # + 0.0: no "-0"
        )
    extras = [w for w, on in (("free bits", probe.floor), ("capacity", probe.capacity)) if on]
    return f"{name}, {', '.join(extras)}" if extras else name


def _unmeasured(model: Model, fact: KlFact) -> str:
    """What can be said of a divergence that was not held against a closed form."""
    if any(f.value == 0 for f in fact.factors):
        return "a KL with weight 0 at this step"
    if known := known_divergence(model, fact):
        return known
    families = [d.family for d in model.record.distributions if d.family not in ("Normal", "Independent", "Bernoulli", "Categorical")]
    if families:
        return f"a divergence of a {families[0]} posterior, left alone"
    if any(s.kind == "categorical" for s in fact.term.sites):
        return "a divergence of a categorical posterior"
    return KL_WORDS[fact.probe.verdict]


def _recon_name(fact: ReconFact) -> str:
    if fact.learned_variance and fact.probe.kernel == "squared_error":
        return "Gaussian with learned variance"
    return RECON_WORDS.get(fact.probe.kernel, fact.probe.kernel)


def _variance_note(beta: Beta) -> str:
    if beta.variance is None:
        return ""
    return f"the exact ELBO of a Gaussian decoder with variance {abs(beta.variance):.4g}"


def objective_words(model: Model, beta: Beta | None) -> str:
    """One sentence on what the whole loss trains."""
    roles = {t.role for t in model.terms}
    if not model.variational and not model.kls:
        if "vq" in roles:
            return "a vector-quantised autoencoder: a codebook in the place of a posterior"
        if "discrepancy" in roles:
            return "an autoencoder whose codes are held against draws of the prior (WAE, MMD)"
        if model.wiring.draws:
            return "an autoencoder, with draws that were not identified as a posterior"
        return "an autoencoder: nothing is drawn, and there is no KL"
    for mixed in model.terms_of("mixed"):
        samples = importance_samples(model, mixed)
        if samples:
            return f"a bound on importance-weighted samples (IWAE), K = {samples}"
        return "a bound on importance-weighted samples, or another mixture of its terms"
    if beta is None:
        named = [
            f"{r} ({k})"
            for r, k in [("reconstruction", _recon_name(f)) for f in model.recons[:1]] + [("KL", _kl_name(model, f)) for f in model.kls[:1]]
        ]
        return " and ".join(named) + ": weights not all known" if named else "an objective whose weights are not all known"
    kl: KlFact = beta.kl
    if kl.probe.verdict not in ("exact", "prior", "monte_carlo", "mean_only", "categorical", "bernoulli"):
        return f"a reconstruction and a term that is {KL_WORDS[kl.probe.verdict]}"
    moves = [s for s, e in beta.scaling.exponents.items() if e]
    value = beta.value
    name = "an ELBO" if abs(value - 1) < 1e-6 and not moves else f"a beta-VAE with beta = {value:.6g}"
    return f"{name}, moving with {' and '.join(moves)}" if moves else name
