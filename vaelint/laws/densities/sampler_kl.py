"""Law C3 and C4, for a KL in closed form of a draw that is made element by element, whatever the family and the prior.

w KL(q || p) + c is linear in q but for its entropy: -w H(q) + E_q[f(v)] with one function f = -w log p. So over many posteriors the
gradient of the term is that of -H, taken from the model's own sampler, and those of E[v], E[v^2], E[log v], ... in fixed proportions.
Where no proportions explain it, the term is no KL of what is drawn, to any prior of an exponential family, half-normal or Laplace.

Exempt: a term that is a divergence all the same, never below 0 and 0 somewhere (Wasserstein, Jeffreys, Renyi), a KL with a further
penalty beside it, a bent KL (a square, a bound of its sum), a series that is cut off where it is near in some range, and a draw that is
one coordinate of another (the height of a point on a sphere, whose density has the circles' lengths in it).

Source: Kingma & Welling 2014, appendix B; Nalisnick & Smyth 2017, eq. 8, for a family without a prior of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import torch
from torch import fx

from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.mended import mended_operation, said_of
from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.densities.information import information
from vaelint.laws.densities.lowest import Lowest
from vaelint.laws.densities.sampler import Drawn, Sampler
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.replay.replay import ReplayError, gradients
from vaelint.rule import Found

_ROWS = 16
_ELEMENTS = 2
_RANGES = ((-0.8, 0.8), (0.5, 2.0), (2.5, 5.0), (4.0, 8.0))  # of the heads
_FITS = 6e-3  # of the gradient: what a series that is cut off leaves
_OFF = 0.08
_MENDED = 0.15
_SAME = 0.1  # of the weight, between ranges
_UNEVEN = 0.05  # half of the points must give nearly the same
_FEWEST = 3  # ranges
_LINEAR = ops.ADD | ops.SHAPE | ops.CAST | ops.SELECT | ops.JOIN | ops.LINEAR_REDUCE | {"neg", "negative"}

Heads = dict[fx.Node, torch.Tensor]


@law(
    "kl-fits-its-sampler",
    "a KL in closed form moves as the entropy of its own draw, and as expectations under it",
    covered=("VAE20", "VAE21", "VAE40", "VAE41", "VAE42", "VAE43"),
    cost="replay",
)
def kl_fits_its_sampler(bench: Bench) -> Iterator[Broken]:
    """Draws made element by element. Terms that read the draw itself are estimates, and have a law of their own."""
    exact = [f for f in bench.model.kls if f.site is not None and (f.probe.distance or f.probe.verdict in ("exact", "prior"))]
    proven = {f.site.z for f in exact if f.site is not None}
    read = {leaf.node for f in exact for leaf in f.term.leaves}
    relaxed = {r for s in bench.model.sites if s.kind == "categorical" for r in s.roots}  # charged for the classes that they stand for
    reasons: list[str] = []
    for term in bench.model.terms:
        if term.role not in ("kl", "other") or term.detached is not None or term.core is None or any(x.node in read for x in term.leaves):
            continue
        for sampler in Sampler.all_of(bench, term):
            closed = ClosedForm(bench, term, sampler)
            if sampler.v in proven or sampler.root in relaxed or closed.is_bent or sampler.is_one_coordinate or closed.is_of_given_data:
                continue
            try:
                found = closed.fault()
            except ReplayError as error:
                reasons.append(message_of(error))
                continue
            if found is not None and not any(one.fits for one in closed.with_one_held):
                yield _broken(bench, closed, *found)
                return
    if reasons:
        raise CannotMeasureError(f"the KL does not run by itself: {reasons[0]}")


@dataclass(frozen=True)
class Fit:
    """What a term's gradient leaves unexplained, as a share of it, and the weight of the entropy; `leaf` is that of one addend set free."""

    left: float
    weight: float
    leaf: float = 1.0


