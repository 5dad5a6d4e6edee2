"""What the whole loss trains: the published objective that its terms make up, with its source and the weights its paper has."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import field, replace
from typing import TYPE_CHECKING

from vaelint.anatomy.kl.kl_probe import KNOWN
from vaelint.anatomy.loss.balance import effective_beta, likelihood_scaling
from vaelint.anatomy.loss.extras import PAIRS, Extra, weight_of_its_mean
from vaelint.anatomy.loss.facts import Beta, KlFact
from vaelint.anatomy.loss.given_inputs import is_conditioned, labels_are_decoded
from vaelint.anatomy.loss.published import importance_samples, is_flow, is_mixture_prior, shares_encoder
from vaelint.anatomy.loss.unsettled import has_unknown_weight
from vaelint.anatomy.posterior.sites import Site, draws_of
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.replay.scale import Scaling, format_product, ratio

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_ONE = 1e-3  # a beta this near 1 is one: small constants in a scale or a logarithm move it

SOURCES = {
    "beta-VAE": "Higgins et al. 2017",
    "beta-TC-VAE": "Chen et al. 2018",
    "DIP-VAE-I": "Kumar et al. 2018",
    "DIP-VAE-II": "Kumar et al. 2018",
    "FactorVAE": "Kim and Mnih 2018",
    "InfoVAE": "Zhao et al. 2019",
    "WAE-MMD": "Tolstikhin et al. 2018",
    "VQ-VAE": "van den Oord et al. 2017",
    "IWAE": "Burda et al. 2016",
    "VGAE": "Kipf and Welling 2016",
    "JointVAE": "Dupont 2018",
    "hierarchical VAE": "Sonderby et al. 2016",
    "VampPrior": "Tomczak and Welling 2018",
    "normalising flow": "Rezende and Mohamed 2015",
    "sigma-VAE": "Rybkin et al. 2021",
    "continuous Bernoulli": "Loaiza-Ganem and Cunningham 2019",
    "scVI": "Lopez et al. 2018",
    "discretised logistic mixture": "Salimans et al. 2017",
    "Gumbel-softmax": "Jang et al. 2017, Maddison et al. 2017",
    "capacity": "Burgess et al. 2018",
    "free bits": "Kingma et al. 2016",
    "KL balancing": "Hafner et al. 2021",
    "CVAE": "Sohn et al. 2015",
    "M2": "Kingma et al. 2014",
    "feature loss": "Larsen et al. 2016, Hou et al. 2017",
    "adversarial": "Makhzani et al. 2016",
    "S-VAE": "Davidson et al. 2018",
}


@dataclass
class Naming:
    """The objective in one sentence; the published names in it; the weights under the symbols of those papers."""

    words: str
    published: list[str] = field(default_factory=list)
    weights: dict[str, float] = field(default_factory=dict)

    def sources(self) -> list[dict[str, str]]:
        """Name and source of each."""
        return [{"name": n, "source": SOURCES[n]} for n in dict.fromkeys(self.published)]


class _Said:
    """Collects a sentence: its head, then what stands beside it."""

    def __init__(self) -> None:
        self.naming = Naming("")
        self.beside: list[str] = []

    def name(self, key: str, text: str = "") -> str:
        self.naming.published.append(key)
        return f"{text or key} ({SOURCES[key]})"

    def weight(self, **weights: float) -> str:
        self.naming.weights |= weights
        return ", ".join(f"{k} = {v:.6g}" for k, v in weights.items())

    def done(self, head: str) -> Naming:
        self.naming.words = "; ".join([head, *self.beside])
        return self.naming


def name_objective(model: Model, beta: Beta | None, extras: list[Extra], unsettled: str = "") -> Naming:
    """What the terms of a loss amount to; where a weight is not known, which. `unsettled` says why a weight of the KL is no beta."""
    said = _Said()
    for text in (*_likelihoods(model, said), *_posteriors(model, said), *_beside(model, extras, said)):
        if text not in said.beside:
            said.beside.append(text)
    return said.done(
        _without_posterior(model, extras, said)
        or _of_pairs(model, extras, said)
        or _bound(model, said)
        or ("a reconstruction and KLs: weights not all known" if unsettled and has_unknown_weight(model) else "")
        or ("a reconstruction and a KL whose weight is not a fixed number" if unsettled else "")
        or _decomposed(model, said)
        or _penalised(model, beta, extras, said)
        or _elbo(model, beta, said)
    )


def _per_sample(model: Model, scaling: Scaling | None) -> float | None:
    """A weight on a mean over the batch against the reconstruction's weight of one sample; None where it moves with the sizes."""
    likelihood = likelihood_scaling(model.recon) if model.recon is not None else None
    if scaling is None or likelihood is None or not likelihood.constant:
        return None
    against, unit = ratio(scaling, likelihood, model.symbols), _unit(model, likelihood)
    powers = {s: e for s, e in against.exponents.items() if e}
    return (against.constant if set(powers) <= {"B"} else against.value) / unit


