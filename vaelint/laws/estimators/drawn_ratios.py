"""Law C3, for a KL estimated at a draw of any family that is made element by element: p / q averages to one number under the sampler.

The draw is v = g(h, e), found from its random operation on and by what a layer reads; the addends of log q(v) - log p(v) are run over a
grid of the noise, at several posteriors h. E_e[exp(log p(v) - log q(v))] is the sum of p over all v, the same for every posterior. Where it
is not, log q is added up over v by itself: what is a density there is right, and the sampler is not.

Exempt: an entropy in closed form beside log p at the draw, and draws of a kind that other laws know.

Source: Owen 2013, Monte Carlo theory, methods and examples, section 9.1; Kumaraswamy 1980, for the family that is most often written out.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Leaf, Term, part_of
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.densities.lowest import weight_sign
from vaelint.laws.densities.sampler import Sampler
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_ROWS = 8
_FEWEST = 4
_SIZE = 0.7  # how far the raw values lie apart
_TRUSTED = 0.02  # half of the points must give nearly the same
_OFF = 0.15
_DENSITY = 0.05
_POINTS = 1200
_WEIGHTS = (1.0, 0.1, 0.2, 0.25, 0.5, 2.0, 4.0, 5.0, 10.0)  # a weight that stands within the expression


@law(
    "ratios-average-to-one",
    "p / q averages to one number under the draw's own sampler, whatever its family",
    covered=("VAE20", "VAE21", "VAE40", "VAE41", "VAE42", "VAE43"),
    cost="replay",
)
def ratios_average_to_one(bench: Bench) -> Iterator[Broken]:
    """Draws that no list of families knows."""
    model = bench.model
    if not model.has_loss:
        return
    front = {f for leaf in model.leaves for f in leaf.frontier if f in model.flow.learned}
    reasons: list[str] = []
    for sampler in Sampler.decoded(bench, front):
        ratio = Ratio(bench, sampler)
        if any(sampler.root in s.roots for s in model.sites) or not ratio.is_estimated:
            continue
        try:
            apart = ratio.apart()
            if apart is not None and apart > _OFF:
                yield _broken(bench, ratio, apart)
                return
        except ReplayError as error:
            reasons.append(message_of(error))
    if reasons:
        raise CannotMeasureError(f"the KL does not run by itself: {reasons[0]}")


@dataclass(frozen=True)
class Ratio:
    """The addends of log q(v) - log p(v) of one draw."""

    bench: Bench
    sampler: Sampler

    @cached_property
    def leaves(self) -> list[Leaf]:
        """Addends of the draw and of what it is made of, and of no data."""
        flow, v, heads = self.bench.model.flow, self.sampler.v, set(self.sampler.heads)
        found = []
        for leaf in self.bench.model.leaves:
            if leaf.detached is not None or leaf.role in ("reconstruction", "constant"):
                continue
            if v in flow.ancestors(leaf.node) or heads & set(leaf.frontier):
                found.append(leaf)
        return found

    @cached_property
    def own(self) -> list[Leaf]:
        """Those of log q: they see the posterior's numbers other than by the draw."""
        flow = self.bench.model.flow
        return [leaf for leaf in self.leaves if set(self.sampler.heads) & flow.ancestors(leaf.node, stop={self.sampler.v})]

    def whole(self, leaves: list[Leaf]) -> fx.Node | None:
        """The expression that holds some addends, one number for each element of the draw; None where there is none."""
        node = part_of(Term("kl", leaves), leaves, [], self.bench.model.flow).core if leaves else None
        return node if node is not None and shape(node) == shape(self.sampler.v) else None

    @property
    def is_estimated(self) -> bool:
        """Whether log q is read at the draw, and something else is too: log p."""
        flow, v = self.bench.model.flow, self.sampler.v
        at_draw = [leaf for leaf in self.own if v in flow.ancestors(leaf.node)]
        others = [leaf for leaf in self.leaves if leaf not in self.own]
        core = self.whole(self.leaves)
        if not at_draw or not others or core is None:
            return False
        inside = flow.ancestors(core, stop={v, *self.sampler.heads})
        return not any(ops.op(n) in ("detach", "data") for n in inside)

    def _at(self, nodes: list[fx.Node]) -> tuple[dict[fx.Node, torch.Tensor], torch.Tensor]:
        """Values (points, rows, elements) of some nodes and of the draw, and what each point counts."""
        replay, sampler = self.bench.model.replay, self.sampler
        sizes = {**self.bench.model.record.sizes, "B": _ROWS}
        generator = torch.Generator().manual_seed(43)
        heads = {h: _SIZE * torch.randn(replay.shape_of(h, sizes), dtype=torch.float64, generator=generator) for h in sampler.heads}
        inside = self.bench.model.flow.ancestors(*nodes, stop={*sampler.heads, sampler.v})
        front = {f for leaf in self.leaves for f in leaf.frontier if f in self.bench.model.flow.data} & inside
        others = front - set(sampler.heads)
        held = {n: _SIZE * torch.randn(replay.shape_of(n, sizes), dtype=torch.float64, generator=generator)[:1] for n in others}
        given, _, mass, whole = sampler.laid_out(heads, held)
        noise = given[sampler.noise]
        got = replay([sampler.v, *nodes], {**given, sampler.noise: noise.detach()}, whole)
        points = whole["B"] // _ROWS
        return {n: v.double().reshape(points, _ROWS, -1) for n, v in got.items()}, mass

    def apart(self) -> float | None:
        """How far log E[p / q] lies apart between posteriors, at the weight where it does least; None where the sums say nothing."""
        core = self.whole(self.leaves)
        assert core is not None
        got, mass = self._at([core])
        cost = weight_sign(self.bench, core) * got[core]
        return min((a / min(w, 1.0) for w in _WEIGHTS if (a := _spread(w * -cost, mass)) is not None), default=None)

    @property
    def is_density(self) -> bool:
        """Whether log q by itself adds up to one number over draws between 0 and 1: then it is the sampler that draws something else."""
        core, whole = self.whole(self.own), self.whole(self.leaves)
        if core is None or whole is None:
            return False
        v = self._at([whole])[0][self.sampler.v]
        if float(v.min()) < 0 or float(v.max()) > 1:
            return False
        cost = self._over((torch.arange(_POINTS, dtype=torch.float64) + 0.5) / _POINTS, core)
        change = _spread(weight_sign(self.bench, core) * cost, torch.full((_POINTS, 1, 1), 1 / _POINTS, dtype=torch.float64))
        return change is not None and change < _DENSITY

    def _over(self, points: torch.Tensor, core: fx.Node) -> torch.Tensor:
        """An expression at given draws, (points, rows, elements), whatever the sampler."""
        replay, rows = self.bench.model.replay, len(points) * _ROWS
        sizes = {**self.bench.model.record.sizes, "B": rows}
        generator = torch.Generator().manual_seed(44)
        given = {}
        for h in self.sampler.heads:
            size = replay.shape_of(h, sizes)
            one = _SIZE * torch.randn((_ROWS, *size[1:]), dtype=torch.float64, generator=generator)
            given[h] = one.repeat(len(points), *[1] * (one.dim() - 1))
        size = replay.shape_of(self.sampler.v, sizes)
        given[self.sampler.v] = points.repeat_interleave(_ROWS).reshape(-1, *[1] * (len(size) - 1)).expand(size).clone()
        found: torch.Tensor = replay([core], given, sizes)[core]
        return found.double().reshape(len(points), _ROWS, -1)