@dataclass(frozen=True)
class ClosedForm:
    """A term, as a function of the raw values of one draw; all else is held."""

    bench: Bench
    term: Term
    sampler: Sampler

    @cached_property
    def others(self) -> list[fx.Node]:
        """The term's other raw values: a prior's, another posterior's."""
        flow = self.bench.model.flow
        front = {f for leaf in self.term.leaves for f in leaf.frontier}
        return [f for f in flow.sorted(front) if f not in self.sampler.heads and f in flow.learned]

    @property
    def is_of_given_data(self) -> bool:
        """Whether the term scores data by this distribution: a likelihood of what a label says, and no KL."""
        flow = self.bench.model.flow
        front = {f for leaf in self.term.leaves for f in leaf.frontier}
        return self.term.role == "other" and any(f in flow.data and f not in flow.learned for f in front)

    @property
    def is_bent(self) -> bool:
        """Whether something is made of a sum over the elements that is not linear in it: a square, a bound, a capacity."""
        flow = self.bench.model.flow
        ends = {*self.sampler.heads, *self.others}
        inside = flow.ancestors(*(leaf.node for leaf in self.term.leaves), stop=ends) - ends
        sums = flow.descendants(*(n for n in inside if ops.op(n) in ops.LINEAR_REDUCE and n in flow.learned)) & inside
        return any(ops.op(n) not in _LINEAR and n.op == "call_function" and not _is_scaled(n, flow.learned) for n in sums)

    @property
    def with_one_held(self) -> Iterator[ClosedForm]:
        """The same with one raw value fewer: what the posterior starts from may be its prior, and moves both."""
        heads = self.sampler.heads
        if len(heads) > 2:
            yield from (replace(self, sampler=replace(self.sampler, heads=tuple(o for o in heads if o is not h))) for h in heads)

    @property
    def fits(self) -> bool:
        """Whether the term is such a KL in every range."""
        try:
            found = [self._fit(low, high) for low, high in _RANGES]
        except ReplayError:
            return False
        return all(f is not None and f.left < _FITS for f in found)

    @cached_property
    def lowest(self) -> Lowest:
        """The term where it is least."""
        levels = {} if self.sampler.is_normal else {"levels": self.sampler.quartiles()}
        return Lowest(self.bench, self.term, self.sampler.heads, self.others, **levels)

    def fault(self) -> tuple[float, fx.Node | None] | None:
        """What is left unexplained, and the addend that is off; None where the term is a KL, or something else on purpose."""
        fits = self._fits()
        if len(fits) < _FEWEST:
            return None
        weights = [f.weight for f in fits]
        steady = max(weights) - min(weights) <= _SAME * max(abs(w) for w in weights)
        worst = max(f.left for f in fits)
        if worst < _OFF and (min(f.left for f in fits) < _FITS or steady):
            return None
        mended, left = self._mended(worst)
        if any(abs(f.leaf) < 1e-2 and _is_added_later(leaf) for leaf, got in mended for f in got) or self._is_another_divergence():
            return None
        return worst, mended[0][0].node if mended and (len(left) == 1 or left[0] < 0.5 * left[1]) else None

    def _mended(self, worst: float) -> tuple[list[tuple[Leaf, list[Fit]]], list[float]]:
        """The addends another weight of which mends the fit, the best first; and what each addend leaves, in order."""
        live = [leaf for leaf in self.term.leaves if set(leaf.frontier) & set(self.sampler.heads)]
        free = [(leaf, self._fits(leaf)) for leaf in live]
        left = sorted(((max(f.left for f in got), leaf, got) for leaf, got in free if len(got) >= _FEWEST), key=lambda x: x[0])
        return [(leaf, got) for share, leaf, got in left if share < max(_FITS, _MENDED * worst)], [share for share, *_ in left]

    def _is_another_divergence(self) -> bool:
        """Whether the term is 0 where it is least, and for normal draws bends there as a divergence does, or is a distance of moments.

        For other draws it must be 0 for one posterior only, and bend as the information of the draw, or be a distance of moments.
        """
        draw, noise = self.sampler.v, self.sampler.noise
        if not self.lowest.is_zero:
            return False
        if not self.sampler.is_normal:
            bends = self.lowest.is_bent_in_proportion(lambda at, way: information(self.sampler, at, self.lowest.held, way))
            is_other = bends or (self.sampler.concentration is None and self.lowest.is_bounded(draw, noise))
            return is_other and not self.lowest.is_zero_for_several(draw, noise)
        return self.lowest.is_bent_as(draw, noise) or self.lowest.is_bounded(draw, noise)

    # --- the fit -------------------------------------------------------------------------------------------------------------

    def _fits(self, free: Leaf | None = None) -> list[Fit]:
        """One for each range in which the term, and the addend that is set free, have a gradient: beyond the bounds of a clamped head they
        have none. Raises ReplayError where the term has none at all."""
        found, errors = [], []
        for low, high in _RANGES:
            try:
                found.append(self._fit(low, high, free))
            except ReplayError as error:
                errors.append(error)
        if len(errors) == len(_RANGES) and (free is None or len(self.sampler.heads) == 1):
            raise errors[0]  # of one head that is cut into both moments, columns may be exchanged: a law of their own
        return [f for f in found if f is not None]

    def _fit(self, low: float, high: float, free: Leaf | None = None) -> Fit | None:
        """The worst of a few elements; None where the sums over the noise cannot be trusted."""
        ready = self._ready(low, high)
        if ready is None:
            return None
        heads, held, _, seats = ready
        target = self._slopes(self.term, heads, held)
        one = self._slopes(Term(self.term.role, [free], self.term.sites), heads, held) if free is not None else None
        fits = []
        for j, seat in seats.items():
            goal = seat.of(target)
            kept = goal.abs().sum(1) > 0  # the rest is below its free bits
            if int(kept.sum()) < _ROWS // 2:
                return None
            columns = [seat.of(s)[kept].flatten() for s in self._columns(low, high)[j]]
            extra = [seat.of(one)[kept].flatten()] if one is not None else []
            fits.append(_fitted(goal[kept].flatten(), columns, extra))
        return max(fits, key=lambda f: f.left)

    @cached_property
    def _known(self) -> dict[tuple[float, float], tuple[Heads, Heads, Drawn, dict[int, _Seat]] | None]:
        return {}

    @cached_property
    def _made(self) -> dict[tuple[float, float], dict[int, list[list[torch.Tensor]]]]:
        return {}

    def _ready(self, low: float, high: float) -> tuple[Heads, Heads, Drawn, dict[int, _Seat]] | None:
        if (low, high) not in self._known:
            heads, held = self._values(low, high)
            drawn = self.sampler.run(heads, held)
            seats = _seats(drawn, list(heads.values()))
            self._known[low, high] = (heads, held, drawn, seats)
            if not self._is_separate(heads, held, seats) or not self._are_even(low, high):
                self._known[low, high] = None
        return self._known[low, high]

    def _values(self, low: float, high: float) -> tuple[Heads, Heads]:
        replay, sizes = self.bench.model.replay, {**self.bench.model.record.sizes, "B": _ROWS}
        generator = torch.Generator().manual_seed(90)
        heads = {
            h: (low + (high - low) * torch.rand(replay.shape_of(h, sizes), dtype=torch.float64, generator=generator)).requires_grad_()
            for h in self.sampler.heads
        }
        return heads, {n: torch.full(replay.shape_of(n, sizes), 0.3, dtype=torch.float64) for n in self.others}

    def _slopes(self, term: Term, heads: Heads, held: Heads) -> list[torch.Tensor]:
        """d loss / d heads through some addends. Raises ReplayError."""
        model = self.bench.model
        assert model.record.loss is not None
        sizes = {**model.record.sizes, "B": _ROWS}
        given = {h: v.clone() for h, v in heads.items()}
        quiet = {**silence_others(term, model.replay, sizes), **self._drawn_beside}
        return _slopes(model.replay([model.record.loss], {**quiet, **held, **given}, sizes)[model.record.loss], list(heads.values()))

    @cached_property
    def _drawn_beside(self) -> Heads:
        """The noise of other draws that the term is made of, the same in all rows: they are to have one prior, which may be made of it."""
        model, sizes = self.bench.model, {**self.bench.model.record.sizes, "B": _ROWS}
        inside = model.flow.ancestors(*(leaf.node for leaf in self.term.leaves), stop={*self.sampler.heads, *self.others})
        found = {}
        for root in model.flow.sorted((inside & model.flow.random) - {self.sampler.root}):
            texts = model.replay.texts_of(root)
            if "B" in texts:
                drawn = model.replay([root], {}, sizes, seed=4)[root]
                found[root] = drawn.narrow(texts.index("B"), 0, 1).expand_as(drawn).clone()
        return found

    def _columns(self, low: float, high: float) -> dict[int, list[list[torch.Tensor]]]:
        """For each element, the slopes of -H and of the expectations that log p may be made of."""
        if (low, high) not in self._made:
            ready = self._known[low, high]
            assert ready is not None
            heads, _, drawn, seats = ready
            leaves = list(heads.values())
            self._made[low, high] = {
                j: [_slopes(drawn.mean(f, j), leaves) for f in (drawn.log_q[:, :, j], *_functions(drawn.v[:, :, j]))] for j in seats
            }
        return self._made[low, high]

    def _are_even(self, low: float, high: float) -> bool:
        """Whether every other point gives the same."""
        ready = self._known[low, high]
        assert ready is not None
        heads, _, drawn, seats = ready
        leaves = list(heads.values())
        for j, seat in seats.items():
            firsts = (drawn.log_q[:, :, j], drawn.v[:, :, j], drawn.v[:, :, j].square())  # the others have kinks and poles
            for f, whole in zip(firsts, self._columns(low, high)[j], strict=False):
                half, size = 2 * seat.of(_slopes(drawn.mean(f, j, slice(0, None, 2)), leaves)), seat.of(whole).norm()
                if not bool((half - seat.of(whole)).norm() <= _UNEVEN * size):
                    return False
        return True

    def _is_separate(self, heads: Heads, held: Heads, seats: dict[int, _Seat]) -> bool:
        """Whether the term's slopes at one element stay as they are where the other elements change: a sum over the elements, too."""
        before = self._slopes(self.term, heads, held)
        for seat in seats.values():
            moved = {
                h: torch.where(m, v, v.flip(0)).detach().requires_grad_() for (h, v), m in zip(heads.items(), seat.columns, strict=True)
            }
            after = self._slopes(self.term, moved, held)
            if (seat.of(after) - seat.of(before)).norm() > 1e-6 * seat.of(before).norm():
                return False
        return bool(seats)


