"""Law A6, for priors whose log-density is taken at the draw: mean and spread of the prior do not move with the element that they judge.

Intervention: one element of a draw is moved, that of the last place, which no prior of an earlier place reads. Prediction: mean and spread
of the Gaussian at that element stay. Where they follow it, `N(z; f(z), g(z))` is no density of z: it has no integral of one, and nothing is
left to sample from. Exempt: densities without a spread of their own (the residual layers of a flow have a log-determinant instead), means
that further noise has entered (denoisers), and maps whose element does not see itself (autoregressive and coupling flows).

Source: Krishnan, Shalit & Sontag 2017, Structured inference networks for nonlinear state space models, eq. 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.posterior.sites import Site
from vaelint.core.reach import reachable
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.rule import Found

_INVERSES = frozenset({"div", "true_divide", "divide", "mul", "multiply"})
_NOTHING = 1e-6


@law(
    "densities-do-not-look",
    "mean and spread of a Gaussian stay as the element moves whose log-density it gives",
    covered=("VAE410", "VAE434"),
)
def densities_do_not_look(bench: Bench) -> Iterator[Broken]:
    """Draws of one node; of steps that are drawn one by one the prior is another law's."""
    for site in bench.model.sites:
        if site.kind != "gaussian" or not bench.knows(site.z):
            continue
        for error in (n for n in bench.model.flow.users.get(site.z, ()) if ops.op(n) in ("sub", "rsub") and n in bench.model.reaching_loss):
            mean = next((n for n in ops.value_inputs(error) if n is not site.z), None)
            if mean is None or not _is_learned_of(bench, site, mean) or (spread := _spread(bench, site, error)) is None:
                continue
            if all(_follows(bench, site, node) for node in (mean, spread)):
                yield _broken(bench, site, mean, error)
                return


def _is_learned_of(bench: Bench, site: Site, node: fx.Node) -> bool:
    """Whether layers made a value as large as a draw of that draw, and of no noise but its own."""
    flow = bench.model.flow
    if shape(node) != shape(site.z) or site.z not in flow.ancestors(node) or not bench.knows(node):
        return False
    between = flow.ancestors(node) & flow.descendants(site.z)
    return any(ops.uses_parameter(n) for n in between) and not (flow.random & flow.ancestors(node)) - flow.ancestors(site.z)


def _spread(bench: Bench, site: Site, error: fx.Node) -> fx.Node | None:
    """The value that the error is divided by, where layers made it of the draw as well."""
    flow = bench.model.flow
    way = reachable([error], lambda n: [u for u in flow.users.get(n, ()) if ops.op(u) in ops.POINTWISE and shape(u) == shape(error)])
    for node in flow.sorted(way):
        if ops.op(node) in _INVERSES:
            for other in ops.value_inputs(node):
                if other not in way and _is_learned_of(bench, site, other):
                    return other
    return None


def _follows(bench: Bench, site: Site, node: fx.Node) -> bool:
    """Whether a value's last element moves with the draw's last element."""
    same = bench.same({s.z for s in bench.model.sites if bench.knows(s.z)})
    changed = same[site.z].clone()
    changed.reshape(-1)[-1] += 1.0
    before, after = (bench.after({**same, site.z: z}, [node]).get(node) for z in (same[site.z], changed))
    if before is None or after is None or before.shape != changed.shape:
        return False
    apart = (after - before).abs().reshape(-1)[-1]
    return bool(torch.isfinite(apart)) and float(apart) > _NOTHING * float(before.abs().max())


def _broken(bench: Bench, site: Site, mean: fx.Node, error: fx.Node) -> Broken:
    model, flow = bench.model, bench.model.flow
    enters = flow.sorted((flow.descendants(site.z) & flow.ancestors(mean)) - {site.z})
    found = Found(
        model.where(enters[0]),
        label="the prior of a step is made of the step's own draw",
        labels=model.labels((site.z, "the draw that it judges"), (error, "compared with the prior's mean here")),
        why="the prior follows the sample instead of predicting it: the KL no longer holds the posterior to anything, "
        "and sampling has no such draw to condition on",
        help="condition on the step before: shift the draws by one before the prior's network, F.pad(z, (0, 0, 1, 0))[:, :-1]",
    )
    text = "mean and spread of the prior move as the one element of the draw moves that they judge"
    return Broken("prior-sees-posterior", found, "the prior stays as the draw it judges moves", text)