def _unit(model: Model, likelihood: Scaling) -> float:
    """What counts as weight 1 of the reconstruction, in its own units: 2 of those that have the 1/2 of a Gaussian, as beta has it."""
    known = ((b.kl.scaling.constant, b.scaling.constant) for b in model.betas if b.kl.scaling is not None)
    return next((abs(kl / beta / likelihood.constant) for kl, beta in known if kl and beta), 1.0)


def _without_posterior(model: Model, extras: list[Extra], said: _Said) -> str:
    if model.variational or model.kls:
        return ""
    found = {e.kind: e for e in extras}
    if any(e.role == "vq" for e in extras):
        weights = {kind: weight_of_its_mean(model, e) for kind, e in found.items() if kind in ("codebook", "commitment")}
        parts = [f"{kind} {w.text()}" for kind, w in weights.items() if w is not None]
        said.naming.weights |= {kind: w.value for kind, w in weights.items() if w is not None}
        return f"a vector-quantised autoencoder, {said.name('VQ-VAE')}" + (f": {', '.join(parts)}" if parts else "")
    if "mmd" in found or "distance" in found:
        term = found.get("mmd", found.get("distance", extras[0]))
        weight = (
            _per_sample(model, term.scaling) if model.recon is not None and model.recon.probe.kernel not in ("other", "unknown") else None
        )
        said.beside = [b for b in said.beside if "discrepancy" not in b]
        name = f", {said.name('WAE-MMD')}" if "mmd" in found else ""
        return f"an autoencoder whose codes are held against draws of the prior{name}" + (
            f": {said.weight(**{'lambda': weight})}" if weight else ""
        )
    if draws_of(model):
        return "an autoencoder, with draws that were not identified as a posterior"
    known = all(term.role != "other" for term in model.terms)
    return "an autoencoder: nothing is drawn, and there is no KL" if known else "an autoencoder: nothing is drawn"


def _of_pairs(model: Model, extras: list[Extra], said: _Said) -> str:
    if model.recons or not model.kls or not any(e.kind in PAIRS for e in extras):
        return ""
    return f"a likelihood of pairs and a KL, {said.name('VGAE')}: no effective beta, as pairs are not samples"


def _bound(model: Model, said: _Said) -> str:
    for mixed in model.terms_of("mixed"):
        samples = importance_samples(model, mixed)
        if samples:
            said.naming.published.append("IWAE")
            return f"a bound on importance-weighted samples (IWAE, {SOURCES['IWAE']}), {said.weight(K=float(samples))}"
    return "" if (model.recons and model.kls) or not model.term("mixed") else "a log-sum-exp that mixes reconstruction and divergence"


