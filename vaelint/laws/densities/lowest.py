"""Whether a term is a divergence, whatever its formula: it falls to 0 at some posterior, is nowhere below, and grows as the draw's do.

Source: Amari & Nagaoka 2000, Methods of information geometry, section 3.2 (all f-divergences have the Fisher information as second order).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Term
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.record import ops
from vaelint.replay.replay import ReplayError, gradients

_STARTS = 4
_STEPS = 60
_NEAR = 2e-3
_DIRECTIONS = 4
_STEP = 1e-4
_ALIKE = 0.1
_NARROWER = (2.0, 3.5, 5.0)  # in log s
_HALVINGS = 30
_AWAY = 0.3
_EXACTLY = 1e-7
_DRAWS = 8
_DIFFERENT = 0.2


def weight_sign(bench: Bench, core: fx.Node) -> float:
    """1 where the loss grows with every element of a value, -1 where it falls. Raises ReplayError where neither holds."""
    model = bench.model
    assert model.record.loss is not None
    sizes = dict(model.record.sizes)
    value = torch.zeros(model.replay.shape_of(core, sizes), dtype=torch.float64, requires_grad=True)
    out = model.replay([model.record.loss], {core: value * 1}, sizes)[model.record.loss]
    slope = gradients(out, [value])[0] if out.requires_grad else None
    if slope is None or not bool((slope.sign() == slope.flatten()[0].sign()).all()) or float(slope.flatten()[0]) == 0:
        raise ReplayError("the weight of the term is not one number")
    return float(slope.flatten()[0].sign())


@dataclass(frozen=True)
class Lowest:
    """A term over the raw values of one draw, all else held, and the values where it is least."""

    bench: Bench
    term: Term
    heads: Sequence[fx.Node]
    others: Sequence[fx.Node]
    levels: tuple[float, float] = (0.0, 1.0)  # two values of the noise

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The recorded sizes, with a few samples."""
        return {**self.bench.model.record.sizes, "B": _STARTS}

    @cached_property
    def held(self) -> dict[fx.Node, torch.Tensor]:
        """The term's other raw values."""
        replay = self.bench.model.replay
        return {n: torch.full(replay.shape_of(n, self.sizes), 0.3, dtype=torch.float64) for n in self.others}

    @cached_property
    def whole(self) -> fx.Node:
        """The term with the numbers that are added to it, up to where another term is."""
        core, learned = self.term.core, self.bench.model.flow.learned
        assert core is not None
        own = {n for leaf in self.term.leaves for n in (leaf.node, *leaf.chain)}  # levels that are stacked are one term
        for node in reversed(self.term.leaves[0].chain):
            live = [n for n in ops.value_inputs(node) if n in learned]
            if not all(node in leaf.chain for leaf in self.term.leaves):
                continue
            if core not in self.bench.model.flow.ancestors(node) or (
                ops.op(node) in ops.ADD | ops.JOIN and not own.issuperset(live) and node is not core
            ):
                break
            core = node
        return core

    @cached_property
    def _sign(self) -> float:
        return weight_sign(self.bench, self.whole)

    def _cost(self, leaves: Sequence[torch.Tensor]) -> torch.Tensor:
        given = {h: v * 1 for h, v in zip(self.heads, leaves, strict=True)}
        out: torch.Tensor = self.bench.model.replay([self.whole], {**self.held, **given}, self.sizes)[self.whole]
        return self._sign * out.sum()

    def _slopes(self, leaves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        found = gradients(self._cost(leaves), list(leaves))
        return [torch.zeros_like(v) if g is None else g for v, g in zip(leaves, found, strict=True)]

    @cached_property
    def _found(self) -> tuple[float, float, list[torch.Tensor]]:
        """The term at the start, where it is least, and the values there. Raises ReplayError where it does not run."""
        replay, generator = self.bench.model.replay, torch.Generator().manual_seed(3)
        leaves = [
            torch.randn(replay.shape_of(h, self.sizes), dtype=torch.float64, generator=generator).requires_grad_() for h in self.heads
        ]
        start = float(self._cost(leaves).detach())
        search = torch.optim.LBFGS(leaves, max_iter=_STEPS, line_search_fn="strong_wolfe", tolerance_grad=1e-10, tolerance_change=1e-14)

        def step() -> torch.Tensor:
            for v, g in zip(leaves, self._slopes(leaves), strict=True):
                v.grad = g.contiguous()  # the search lays gradients out flat
            return self._cost(leaves).detach()

        search.step(step)  # type: ignore[no-untyped-call]
        return start, float(self._cost(leaves).detach()), [v.detach() for v in leaves]

    @property
    def values(self) -> dict[fx.Node, torch.Tensor]:
        """The heads where it is least."""
        return dict(zip(self.heads, self._found[2], strict=True))

    @property
    def is_zero(self) -> bool:
        """Whether it is 0 where it is least, as a divergence is."""
        start, least, _ = self._found
        return abs(least) <= _NEAR * abs(start - least)

    def is_zero_for_several(self, draw: fx.Node, noise: fx.Node) -> bool:
        """Whether it is 0 for posteriors whose draws differ: 0 between different distributions is what no divergence is.

        Asked only where all heads move it; what holds one of two moments is a penalty.
        """
        start, least, at = self._found
        leaves = [v.clone().requires_grad_() for v in at]
        away = [v.detach() + _AWAY for v in leaves]
        if not all(bool(g.any()) for g in self._slopes([v.requires_grad_() for v in away])) or abs(least) > _EXACTLY * abs(start - least):
            return False
        replay, there, draws = self.bench.model.replay, dict(zip(self.heads, at, strict=True)), []
        for seed in range(_DRAWS):
            own: torch.Tensor = replay([noise], self.held, self.sizes, seed=seed)[noise]
            given = {**self.held, **there, noise: own[:1].expand_as(own).clone()}  # the same noise for every sample
            draws.append(replay([draw], given, self.sizes)[draw].detach())
        apart, spread = torch.stack([(d - d[:1]).abs().max() for d in draws]), torch.stack(draws).std()
        return bool(apart.max() > _DIFFERENT * spread)

    def is_bent_as(self, draw: fx.Node, noise: fx.Node) -> bool:
        """Whether it grows away from there as a divergence of this normal draw does: in proportion to its Fisher information.

        All f-divergences and Renyi divergences do, of any order and direction; the divergence of another distribution does not.
        """

        def of(way: list[torch.Tensor], ahead: list[torch.Tensor], behind: list[torch.Tensor]) -> float:
            (m1, s1), (m0, s0) = (self._moments(side, draw, noise) for side in (ahead, behind))
            return float((((m1 - m0).square() + 2 * (s1 - s0).square()) / (s1 + s0).square()).sum()) / _STEP**2

        return self._is_bent(of, ())

    def is_bent_in_proportion(self, information: Callable[[Mapping[fx.Node, torch.Tensor], list[torch.Tensor]], float]) -> bool:
        """The same for a draw of any family, whose information is given."""
        *_, at = self._found
        own = dict(zip(self.heads, at, strict=True))
        return self._is_bent(lambda way, *_: information(own, way), self._whole_ways(at))

    def _is_bent(
        self, information: Callable[[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]], float], more: Iterable[list[torch.Tensor]]
    ) -> bool:
        """Whether it grows in one proportion to the information of a direction: a single raw value, and further ones."""
        *_, at = self._found
        ratios = []
        for way in (*self._ways(at), *more):
            ahead, behind = ([v + sign * _STEP * w for v, w in zip(at, way, strict=True)] for sign in (1, -1))
            up, down = (self._slopes([v.clone().requires_grad_() for v in side]) for side in (ahead, behind))
            bend = sum(float(((a - b) * w).sum()) for a, b, w in zip(up, down, way, strict=True)) / (2 * _STEP)
            size = information(way, ahead, behind)
            if size > _NEAR:
                ratios.append(bend / size)
        return bool(ratios) and min(ratios) > 0 and max(ratios) - min(ratios) <= _ALIKE * max(ratios)

    def is_bounded(self, draw: fx.Node, noise: fx.Node) -> bool:
        """Whether a narrower draw costs more and more, and stays below some cost: a distance of moments (Wasserstein), and no KL.

        In every KL a spread s costs -log s.
        """
        *_, at = self._found
        leaves = [v.clone().requires_grad_() for v in at]
        start = self._log_spread(leaves, draw, noise)
        slopes = gradients(start, leaves)
        way = [torch.zeros_like(v) if g is None else -g for v, g in zip(leaves, slopes, strict=True)]
        costs = []
        for drop in _NARROWER:
            there = self._narrowed([v.detach() for v in leaves], way, float(start.detach()) - drop, draw, noise)
            if there is None:
                return False
            costs.append(float(self._cost(there).detach()))
        first, second, third = costs
        return first < second < third and (third - second) < (1 - _ALIKE) * (second - first)

    def _log_spread(self, values: Sequence[torch.Tensor], draw: fx.Node, noise: fx.Node) -> torch.Tensor:
        return self._moments(values, draw, noise)[1].abs().clamp(min=1e-30).log().mean()

    def _narrowed(
        self, at: list[torch.Tensor], way: list[torch.Tensor], wanted: float, draw: fx.Node, noise: fx.Node
    ) -> list[torch.Tensor] | None:
        """The heads moved along a way until the spread is as narrow as wanted; None where it does not become so."""

        def moved(t: float) -> list[torch.Tensor]:
            return [v + t * w for v, w in zip(at, way, strict=True)]

        far = next((2.0**k for k in range(16) if float(self._log_spread(moved(2.0**k), draw, noise)) <= wanted), None)
        if far is None:
            return None
        near = 0.0
        for _ in range(_HALVINGS):
            middle = (near + far) / 2
            near, far = (near, middle) if float(self._log_spread(moved(middle), draw, noise)) <= wanted else (middle, far)
        return moved(far)

    @staticmethod
    def _ways(at: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
        """One entry of a head at a time, a few of each."""
        for k, v in enumerate(at):
            width = v[0].numel()
            for place in sorted({int(width * (i + 0.5) / _DIRECTIONS) for i in range(_DIRECTIONS)}):
                way = [torch.zeros(o.shape, dtype=o.dtype) for o in at]  # a transposed head has no flat view
                way[k][0].view(-1)[place] = 1.0
                yield way

    @staticmethod
    def _whole_ways(at: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
        """All entries of the first row together, up or down: what two of them do to each other."""
        generator = torch.Generator().manual_seed(5)
        for _ in range(_DIRECTIONS):
            way = [torch.zeros(v.shape, dtype=v.dtype) for v in at]
            for w in way:
                w[0] = torch.randint(0, 2, w[0].shape, generator=generator).to(w) * 2 - 1
            yield way

    def _moments(self, values: Sequence[torch.Tensor], draw: fx.Node, noise: fx.Node) -> tuple[torch.Tensor, torch.Tensor]:
        replay, given = self.bench.model.replay, dict(zip(self.heads, values, strict=True))
        size = replay.shape_of(noise, self.sizes)
        at = [replay([draw], {**self.held, **given, noise: torch.full(size, e).double()}, self.sizes)[draw] for e in self.levels]
        return at[0], at[1] - at[0]
