"""Terms that are left alone, by what they are made of: bounds on importance samples, total correlation, mixture priors, flows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.anatomy.kl.kl_any_draw import ends_at_normal
from vaelint.anatomy.loss.exponents import summed_exponent
from vaelint.anatomy.loss.logsums import is_axis_of_draws
from vaelint.anatomy.loss.terms import Term
from vaelint.anatomy.posterior.sites import Site
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.per_model import per_model
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.loss.facts import KlFact
    from vaelint.anatomy.model import Model


def importance_samples(model: Model, term: Term) -> int | None:
    """K of a log-mean-exp over K draws per input (Burda et al. 2016, equation 8); None where no axis of draws is reduced so."""
    for node, source in _log_sums(model, term):
        axes = _reduced(node, source)
        texts = model.dims(source)
        if len(axes) == 1 and texts[axes[0]] != "B" and any(t == "B" for t in texts) and _of_draws(model, source, axes[0]):
            return shape(source)[axes[0]]
    return None


def _of_draws(model: Model, source: fx.Node, axis: int) -> bool:
    try:
        return is_axis_of_draws(model, source, axis)
    except ReplayError:
        return False


def known_divergence(model: Model, fact: KlFact) -> str:
    """What a divergence without closed form is: a total correlation, a KL to a mixture, that of a flow; "" where it cannot be told."""
    for _, source in _log_sums(model, fact.term):
        if sum("B" in t for t in model.dims(source)) > 1:  # every sample against every posterior (Chen et al. 2018, section 4.1)
            return "KL taken apart over the minibatch: mutual information, total correlation, dimension-wise KL"
    sums = [source for _, source in _log_sums(model, fact.term) if any("B" in t for t in model.dims(source))]
    if sums and {h for s in model.sites for h in s.heads} & model.flow.ancestors(*sums, stop={s.z for s in model.sites}):
        return "Monte Carlo KL of a mixture of posteriors"  # Shi et al. 2019, section 3
    if sums:
        return "Monte Carlo KL to a mixture prior"  # Tomczak and Welling 2018, equation 9
    if is_flow(model, fact):
        return "Monte Carlo KL whose z goes through learned layers, as in a normalising flow"
    return ""


def is_flow(model: Model, fact: KlFact) -> bool:
    """Whether a drawn KL is one of a chain of maps of the draw: log q takes their volume off, and a standard normal holds their end."""
    if fact.probe.verdict not in ("drawn", "monte_carlo") or fact.site is None or model.record.loss is None or not fact.site.heads:
        return False
    known = _known_flows(model)
    if (key := (fact.term.core, fact.site.z)) not in known:
        known[key] = _ends_normal(model, fact.term, fact.site, model.record.loss)
    return known[key]


@per_model
def _known_flows(model: Model) -> dict[tuple[fx.Node | None, fx.Node], bool]:
    """What was asked before: KL and draw, and whether they are a flow's."""
    return {}


def _ends_normal(model: Model, term: Term, site: Site, loss: fx.Node) -> bool:
    """Whether the KL is that of a flow from this draw on."""
    after = model.flow.descendants(site.z) & _inside(model, term) - {site.z}
    chain = [n for n in model.flow.sorted(after) if shape(n) == shape(site.z) and _is_mapped(model, site.z, n)]
    return any(ends_at_normal(term, loss, site, n, model.replay, model.symbols) for n in reversed(chain))


def _is_mapped(model: Model, start: fx.Node, end: fx.Node) -> bool:
    """Whether something learned stands between a draw and a value made of it, and not just as the mean and the scale of a prior."""
    behind = model.flow.ancestors(end, stop={start})
    way = behind & model.flow.descendants(start) - {start}
    moved = all(ops.op(n) in ops.ADD | ops.MUL | ops.DIV | ops.SHAPE | ops.CAST | ops.SELECT | {"neg"} for n in way)
    return not moved and bool(gradients_of(model).names(behind))


def _inside(model: Model, term: Term) -> set[fx.Node]:
    return {n for leaf in term.leaves for n in (leaf.node, *model.flow.ancestors(leaf.node, stop=set(leaf.frontier)))}


def is_mixture_prior(model: Model, fact: KlFact) -> bool:
    """Whether a drawn KL's prior is a log-sum over components, each sample on its own."""
    sums = _log_sums(model, fact.term)
    return any(any("B" in t for t in model.dims(source)) for _, source in sums) and not any(
        sum("B" in t for t in model.dims(source)) > 1 for _, source in sums
    )


def shares_encoder(model: Model, fact: KlFact) -> bool:
    """Whether the components come out of the posterior's own layers, at inputs that are learned (Tomczak and Welling 2018, section 3)."""
    if fact.site is None:
        return False
    encoder = gradients_of(model).names(model.flow.ancestors(*fact.site.heads))
    prior: set[fx.Node] = set()
    for _, source in _log_sums(model, fact.term):
        prior |= model.flow.ancestors(source, stop={fact.site.z, *fact.site.heads})
    return bool(encoder & gradients_of(model).names(prior))


def _log_sums(model: Model, term: Term) -> list[tuple[fx.Node, fx.Node]]:
    pairs = [(n, summed_exponent(n)) for n in model.flow.sorted(_inside(model, term))]
    return [(n, source) for n, source in pairs if source is not None]


def _reduced(node: fx.Node, source: fx.Node) -> tuple[int, ...]:
    reducer = node if ops.op(node) == "logsumexp" else ops.value_inputs(node)[0]
    return ops.dims_of(reducer) or ()