def _decomposed(model: Model, said: _Said) -> str:
    parts = {p.symbol: _per_sample(model, p.scaling) for p in model.parts if p.kind == "total_correlation"}
    if not parts:
        return ""
    known = {k: v for k, v in parts.items() if v is not None}
    if len(known) < len(parts):
        return f"{said.name('beta-TC-VAE')}: a KL taken apart over the minibatch, against a reconstruction of unknown weight"
    zero = {k: known.get(k, 0.0) for k in ("alpha", "beta", "gamma")}
    if "kl" not in known:
        return f"{said.name('beta-TC-VAE')}: {said.weight(**zero)}"
    closed = known["kl"]  # a closed KL is all three parts at once
    whole = {k: v + closed for k, v in zero.items()}
    return f"{said.name('beta-TC-VAE')}: {said.weight(**whole)}, its KL in closed form"


def _penalised(model: Model, beta: Beta | None, extras: list[Extra], said: _Said) -> str:
    if beta is None or beta.kl.probe.verdict not in KNOWN:
        return ""
    dips = {p.symbol: _per_sample_of_sum(model, p.scaling) for p in model.parts if p.kind in ("dip_i", "dip_ii")}
    if dips:
        kind = next(p.kind for p in model.parts if p.kind.startswith("dip"))
        known = {k: v for k, v in dips.items() if v is not None}
        return f"{said.name('DIP-VAE-I' if kind == 'dip_i' else 'DIP-VAE-II')}: {_elbo_words(beta, said)} + {said.weight(**known)}"
    found = {e.kind: e for e in extras}
    apart = _per_sample(model, found["mmd"].scaling) if "mmd" in found else None
    if apart is not None and not _moves(beta):
        said.beside = [b for b in said.beside if "discrepancy" not in b]
        said.weight(alpha=1 - beta.value, **{"lambda": apart + beta.value})
        return (
            f"{said.name('InfoVAE')}: KL {beta.value:.6g} and MMD {apart:.6g}, "
            f"alpha = {_short(1 - beta.value)}, lambda = {apart + beta.value:.6g}"
        )
    score = found.get("critic_z")
    gamma = _per_sample(model, score.scaling) if score is not None and score.leaves[0].node in score.leaves[0].frontier else None
    if gamma is not None:
        said.beside = [b for b in said.beside if "score of z" not in b]
        return f"{said.name('FactorVAE')}: {_elbo_words(beta, said)} + {said.weight(gamma=abs(gamma))} times the total correlation"
    return ""


def _per_sample_of_sum(model: Model, scaling: Scaling | None) -> float | None:
    """The weight of one number for the whole minibatch, against a mean over the batch of the reconstruction."""
    if scaling is None:
        return None
    return _per_sample(model, Scaling(scaling.value, {**scaling.exponents, "B": (scaling.exponents.get("B") or 0.0) - 1}, scaling.constant))


def _short(value: float) -> str:
    return f"{0.0 if abs(value) < 1e-9 else value:.6g}"


def _moves(beta: Beta) -> list[str]:
    return [s for s, e in beta.scaling.exponents.items() if e]


def _elbo_words(beta: Beta, said: _Said) -> str:
    moves = _moves(beta)
    if abs(beta.value - 1) < _ONE and not moves:
        return "an ELBO"
    said.weight(beta=beta.value)
    text = f"a beta-VAE with beta = {beta.value:.4g}"
    said.naming.published.append("beta-VAE")
    return f"{text} ({SOURCES['beta-VAE']})" + (f", moving with {' and '.join(moves)}" if moves else "")


def _elbo(model: Model, beta: Beta | None, said: _Said) -> str:
    if beta is None:
        return _silent(model) or _unknown(model)
    if beta.kl.probe.verdict not in KNOWN:
        from vaelint.anatomy.loss.describe import KL_WORDS

        return f"a reconstruction, and a term of the posterior: {KL_WORDS[beta.kl.probe.verdict]}"
    families = {f.probe.family for f in model.kls}
    values = [b.value for b in model.betas if b.kl.probe.verdict in KNOWN]
    if {"Gaussian", "Categorical"} <= families:
        return f"{said.name('JointVAE')}: " + _joint(model, said)
    if values and max(values) - min(values) > _ONE * max(map(abs, values)) and len(values) == len(model.kls):
        said.naming.weights |= {f"beta_{i + 1}": v for i, v in enumerate(values)}
        return f"{said.name('beta-VAE')} with a beta for each latent: {', '.join(f'{v:.6g}' for v in values)}"
    return _elbo_words(beta, said)


