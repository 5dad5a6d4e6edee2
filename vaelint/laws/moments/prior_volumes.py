"""Law C1, for a prior made by a map: what is added for its volumes is the logarithm of the map's own Jacobian.

For log p(z) = log p_0(f(z)) + log|det df/dz|, the addends of -log p that see z by way of the map's layers and not its end are a
multiple of -log|det df/dz|, whatever the base density and the map are. Intervention: the draw and the map's weights are moved, and the
Jacobian is taken from the recorded map itself. Where the addends move with its logarithm and are no multiple of it, p is no density.

Exempt: addends that do not follow the volumes closely (a critic, an energy), a map of which some inner value fulfils it, and what is near
the volumes by intention: a trace added up over small steps of time, where neither the map has an exponential nor the addends a logarithm,
and an estimate with noise of its own.

Source: Dinh et al. 2017, Density estimation using Real NVP, eq. 3.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError, gradients
from vaelint.rule import Found

_WIDEST = 64
_STATES = 24
_MOVED = 0.3  # how far the map's weights lie from their own values: near the identity all volumes are 1
_OFF = 0.02
_UNRELATED = 0.75  # a correlation of 0.66: of 24 states, what is unrelated comes that near once in 2000 times
_EXACT = frozenset({"exp", "log", "log1p", "logsigmoid", "log_sigmoid", "logdet", "slogdet"})


@law(
    "prior-volumes-are-the-maps",
    "what a prior adds for the volumes of its map is the logarithm of the map's Jacobian",
    covered=("VAE408", "VAE423", "VAE424", "VAE427", "VAE428"),
    cost="replay",
)
def prior_volumes_are_the_maps(bench: Bench) -> Iterator[Broken]:
    """Terms with a draw that layers map, and that is judged at the end of the map."""
    for term in bench.model.terms:
        if term.role not in ("kl", "prior") or term.detached is not None:
            continue
        for site in term.sites:
            if len(shape(site.z)) != 2 or shape(site.z)[-1] > _WIDEST:
                continue
            try:
                off = [s for end, volumes in _ends(bench, term, site) if (s := _off(bench, site, end, volumes)) is not None]
            except ReplayError as error:
                raise CannotMeasureError(f"the prior's map does not run by itself: {message_of(error)}") from error
            if off and _OFF < min(off) < _UNRELATED:
                yield _broken(bench, term, site, min(off))


def _ends(bench: Bench, term: Term, site: Site) -> list[tuple[fx.Node, list[Leaf]]]:
    """Values of the draw's shape that layers made of it and that a density without layers judges, each with the addends beside it."""
    flow = bench.model.flow
    leaves = [leaf for leaf in term.leaves if leaf.detached is None and site.z in flow.ancestors(leaf.node)]
    inside = flow.ancestors(*(leaf.node for leaf in leaves), stop={site.z}) & flow.descendants(site.z)
    mapped = [leaf for leaf in leaves if _by_layers(bench, leaf.node, site)]
    if _is_decoded(bench, term, site, inside) or _is_of_another(bench, site, mapped):
        return []
    ends = flow.sorted({n for n in inside if shape(n) == shape(site.z) and bench.is_real(n) and _by_layers(bench, n, site)})
    found = []
    for end in (n for n in ends if not any(map(_is_layer, flow.descendants(n) & inside))):
        judged = [leaf for leaf in leaves if end in flow.ancestors(leaf.node)]
        volumes = [leaf for leaf in mapped if leaf not in judged]
        passed = judged and not any(site.z in flow.ancestors(leaf.node, stop={end}) for leaf in judged)
        if passed and volumes and _are_exact(bench, site, end, volumes):
            found.append((end, volumes))
    return found


def _is_decoded(bench: Bench, term: Term, site: Site, inside: set[fx.Node]) -> bool:
    """Whether the map is the posterior's: what it puts out is decoded."""
    decoded = [leaf.node for other in bench.model.terms if other is not term for leaf in other.leaves]
    return any(shape(n) == shape(site.z) for n in (inside - {site.z}) & bench.model.flow.ancestors(*decoded))