@dataclass(frozen=True)
class _Seat:
    """The places in each head that make one element of the draw."""

    columns: list[torch.Tensor]

    def of(self, slopes: list[torch.Tensor]) -> torch.Tensor:
        """Slopes at these places, a row for each sample."""
        return torch.cat([g.reshape(len(g), -1)[:, m.flatten()] for g, m in zip(slopes, self.columns, strict=True)], 1)


def _seats(drawn: Drawn, leaves: list[torch.Tensor]) -> dict[int, _Seat]:
    """The seats of a few elements. Raises ReplayError where an element shares its places with another."""
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(drawn.v.shape, dtype=torch.float64, generator=generator)
    moved = (drawn.mass * (drawn.v + drawn.log_q)) * direction
    found = {}
    for j in range(min(_ELEMENTS, drawn.v.shape[2])):
        mine = [(g != 0).any(0) for g in _slopes(moved[:, :, j], leaves)]
        others = torch.ones(drawn.v.shape[2], dtype=torch.float64)
        others[j] = 0
        if any(bool((m & (g != 0).any(0)).any()) for m, g in zip(mine, _slopes(moved * others, leaves), strict=True)):
            raise ReplayError("the draw is not made element by element")
        found[j] = _Seat(mine)
    return found


def _functions(v: torch.Tensor) -> Iterator[torch.Tensor]:
    """What the logarithms of usual priors are made of."""
    low, high = float(v.detach().min()), float(v.detach().max())
    yield from (v, v.square())
    if low < 0:
        yield v.abs()
    else:
        log = v.clamp_min(1e-30).log()
        yield from (log, log.square())
        if high <= 1:
            yield (1 - v).clamp_min(1e-30).log()