def _joint(model: Model, said: _Said) -> str:
    words = {"Gaussian": "beta_z", "Categorical": "beta_c"}
    return said.weight(**{words.get(b.kl.probe.family, b.kl.probe.family): b.value for b in model.betas})


def _silent(model: Model) -> str:
    """A KL whose weight is 0 at this step: the reconstruction alone is trained."""
    for k in model.kls:
        if k.silent is None or model.recon is None:
            continue
        name = next((f" ({f.text})" for f in k.factors if f.value == 0 and f.text), "")
        known = model.recon.probe.kernel not in ("other", "unknown")
        full = effective_beta(replace(k, scaling=k.silent), model.recon, model.symbols) if known else None
        beta = f": where it is 1, beta = {format_product(full.value, {})}" if full is not None else ""
        return f"a reconstruction alone at this step, as the KL's weight is 0{name}{beta}"
    return ""


def _unknown(model: Model) -> str:
    from vaelint.anatomy.loss.describe import kl_name, recon_name

    known = [f"reconstruction ({recon_name(f)})" for f in model.recons[:1]] + [f"KL ({kl_name(model, f)})" for f in model.kls[:1]]
    return f"{' and '.join(known)}: weights not all known" if known else "an objective whose weights are not all known"


def _likelihoods(model: Model, said: _Said) -> Iterator[str]:
    for fact in model.recons:
        name = fact.density.name if fact.density is not None else ""
        if name == "gaussian" and any(n in model.flow.data for n in fact.pair.extra):
            yield "the decoder gives each element its variance"
        elif name == "gaussian":
            yield f"the decoder's variance is learned, as in a {said.name('sigma-VAE')}"
        elif name == "gaussian_optimal":
            yield f"the decoder's variance fits the batch best, as in an {said.name('sigma-VAE', 'optimal sigma-VAE')}"
        elif name == "continuous_bernoulli":
            yield f"on {said.name('continuous Bernoulli')} data"
        elif "negative_binomial" in name:
            yield f"counts as in {said.name('scVI')}"
        elif "discretised_logistic" in name:
            yield f"on grey levels, {said.name('discretised logistic mixture', 'discretised logistic')}"


def _posteriors(model: Model, said: _Said) -> Iterator[str]:
    known = [k for k in model.kls if k.probe.verdict != "decomposed"]
    for k in known:
        if is_flow(model, k):
            yield f"with a {said.name('normalising flow')}"
        elif k.probe.verdict in ("drawn", "monte_carlo") and is_mixture_prior(model, k):
            yield f"with a {said.name('VampPrior')}" if shares_encoder(model, k) else "with a mixture prior"
        elif k.probe.verdict in ("categorical", "bernoulli") and _is_relaxed(model, k):
            yield f"with a relaxed discrete posterior, {said.name('Gumbel-softmax')}"
        elif k.probe.family == "von Mises-Fisher":
            yield f"on a sphere, {said.name('S-VAE')}"
        if k.probe.capacity and k.probe.verdict in KNOWN:
            yield f"the KL is held at a capacity ({_source(said, 'capacity')})"
        if k.probe.floor and k.probe.verdict in KNOWN:
            yield f"with free bits ({_source(said, 'free bits')})"
    latents = {k.site.heads for k in known if k.site is not None}
    sees_draws = any(k.probe.learned_prior and _is_conditional(model, k) for k in known)
    of_steps = _drawn_in_steps(model)
    if sees_draws and of_steps:
        yield "a prior that sees the draws of earlier steps"
    elif len(latents) > 1 and sees_draws:
        yield f"{len(latents)} latents in a hierarchy ({_source(said, 'hierarchical VAE')})"
    if is_conditioned(model):
        yield "conditional" if of_steps else f"conditional, {said.name('CVAE')}"  # the actions of a world model are no labels