def _spread(logs: torch.Tensor, mass: torch.Tensor) -> float | None:
    """How far the logarithms of the sums over the points lie apart between rows, in the element where they lie farthest."""
    weighed = logs + mass.clamp_min(1e-300).log()
    z = torch.logsumexp(weighed, 0)
    halves = [torch.logsumexp(weighed[k::2], 0) + 0.6931471805599453 for k in (0, 1)]
    good = z.isfinite() & ((halves[0] - z).abs() < _TRUSTED) & ((halves[1] - z).abs() < _TRUSTED)
    found = [float(z[g, e].max() - z[g, e].min()) for e in range(z.shape[1]) if int((g := good[:, e]).sum()) >= _FEWEST]
    return max(found, default=None)


def _broken(bench: Bench, ratio: Ratio, apart: float) -> Broken:
    model, sampler = bench.model, ratio.sampler
    density = ratio.whole(ratio.own) or ratio.whole(ratio.leaves)
    wrong_draw = ratio.is_density
    entered = [
        n
        for n in model.flow.sorted(model.flow.descendants(sampler.noise) & (model.flow.ancestors(sampler.v) | {sampler.v}))
        if any(i in model.flow.learned and i not in model.flow.noisy for i in ops.value_inputs(n))
    ]
    drawn = entered[-1] if entered else sampler.v
    found = Found(
        model.where(drawn if wrong_draw else density),
        label="draws from another distribution than log q is of" if wrong_draw else "not the log-density of the draw",
        labels=model.labels((density, "log q") if wrong_draw else (drawn, "drawn here")),
        why="the estimate is not a KL: the loss is minimised by the wrong posterior",
        help="draw by the inverse of the distribution function whose derivative is the density in the KL"
        if wrong_draw
        else "take log q(z) from the distribution that z is drawn from: the derivative of its distribution function",
    )
    text = f"the averages of p / q differ by a factor of {torch.tensor(min(apart, 50.0)).exp():.3g} between posteriors"
    told = "; log q by itself adds up to one" if wrong_draw else ""
    return Broken("kl-formula", found, "p / q averages to one number, the same for every posterior", text + told)