def _fitted(target: torch.Tensor, columns: list[torch.Tensor], extra: list[torch.Tensor]) -> Fit:
    sizes = [float(c.norm()) + 1e-300 for c in (*columns, *extra)]
    a = torch.stack([c / s for c, s in zip((*columns, *extra), sizes, strict=True)], 1)
    goal = target - extra[0] if extra else target
    if not (bool(a.isfinite().all()) and bool(goal.isfinite().all())):
        raise ReplayError("the term has no finite gradient")
    solved = torch.linalg.lstsq(a, goal.unsqueeze(1), driver="gelsd").solution.squeeze(1)
    left = float((a @ solved - goal).norm() / target.norm())
    return Fit(left, float(solved[0]) / sizes[0], -float(solved[-1]) / sizes[-1] if extra else 1.0)


def _is_added_later(leaf: Leaf) -> bool:
    """Whether an addend is summed up before anything is added to it: a penalty beside the KL, no part of its formula."""
    joins = [ops.op(n) in ops.LINEAR_REDUCE for n in reversed(leaf.chain) if ops.op(n) in ops.ADD | ops.LINEAR_REDUCE]
    return bool(joins) and joins[0]


def _is_scaled(node: fx.Node, learned: frozenset[fx.Node]) -> bool:
    """Whether a value is multiplied with, or divided by, something that is not learned."""
    live = [n for n in ops.value_inputs(node) if n in learned]
    return ops.op(node) in ops.MUL | ops.DIV and len(live) == 1 and (ops.op(node) in ops.MUL or node.args[0] is live[0])