def _source(said: _Said, key: str) -> str:
    said.naming.published.append(key)
    return SOURCES[key]


def _is_conditional(model: Model, fact: KlFact) -> bool:
    """Whether a KL's prior sees another latent."""
    others = {s.z for s in model.sites if fact.site is not None and s.heads != fact.site.heads}
    loose = {f for leaf in fact.term.leaves for f in leaf.frontier}
    return bool(model.flow.ancestors(*loose) & others) if loose else False


def _drawn_in_steps(model: Model) -> bool:
    """Whether one line draws several times by the same layers, each draw made of the one before: steps, not the levels of a ladder."""
    places: dict[object, list[Site]] = {}
    for site in model.sites:
        places.setdefault(model.where(site.z), []).append(site)
    return any(
        _layers(first) & _layers(later) and first.z in model.flow.ancestors(*later.heads)
        for of_line in places.values()
        for first, later in itertools.pairwise(sorted(of_line, key=lambda s: model.flow.order[s.z]))
    )


def _layers(site: Site) -> set[object]:
    """The parameters of the layers that give mean and spread."""
    found: set[object] = set()
    for node in site.heads:
        for _ in range(8):
            found |= {n.target for n in node.all_input_nodes if n.op == "get_attr" and n.meta.get("parameter")}
            sources = ops.value_inputs(node)
            if found or len(sources) != 1:
                break
            node = sources[0]
    return found


def _is_relaxed(model: Model, fact: KlFact) -> bool:
    """Whether discrete draws are relaxed: made of logistic or Gumbel noise by a tempered sigmoid or softmax, and not a draw of 0 and 1."""
    return not any(ops.op(r) in ("bernoulli", "multinomial") for s in fact.term.sites for r in s.roots)


def _beside(model: Model, extras: list[Extra], said: _Said) -> Iterator[str]:
    for e in extras:
        at = f" of weight {_plainly(model, e.scaling)}" if e.scaling is not None else ""
        if e.kind == "features":
            yield f"with a distance of features{at} ({_source(said, 'feature loss')})"
        elif e.kind == "spectral":
            yield f"with a distance of spectra{at}"
        elif e.kind in ("critic_recon", "critic_z"):
            what = "reconstruction" if e.kind == "critic_recon" else "z"
            source = "adversarial" if e.kind == "critic_z" else "feature loss"
            yield f"with a network's score of {'the ' if what != 'z' else ''}{what} ({_source(said, source)})"
        elif e.kind == "supervised":
            given = f"with a prediction of given labels{at}"
            yield f"{given}, as in {said.name('M2')}" if labels_are_decoded(model, e) else given
        elif e.kind == "held":
            yield f"with the same divergence where the posterior is held fixed, {said.name('KL balancing')}"
        elif e.kind in ("mmd", "distance"):
            yield f"with a discrepancy to draws of the prior{at}"
        elif e.kind == "weights":
            yield "with a penalty on parameters"
        elif e.kind == "undrawn":
            yield "with the KL of a Gaussian that nothing is drawn from"
        elif e.kind == "other":
            yield "with a term that vaelint does not know"
    if model.recons and model.kls and (mixed := model.term("mixed")) is not None and not importance_samples(model, mixed):
        yield "with a log-sum-exp that mixes its parts"
    if any(p.kind == "batch" for p in model.parts):
        yield "with a penalty on the minibatch that vaelint does not know"


def _plainly(model: Model, scaling: Scaling) -> str:
    """A weight against the reconstruction where both are taken alike; else as it stands."""
    recon = likelihood_scaling(model.recon) if model.recon is not None else None
    if recon is None or not recon.constant or any(e for s, e in recon.exponents.items() if s != "B"):
        return scaling.text()
    against = ratio(scaling, recon, model.symbols)
    if any(e for s, e in against.exponents.items() if s != "B"):
        return scaling.text()
    return _short(abs(against.constant) / _unit(model, recon))
