"""Law C5, for log-sum-exps: they run over the components of a mixture, and pull at something.

Components: a component of a mixture prior that a network puts out row by row (VampPrior) is one place for all latents. Intervention: one
latent's means and spreads are exchanged among the components. Prediction: log p(z) moves. Where it does not, the log-sum runs for each
latent by itself: a product of mixtures, of which no component is a posterior. Mixtures whose components are parameters themselves may be
of either kind, and are exempt, unless a component has one weight that is learned: what is chosen by it is the whole component.

Pull: all log-sums of the loss together, everything else of it held, have a gradient in draws or posteriors. A total correlation whose
matrix holds each draw against its own posterior alone takes itself away. A log-sum over a single entry that stands alone is a bound of
one draw, and exempt.

Source: Tomczak & Welling 2018, VAE with a VampPrior, eq. 9; Chen et al. 2018, Isolating sources of disentanglement, eq. 4 and appendix C.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.loss.logsums import LogSum, log_sums
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError, gradients
from vaelint.rule import Found

_NOTHING = 1e-9
_FEWEST = 3  # components


@law(
    "components-are-whole",
    "a component of a mixture prior that a network puts out is one place for all latents",
    covered=("VAE408", "VAE423", "VAE424"),
    cost="replay",
)
def components_are_whole(bench: Bench) -> Iterator[Broken]:
    """Mixture priors whose components come out of layers that see no data, or are parameters with one learned weight a component."""
    reasons: list[str] = []
    mixtures = [(one, m) for one in log_sums(bench.model) if (m := _Mixture.of(bench, one)) is not None]
    apart: list[tuple[LogSum, _Mixture]] = []
    for one, mixture in mixtures:
        try:
            apart += [(one, mixture)] if mixture.is_taken_apart() else []
        except ReplayError as error:
            reasons.append(message_of(error))
    kept = {m.rows for one, m in mixtures if all(one is not o for o, _ in apart)}
    for one, mixture in apart:
        if mixture.rows not in kept:  # else marginals beside the joint density: a total correlation
            yield _apart(bench, one)
    if reasons:
        raise CannotMeasureError(f"the mixture does not run by itself: {reasons[0]}")


@dataclass(frozen=True)
class _Mixture:
    """A log-sum over components, what puts them out, one row each, and the draw."""

    bench: Bench
    node: fx.Node
    rows: tuple[fx.Node, ...]
    z: fx.Node
    weights: tuple[fx.Node, ...] = ()  # learned, one for each component

    @staticmethod
    def of(bench: Bench, one: LogSum) -> _Mixture | None:
        """None where the components are no rows that layers put out, or of the data."""
        flow = bench.model.flow
        site = next((s for s in bench.model.sites if s.z in flow.ancestors(one.source) and len(shape(s.z)) == 2), None)
        if site is None or len(one.axes) != 1:
            return None
        count, width = shape(one.source)[one.axes[0]], shape(site.z)[-1]
        behind = flow.ancestors(one.source, stop={site.z})
        layers = {n for n in behind if ops.uses_parameter(n) and n not in flow.data and bench.is_real(n)}
        last = [n for n in flow.sorted(layers) if not any(n in flow.ancestors(o) and o is not n for o in layers)]
        if count < _FEWEST or count == width:
            return None
        fits = last and all(shape(n)[:1] == (count,) and len(shape(n)) == 2 and shape(n)[1] in (width, 2 * width) for n in last)
        return _Mixture(bench, one.node, tuple(last), site.z) if fits else _Mixture._of_parameters(bench, one, site.z, (count, width))

    @staticmethod
    def _of_parameters(bench: Bench, one: LogSum, z: fx.Node, size: tuple[int, int]) -> _Mixture | None:
        """Components that are parameters, chosen as a whole: by weights that are learned, one for each and none for a latent."""
        behind = bench.model.flow.ancestors(one.source, stop={z})
        own = [n for n in bench.model.flow.sorted(behind) if n.op == "get_attr" and ops.is_parameter(n)]
        rows = tuple(n for n in own if shape(n) == size)
        weights = tuple(n for n in own if n not in rows and math.prod(shape(n)) == size[0])
        return _Mixture(bench, one.node, rows, z, weights) if rows and weights and len(rows) + len(weights) == len(own) else None

    def is_taken_apart(self) -> bool:
        """Whether it is the same where one latent of the components is exchanged among them."""
        replay, sizes = self.bench.model.replay, dict(self.bench.model.record.sizes)
        generator = torch.Generator().manual_seed(5)
        given = {n: torch.randn(replay.shape_of(n, sizes), dtype=torch.float64, generator=generator) for n in (*self.rows, self.z)}
        given |= {n: torch.zeros(replay.shape_of(n, sizes), dtype=torch.float64) for n in self.weights}
        width, moved = given[self.z].shape[-1], dict(given)
        for n in self.rows:
            moved[n] = given[n].clone()
            moved[n][:, ::width] = given[n][:, ::width].roll(1, 0)  # of a layer with means and log-variances, both
        whole = {n: given[n].roll(1, 0) for n in self.rows}
        before, after, turned = (replay([self.node], {**given, **new}, sizes)[self.node] for new in ({}, moved, whole))
        size = float(before.abs().max())
        same = [float((v - before).abs().max()) <= _NOTHING * size for v in (after, turned)]
        return all(same)  # whole components exchanged are the same mixture in any case: else an order counts, and nothing is said


def _apart(bench: Bench, one: LogSum) -> Broken:
    model = bench.model
    found = Found(
        model.where(one.node),
        label="sums over the components for each latent by itself",
        labels=model.labels((one.source, "the log-densities of the single latents")),
        why="the prior is a product of mixtures, one a latent: it holds all combinations of the components' coordinates, "
        "and its log-weight is counted once for each latent",
        help="add the latents up first: torch.logsumexp(log_density.sum(-1), dim=1) - math.log(K)",
    )
    text = "exchanging one latent among the components leaves log p(z) as it was"
    return Broken("mixture-weight-repeated", found, "exchanging one latent among the components moves log p(z)", text)


@law(
    "log-sums-pull",
    "the log-sum-exps of the loss together have a gradient",
    covered=("VAE408", "VAE418", "VAE423", "VAE509"),
    cost="replay",
)
def log_sums_pull(bench: Bench) -> Iterator[Broken]:
    """Losses with several log-sums of one matrix."""
    for term in bench.model.terms:
        inside = {s.node: s for s in log_sums(bench.model)}
        leaves = [leaf for leaf in term.leaves if leaf.node in inside and leaf.detached is None]
        if term.detached is not None or len(leaves) < 2:
            continue
        try:
            if _takes_itself_away(bench, [leaf.node for leaf in leaves]):
                yield _away(bench, inside[leaves[0].node], len(leaves))
                return
        except ReplayError as error:
            raise CannotMeasureError(f"the log-sums do not run by themselves: {message_of(error)}") from error


def _takes_itself_away(bench: Bench, nodes: list[fx.Node]) -> bool:
    """Whether the loss does not move with what the log-sums are made of where all else is held, and moves with each of them."""
    model, flow = bench.model, bench.model.flow
    loss, sizes, replay = model.record.loss, dict(model.record.sizes), model.replay
    ends = {s.z for s in model.sites} | {h for s in model.sites for h in s.heads}
    behind = flow.ancestors(*nodes, stop=ends)
    leaves = [n for n in flow.sorted(ends & behind) if bench.is_real(n)]
    others = [leaf.node for term in model.terms for leaf in term.leaves if leaf.node not in nodes]
    if loss is None or not leaves or set(others) & behind - ends or any(set(others) & flow.ancestors(n) - ends for n in nodes):
        return False
    for seed in range(2):
        generator = torch.Generator().manual_seed(11 + seed)
        held = {n: torch.zeros(replay.shape_of(n, sizes), dtype=torch.float64) for n in others}
        values, sums = _finite(bench, nodes, leaves, generator)
        out = replay([loss], {**held, **sums}, sizes)[loss]
        if not out.requires_grad:
            return False
        pulls = gradients(out, list(values.values()), retain=True)
        single = gradients(sums[nodes[0]].sum(), list(values.values()), retain=True)
        size = max((float(g.abs().max()) for g in single if g is not None), default=0.0)
        alone = gradients(out, [sums[nodes[0]]])[0]
        weight = 0.0 if alone is None else float(alone.abs().max())
        if not size * weight or max((float(g.abs().max()) for g in pulls if g is not None), default=0.0) > _NOTHING * size * weight:
            return False
    return True


def _finite(
    bench: Bench, nodes: list[fx.Node], leaves: list[fx.Node], generator: torch.Generator
) -> tuple[dict[fx.Node, torch.Tensor], dict[fx.Node, torch.Tensor]]:
    """Random values at which the log-sums are numbers, and the log-sums there: of either sign, else positive, as a spread is."""
    sizes, replay = dict(bench.model.record.sizes), bench.model.replay
    for positive in (False, True):
        drawn = {n: torch.randn(replay.shape_of(n, sizes), dtype=torch.float64, generator=generator) for n in leaves}
        values = {n: (v.abs() + 0.1 if positive else v).requires_grad_() for n, v in drawn.items()}
        sums = replay(nodes, {n: v * 1 for n, v in values.items()}, sizes)
        if all(bool(v.isfinite().all()) for v in sums.values()):
            return values, sums
    raise CannotMeasureError("the log-sums are not finite at other values")


def _away(bench: Bench, one: LogSum, count: int) -> Broken:
    model = bench.model
    axis = one.axes[0]
    single = len(one.axes) == 1 and shape(one.source)[axis] == 1
    born = _born(bench, one, axis) if single else None
    found = Found(
        model.where(born if born is not None else one.node),
        label="each draw meets its own posterior alone" if single else "one of the log-sums that take each other away",
        labels=model.labels((one.node, "sums over one entry" if single else "summed here")),
        why="the term has one value whatever the encoder does: it moves the loss and trains nothing",
        help="hold every draw against every posterior: z.unsqueeze(1) against mu.unsqueeze(0), a matrix of (B, B, latents)",
    )
    text = f"the {count} log-sums move the loss one by one, and together they have no gradient"
    return Broken("term-without-gradient", found, "the log-sums of the loss have a gradient together", text)


def _born(bench: Bench, one: LogSum, axis: int) -> fx.Node | None:
    """Where the posterior gets the axis with a single entry over which it is summed."""
    flow = bench.model.flow
    draws = {s.z for s in bench.model.sites}
    ends = draws | {h for s in bench.model.sites for h in s.heads}
    own = [n for n in flow.sorted(flow.ancestors(one.source, stop=ends) - ends) if not draws & flow.ancestors(n, stop=ends)]
    fits = [n for n in own if len(shape(n)) > axis and shape(n)[axis] == 1]
    return next((n for n in fits if all(len(shape(i)) < len(shape(n)) for i in ops.value_inputs(n))), None)
