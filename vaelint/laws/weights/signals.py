"""Law B1, for score functions: what log q(z) is weighed with has no gradient of its own.

With the draws held, what the decoder learns from is the cost of each draw, however likely the draw was. Measured is the gradient that
reaches the signal: where it is log q, decoder and encoder follow E[log q grad f] as well, which is no part of the gradient of E[f].

Exempt are a draw that has a gradient, factors of value one that only carry a gradient (exp(log q - log q.detach())), products that are
taken back elsewhere in the loss, and squares (VarGrad).

Source: Mnih & Gregor 2014, Neural variational inference and learning, eq. 6.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.anatomy.loss.layered import layered_nodes
from vaelint.anatomy.posterior.sites import Site
from vaelint.experiment.trial import differ
from vaelint.faults.sampling.estimators import raw_forms
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.rule import Found

_NOTHING = 1e-7


@law(
    "signals-are-held",
    "what the log-probability of a draw is weighed with has no gradient of its own",
    covered=("VAE207", "VAE413", "VAE421", "VAE442"),
)
def signals_are_held(bench: Bench) -> Iterator[Broken]:
    """Products of log q(z), of a draw without a gradient, and of something decoded from it."""
    loss = bench.model.record.loss
    for site in (s for s in bench.model.sites if not s.z.meta.get("grad") and s.heads and bench.knows(s.z)) if loss is not None else ():
        for product, signal, score in _products(bench, site):
            if not _is_log_probability(bench, site, score):
                continue
            pulled = bench.base.gradient(bench.base.loss, [bench.value_with_graph(signal)])[0]
            size = float(pulled.abs().max()) if pulled is not None else 0.0
            if size > _NOTHING:
                yield _live(bench, (product, signal, score), size)
                return


def _products(bench: Bench, site: Site) -> Iterator[tuple[fx.Node, fx.Node, fx.Node]]:
    """The products of the loss whose one factor pulls at what decodes a draw, and whose other one at its posterior alone."""
    model, flow, loss = bench.model, bench.model.flow, bench.model.record.loss
    assert loss is not None
    gradients, decoded = gradients_of(model), layered_nodes(flow, [site])
    live = gradients.reach(loss)
    heads = {n for h in site.heads for n in raw_forms(model, h)}
    for product in (n for n in flow.sorted(live) if ops.op(n) in ops.MUL and site.z in flow.ancestors(n)):
        factors = [n for n in ops.value_inputs(product) if n in live and bench.knows(n)]
        if len(factors) != 2 or factors[0] is factors[1]:
            continue
        for signal, score in (factors, factors[::-1]):
            pulls = gradients.reach(score)
            of_posterior = site.z in flow.ancestors(score) and not pulls & decoded and bool(pulls & heads)
            if of_posterior and gradients.reach(signal) & decoded:
                yield product, signal, score


def _is_log_probability(bench: Bench, site: Site, score: fx.Node) -> bool:
    """Whether a value has one sign, as a log-probability has, and is another one for another draw of the same posterior."""
    value, drawn = bench.value(score), bench.value(site.z)
    axis = bench.batch_axis(site.z)
    if (bool((value > 0).any()) and bool((value < 0).any())) or axis is None:
        return False
    other = bench.after({site.z: drawn.flip(axis)}, [score]).get(score)
    return other is not None and differ(value, other) > _NOTHING


def _live(bench: Bench, nodes: tuple[fx.Node, fx.Node, fx.Node], size: float) -> Broken:
    model = bench.model
    product, signal, score = nodes
    found = Found(
        model.where(signal),
        label="has a gradient of its own, and is multiplied by log q",
        labels=model.labels((score, "the log-probability of the draw"), (product, "multiplied here")),
        why="decoder and encoder also follow the gradient of this signal, weighed by how unlikely the draw was: the estimate is biased",
        help="hold it: (cost - baseline).detach() * log_q; the cost itself is in the loss once more, with its gradient",
    )
    text = f"a gradient of up to {size:.3g} reaches the signal, where log q is its weight"
    return Broken("live-signal", found, "no gradient reaches what log q is weighed with", text)