def _is_of_another(bench: Bench, site: Site, mapped: list[Leaf]) -> bool:
    """Whether it is the density of another draw, given this one."""
    others = {n for s in bench.model.sites if s is not site for n in (s.z, *s.heads)}
    return any(others & bench.model.flow.ancestors(leaf.node, stop={site.z}) for leaf in mapped)


def _are_exact(bench: Bench, site: Site, end: fx.Node, volumes: list[Leaf]) -> bool:
    """Whether volumes are meant to the last digit: no trace for a determinant, no noise of their own."""
    flow = bench.model.flow
    made = flow.ancestors(end, *(leaf.node for leaf in volumes), stop={site.z})
    way = made & flow.descendants(site.z) | {leaf.node for leaf in volumes}
    return any(ops.op(n) in _EXACT for n in way) and not made & flow.random - {site.z}


def _is_layer(node: fx.Node) -> bool:
    return ops.uses_parameter(node) and ops.op(node) in ops.LAYERS


def _by_layers(bench: Bench, node: fx.Node, site: Site) -> bool:
    """Whether a layer reads the draw on the way to a node."""
    flow = bench.model.flow
    return any(_is_layer(n) for n in flow.ancestors(node, stop={site.z}) & flow.descendants(site.z))


def _off(bench: Bench, site: Site, end: fx.Node, volumes: list[Leaf]) -> float | None:
    """By what share of their own moves the addends part from the best multiple of the map's log-volumes; None where nothing moves."""
    model = bench.model
    sizes, loss = dict(model.symbols), model.record.loss
    assert loss is not None
    quiet = silence_others(Term("other", volumes), model.replay, sizes)
    numbers = [n for n in model.flow.ancestors(end, stop={site.z}) if n.op == "get_attr" and n.meta.get("parameter")]
    values, logs = [], []
    for seed in range(_STATES):
        generator = torch.Generator().manual_seed(40 + seed)
        held = {n: v.detach().double() for n, v in model.replay(numbers, {}, sizes).items()}
        for n in numbers:
            held[n] = held[n] + _MOVED * torch.randn(held[n].shape, dtype=torch.float64, generator=generator)
        z = torch.randn(model.replay.shape_of(site.z, sizes), dtype=torch.float64, generator=generator).requires_grad_()
        last = model.replay([end], {**held, site.z: z * 1}, sizes)[end]
        rows = [gradients(last[:, d], [z], retain=True)[0] for d in range(z.shape[1])]
        if any(r is None for r in rows):
            return None
        logs.append(torch.linalg.slogdet(torch.stack([r for r in rows if r is not None], 1))[1].sum().detach())
        values.append(model.replay([loss], {**quiet, **held, site.z: z.detach()}, sizes)[loss].sum().detach())
    return _share(torch.stack(values), torch.stack(logs))


def _share(values: torch.Tensor, logs: torch.Tensor) -> float | None:
    """By what share the first part from the best multiple of the second; None where one of them does not move."""
    values, logs = values - values.mean(), logs - logs.mean()
    if not bool(values.isfinite().all() and logs.isfinite().all()) or float(values.norm() * logs.norm()) < 1e-12:
        return None
    rest = values - (values * logs).sum() / logs.square().sum() * logs
    return float(rest.norm() / values.norm())


def _broken(bench: Bench, term: Term, site: Site, off: float) -> Broken:
    model, flow = bench.model, bench.model.flow
    end, volumes = _ends(bench, term, site)[-1]
    beside = flow.ancestors(*(leaf.node for leaf in volumes), stop={site.z}) & flow.descendants(site.z) - flow.ancestors(end)
    place = next((n for n in flow.sorted(beside) if model.where(n)), volumes[0].node)
    found = Found(
        model.where(place),
        label="not the logarithm of the factor by which the prior's map changes volumes",
        labels=model.labels((end, "the end of the map, where the base density is read"), (site.z, "drawn here")),
        why="log p(z) is not a log-density: the prior learns to shrink or spread instead of learning where the codes are",
        help="log p(z) = log p_0(f(z)) + log|det df/dz|: a coupling scales one half by what it makes of the other half alone, "
        "and its log-determinant is the sum of the logarithms of those scales",
    )
    text = f"it differs from the best multiple of it by {100 * off:.2g} % of its own moves"
    return Broken("latent-density-formula", found, "what is added moves as the log-determinant of the map does", text)
