"""One Gaussian posterior by its draw, and what its KL costs as a function of mean and spread."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import fx

from vaelint.anatomy.kl.kl_slice import Slice
from vaelint.anatomy.posterior.sites import Site
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.densities.lowest import Lowest
from vaelint.record import ops
from vaelint.replay.replay import ReplayError, gradients

_BATCH = 2
_WHOLE = 40  # latents of which all columns of A are asked; of more, a few, where each has its own noise
_ASKED = 6
_CHANGES = 8
_SCREENED = 2  # changes after which what disagrees already is not asked further
_OFF = 1e-3  # of what the changes of A are worth; the arithmetic is exact to 1e-9

Heads = Mapping[fx.Node, torch.Tensor]


@dataclass
class Spread:
    """One posterior, and its KL as a function of mean and spread."""

    bench: Bench
    slice: Slice
    site: Site

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The recorded sizes, with a small batch."""
        return {**self.bench.model.record.sizes, "B": _BATCH}

    @cached_property
    def own(self) -> list[fx.Node]:
        """The heads that the encoder moves, and that move this draw by itself, not by way of another draw."""
        mine = self.bench.model.flow.ancestors(self.site.z, stop=self._other_draws)
        return [h for h in self.slice.heads if is_encoded(self.bench, h) and h in mine]

    @cached_property
    def _other_draws(self) -> set[fx.Node]:
        return {s.z for s in self.bench.model.sites} - {self.site.z}

    @cached_property
    def _upper(self) -> dict[fx.Node, torch.Tensor]:
        """The draws of other levels that this one is made from, held."""
        generator, replay = torch.Generator().manual_seed(11), self.bench.model.replay
        above = self.bench.model.flow.sorted(self._other_draws & self.bench.model.flow.ancestors(self.site.z))
        return {z: torch.randn(replay.shape_of(z, self.sizes), dtype=torch.float64, generator=generator) for z in above}

    @cached_property
    def spread_elements(self) -> dict[fx.Node, torch.Tensor]:
        """The elements of the heads, as True, that move z only with the noise: those that make the spread."""
        mean, drawn = self._slopes(0.0), self._slopes(1.0)
        return {h: (mean[h] == 0) & (drawn[h] != 0) for h in mean}

    @cached_property
    def idle_elements(self) -> dict[fx.Node, torch.Tensor]:
        """Those that do not move z at all."""
        mean, drawn = self._slopes(0.0), self._slopes(1.0)
        return {h: (mean[h] == 0) & (drawn[h] == 0) for h in mean}

    def _slopes(self, noise: float) -> dict[fx.Node, torch.Tensor]:
        """What a random direction of z moves by with each element of the heads."""
        leaves = {h: v.clone().requires_grad_() for h, v in self._heads(0).items()}
        z = self._z({h: v.clone() for h, v in leaves.items()}, noise)
        if not z.requires_grad:
            raise ReplayError("the draw is not a function of the heads")
        direction = torch.randn(z.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) + 3.0
        found = gradients(z * direction, list(leaves.values()))
        return {h: torch.zeros_like(v) if g is None else g for (h, v), g in zip(leaves.items(), found, strict=True)}

    @property
    def is_divergence(self) -> bool:
        """Whether the term is another divergence of this draw, on purpose: Jeffreys, Renyi; Wasserstein, to any prior."""
        others = [*self.slice.others, *(h for h in self.slice.heads if h not in self.own)]
        lowest = Lowest(self.bench, self.slice.term, self.own, others)
        if self.slice.term.core is None or not lowest.is_zero:
            return False
        draw, noise = self.site.z, self.site.noise[0]
        return lowest.is_bent_as(draw, noise) or lowest.is_bounded(draw, noise)

    @property
    def is_likelihood(self) -> bool:
        """Whether the term scores data by this posterior, as where a label says what a part of the latent is: it meets them without a
        layer between, and what a shift of the mean costs moves with the posterior's own spread."""
        flow, heads = self.bench.model.flow, self._heads(0)
        ends = {*self.slice.heads, *(n for n in flow.order if ops.uses_parameter(n))}
        given = set(self.bench.model.record.inputs.values()) & flow.ancestors(*(leaf.node for leaf in self.slice.term.leaves), stop=ends)
        if not given - ends:
            return False
        before, after = (self._curvature(h, self._start_columns) for h in (heads, self._with_spread(heads, 31)))
        return abs(after - before) > 1e-6 * abs(before)

    def disagreement(self) -> float | None:
        """How far the term is from any KL of this draw to a Gaussian, relative to what the changes are worth; None where it is one.

        Raises ReplayError where the slice does not run.
        """
        start = self._heads(0)
        if not self._is_asked or self._holds_neighbours(start):
            return None
        left = self._left(_CHANGES)
        return left if left > _OFF else None

    @property
    def agrees(self) -> bool:
        """Whether it is the KL of this draw, of what shifts cost both ways: told as early as it can be."""
        return bool(self.own) and self._is_gaussian and self._left(_SCREENED) <= _OFF and self.bend > 0 and self.disagreement() is None

    @cached_property
    def _is_asked(self) -> bool:
        start = self._heads(0)
        return bool(self.own) and self._is_gaussian and not self._charges_for_others(start) and self._is_quadratic

    def _left(self, changes: int) -> float:
        """What one weight on log|A| leaves of the two costs over so many changes of the spread, relative to what these are worth."""
        start, columns = self._heads(0), self._start_columns
        here, bend, logs_here = self._term(start), self._start_curvature, self._log_det(columns)
        worth, gaps = [], []
        for k in range(changes):
            changed = self._with_spread(start, 20 + k)
            others = self._columns(changed)
            shift, cost = 0.5 * (self._curvature(start, others) - bend), self._term(changed) - here
            gaps.append((cost - shift, self._log_det(others) - logs_here))
            worth.append(abs(shift) + abs(cost))
        gap, logs = (torch.tensor(v, dtype=torch.float64) for v in zip(*gaps, strict=True))
        size = max(worth)
        if not size > 1e-9 or not bool(gap.isfinite().all() and logs.isfinite().all()):
            return 0.0  # neither mean nor spread costs anything: other rules speak of that
        weight = -float((gap * logs).sum() / (logs * logs).sum()) if float(logs.abs().max()) > 1e-9 else 0.0
        return float((gap + weight * logs).abs().max()) / size

    @property
    def bend(self) -> float:
        """What shifts of the mean by the draw's own columns, both ways, cost; 0 where the draw or the term is not of that kind."""
        return self._start_curvature if self.own and self._is_gaussian and self._is_quadratic else 0.0

    @cached_property
    def _start_columns(self) -> dict[int, torch.Tensor]:
        return self._columns(self._heads(0))

    @cached_property
    def _start_curvature(self) -> float:
        return sum(self._start_costs.values())

    @cached_property
    def _start_costs(self) -> dict[int, float]:
        return self._costs(self._heads(0), self._start_columns)

    def _holds_neighbours(self, heads: Heads) -> bool:
        """Whether each element of the draw is held to another element's posterior, as a filter's to that of the step before.

        Of latents with a spread of their own, what a shift of one mean costs then moves with the spread of another.
        """
        still = self._z(heads, 0.0)
        drawn = self._z(heads, 1.0) - still
        generator = torch.Generator().manual_seed(13)
        for place in self._places(still.numel()):
            by = torch.zeros(still.shape, dtype=still.dtype)  # a transposed value has no flat view
            by.view(-1)[place] = 1.0
            leaves = {h: heads[h].clone().requires_grad_() for h in self.own}
            z = self._z({**heads, **{h: v.clone() for h, v in leaves.items()}}, 1.0)
            mine = gradients(z * by, list(leaves.values()))
            others = dict(heads)
            for h, own in zip(self.own, mine, strict=True):
                free = self.spread_elements[h] & (own == 0 if own is not None else True)
                noise = 0.5 * torch.randn(heads[h].shape, dtype=torch.float64, generator=generator)
                others[h] = heads[h] + torch.where(free, noise, 0.0)
            moved = self._z(others, 1.0) - self._z(others, 0.0)
            if float(moved.flatten()[place]) != float(drawn.flatten()[place]) or torch.equal(moved, drawn):
                return False  # a full covariance, or nothing else that has a spread
            before, after = (self._curvature(h, {0: by}) for h in (heads, others))
            if abs(after - before) > 1e-6 * abs(before):
                return True
        return False

    # --- heads, mean, columns --------------------------------------------------------------------------------------------

    def _heads(self, seed: int) -> dict[fx.Node, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        replay = self.bench.model.replay
        return {h: torch.randn(replay.shape_of(h, self.sizes), dtype=torch.float64, generator=generator) * 0.5 for h in self.slice.heads}

    def _z(self, heads: Heads, noise: torch.Tensor | float) -> torch.Tensor:
        replay = self.bench.model.replay
        given = {n: torch.zeros(replay.shape_of(n, self.sizes), dtype=torch.float64) + noise for n in self.site.noise}
        held = {n: torch.full(replay.shape_of(n, self.sizes), 0.3, dtype=torch.float64) for n in self.slice.others}
        z: torch.Tensor = replay([self.site.z], {**held, **heads, **given}, self.sizes, attached=True)[self.site.z]
        return z

    @cached_property
    def _is_gaussian(self) -> bool:
        """One noise of z's shape, of unit scale, that z is affine in."""
        if len(self.site.noise) != 1:
            return False
        replay, noise, heads = self.bench.model.replay, self.site.noise[0], self._heads(0)
        size = replay.shape_of(noise, self.sizes)
        drawn = replay([noise], {}, self.sizes, seed=3)[noise]
        middle, one, two = (self._z(heads, s) for s in (0.0, 1.0, 2.0))
        unit = drawn.numel() < 30 or 0.7 < float(drawn.std()) < 1.3
        return unit and middle.numel() == torch.Size(size).numel() and torch.allclose(two - middle, 2 * (one - middle))

    def _columns(self, heads: Heads) -> dict[int, torch.Tensor]:
        """A's columns in z's shape for each noise element of the first sample: all, or a few where each latent has its own noise."""
        middle = self._z(heads, 0.0)
        width = middle[0].numel()
        noise = self.bench.model.replay.shape_of(self.site.noise[0], self.sizes)
        found: dict[int, torch.Tensor] = {}
        for k in range(width) if width <= _WHOLE else self._places(width):
            unit = torch.zeros(noise, dtype=torch.float64)
            unit[0].view(-1)[k] = 1.0
            found[k] = self._z(heads, unit) - middle
            if width > _WHOLE and int((found[k] != 0).sum()) != 1:
                raise ReplayError("the latents are too many to ask for each")
        return found

    @staticmethod
    def _places(width: int) -> list[int]:
        return sorted({int(width * (i + 0.5) / _ASKED) for i in range(_ASKED)})

    def _with_spread(self, heads: Heads, seed: int) -> dict[fx.Node, torch.Tensor]:
        """Heads of the first sample with another spread and the same mean."""
        generator = torch.Generator().manual_seed(seed)
        changed = {h: v.clone() for h, v in heads.items()}
        width = self._z(heads, 0.0)[0].numel()
        for h in self.own:
            free = self.spread_elements[h][0].reshape(-1)
            row = changed[h][0].view(-1)
            if width > _WHOLE:  # only where columns are asked for
                kept = torch.zeros_like(free)
                kept[torch.nonzero(free).flatten()[torch.tensor(self._places(int(free.sum())))] if bool(free.any()) else []] = True
                free = kept
            row += torch.where(free, torch.randn(row.numel(), dtype=torch.float64, generator=generator) * 0.5, torch.zeros(()).double())
        return changed

    # --- what it costs -----------------------------------------------------------------------------------------------------

    def _term(self, heads: Heads) -> float:
        overrides = self.slice.overrides(self.sizes, dict(heads), 0.3, None, 0)
        out = self.bench.model.replay([self.slice.loss], {**self._upper, **overrides}, self.sizes)[self.slice.loss]
        return float(out.double().sum())

    def _mean(self, heads: Heads) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The mean of the draw, with the heads that it has a gradient in."""
        leaves = {h: heads[h].clone().requires_grad_() for h in self.own}
        return self._z({**heads, **{h: v.clone() for h, v in leaves.items()}}, 0.0), list(leaves.values())

    def _shifted(
        self, heads: Heads, middle: torch.Tensor, leaves: list[torch.Tensor], by: torch.Tensor
    ) -> list[dict[fx.Node, torch.Tensor]]:
        """Heads whose mean lies elsewhere, by this much in z, one way and the other."""
        steps = gradients(middle * by, leaves, retain=True)  # the shift in the heads' own layout, where the mean is read as it is
        found = []
        for sign in (1.0, -1.0):
            moved = {**heads, **{h: heads[h] + sign * g for h, g in zip(self.own, steps, strict=True) if g is not None}}
            if not torch.allclose(self._z(moved, 0.0) - middle.detach(), sign * by, atol=1e-9):
                raise ReplayError("the mean is bent on its way")
            found.append(moved)
        return found

    def _curvature(self, heads: Heads, columns: Mapping[int, torch.Tensor]) -> float:
        """What shifts of the mean by all columns cost together."""
        return sum(self._costs(heads, columns).values())

    def _costs(self, heads: Heads, columns: Mapping[int, torch.Tensor]) -> dict[int, float]:
        """What a shift of the mean by each column costs: second differences of the term."""
        here, (middle, leaves) = self._term(heads), self._mean(heads)
        steps = {k: self._shifted(heads, middle, leaves, c) for k, c in columns.items() if bool((c != 0).any())}
        return {k: self._term(up) + self._term(down) - 2 * here for k, (up, down) in steps.items()}

    def _charges_for_others(self, heads: Heads) -> bool:
        """Whether the term moves with what this draw does not: experts of which one is drawn, several posteriors at once.

        The KL of another level that is added to this one's is no such thing: it moves by itself.
        """
        generator = torch.Generator().manual_seed(8)
        moved = {
            h: v + torch.where(self.idle_elements[h], torch.randn(v.shape, dtype=v.dtype, generator=generator), 0.0)
            for h, v in heads.items()
        }
        levels = {h for s in self.bench.model.sites if s.z in self._upper for h in s.heads}
        both, alone = self._with_spread(moved, 9), self._with_spread(heads, 9)
        before, after = self._term(heads), self._term(moved)
        if abs(after - before) <= 1e-9 * abs(before):
            return False
        inert = all(h in levels for h, v in heads.items() if not torch.equal(moved[h], v))
        apart = abs(self._term(both) - after - self._term(alone) + before) <= 1e-9 * (abs(before) + abs(after))
        return not (inert and apart)

    def culprit(self) -> fx.Node | None:
        """The one addend that moves with the spread and not as log|A| does; None where that is not one."""
        start, odd = self._heads(0), []
        for leaf in self.slice.term.leaves:
            moves, logs = [], []
            for k in range(4):
                changed = self._with_spread(start, 20 + k)
                moves.append(self._value(leaf.node, changed) - self._value(leaf.node, start))
                logs.append(self._log_det(self._columns(changed)) - self._log_det(self._columns(start)))
            a, b = torch.tensor(moves, dtype=torch.float64), torch.tensor(logs, dtype=torch.float64)
            slope = float((a * b).sum() / (b * b).sum()) if float(b.abs().max()) > 1e-9 else 0.0
            if float((a - slope * b).abs().max()) > 1e-6 * float(a.abs().max()) > 0:
                odd.append(leaf.node)
        return odd[0] if len(odd) == 1 else None

    def _value(self, node: fx.Node, heads: Heads) -> float:
        held = {n: torch.full(self.bench.model.replay.shape_of(n, self.sizes), 0.3, dtype=torch.float64) for n in self.slice.others}
        return float(self.bench.model.replay([node], {**self._upper, **held, **heads}, self.sizes)[node].double().sum())

    @cached_property
    def _is_quadratic(self) -> bool:
        """Whether the term is a parabola in the mean, here and elsewhere: no floor, no ceiling, no absolute value."""
        heads = self._heads(0)
        by = torch.zeros(self._z(heads, 0.0).shape, dtype=torch.float64)
        by[0].view(-1)[self._places(by[0].numel())[0]] = 1.0
        one = {0: by}
        far = self._shifted(heads, *self._mean(heads), 3 * by)[0]
        near, twice, away = self._curvature(heads, one), self._curvature(heads, {0: 2 * by}), self._curvature(far, one)
        size = max(abs(near), abs(away))
        return size > 1e-12 and abs(near - away) < 1e-6 * size and abs(twice - 4 * near) < 1e-5 * abs(twice)

    @cached_property
    def _charged(self) -> set[int]:
        """The columns along which a shift of the mean costs something: not those of steps that a mask leaves out.

        Raises ReplayError where some are left out and an element has several.
        """
        least = 1e-9 * max(map(abs, self._start_costs.values()), default=0.0)
        charged = {k for k, cost in self._start_costs.items() if abs(cost) > least}
        if len(charged) < len(self._start_columns) and any(int((c != 0).sum()) != 1 for c in self._start_columns.values()):
            raise ReplayError("some of the latents are charged, and what makes them cannot be told apart")
        return charged

    def _log_det(self, columns: Mapping[int, torch.Tensor]) -> float:
        keys = sorted(set(columns) & self._charged)
        width = next(iter(columns.values()))[0].numel()
        if width <= _WHOLE and len(keys) == len(columns):
            matrix = torch.stack([columns[k][0].reshape(-1) for k in keys], 1)
            return float(torch.linalg.slogdet(matrix).logabsdet)
        return float(sum(columns[k].abs().max().log() for k in keys))


def is_encoded(bench: Bench, node: fx.Node) -> bool:
    """Whether the encoder makes it; what comes from other draws alone is a prior's."""
    inputs = set(bench.model.record.inputs.values())
    return bool(inputs & bench.model.flow.ancestors(node, stop={s.z for s in bench.model.sites}))