def _slopes(out: torch.Tensor, leaves: list[torch.Tensor]) -> list[torch.Tensor]:
    if not isinstance(out, torch.Tensor) or not out.requires_grad:
        raise ReplayError("no gradient reaches the posterior")
    found = gradients(out, leaves, retain=True)
    return [torch.zeros_like(v) if g is None else g for g, v in zip(found, leaves, strict=True)]


def _broken(bench: Bench, closed: ClosedForm, left: float, culprit: fx.Node | None) -> Broken:
    model, sampler = bench.model, closed.sampler
    ends = {*sampler.heads, *closed.others, sampler.v}
    mended = mended_operation(bench.model, closed.term, ends, lambda: replace(closed).fits)
    node = mended.node if mended is not None else culprit or closed.term.core
    assert node is not None
    label = "this part does not move as the KL of the draw does" if culprit is not None else "not the KL of this draw, to any prior"
    calls = [s for s in node.meta["stack"][1:] if s is not None]
    elsewhere = (
        culprit is None
        and mended is None
        and closed.lowest.is_zero
        and calls
        and not closed.lowest.is_zero_for_several(sampler.v, sampler.noise)
    )
    # then the formula is right, and was given another distribution
    found = Found(
        calls[0] if elsewhere else model.where(node),
        label=label if mended is None or elsewhere else said_of(bench.model, mended, "it is the KL"),
        labels=model.labels((sampler.v, f"drawn here: {model.written(sampler.v)}")),
        why="the loss is minimised by the wrong posterior: the term is not the KL of the drawn distribution",
        help="KL(q || p) = E_q[log q(z)] - E_q[log p(z)]: take both expectations under the family that is drawn, with its own parameters; "
        "torch.distributions.kl_divergence has most of them",
    )
    text = f"entropy and expectations of the sampler leave {100 * left:.2g} % of the term's gradient unexplained"
    return Broken("kl-formula", found, "the gradient of a KL is that of minus the entropy and of one expectation under the draw", text)
