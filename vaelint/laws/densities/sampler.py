"""A draw made element by element, v = g(h, e), as a function of what the encoder puts out: its entropy, and expectations under it.

Found from the random operation on, by value and shape alone. Expectations are sums over the noise e, and log q(v) = log p(e) - log |dv/de|.
The noise of a Gamma or a Beta draw has itself a density that moves with the encoder.

Source: Kingma & Welling 2014, section 2.4 (z = g(e, x)); Cover & Thomas 2006, theorem 8.6.4 (entropy under a change of variables).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Term
from vaelint.anatomy.posterior.noise import standard_deviation
from vaelint.anatomy.posterior.products import multiplies_learned
from vaelint.core.reach import reachable
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.record.walk import behind
from vaelint.replay.replay import ReplayError

_MOST = 384  # points of the sum over the noise
_FEWEST = 48
_LARGEST = 3_000_000  # numbers in one value
_UNIFORM = ("rand", "rand_like", "uniform")
_NORMAL = ("randn", "randn_like", "normal")
_CONCENTRATED = {"standard_gamma": 1, "sample_dirichlet": 2}


@dataclass(frozen=True)
class Drawn:
    """Draws of one sampler, (points, rows, elements), with their graphs: v, log q(v) up to a constant, and what each counts."""

    v: torch.Tensor
    log_q: torch.Tensor
    mass: torch.Tensor

    def mean(self, values: torch.Tensor, element: int, every: slice = slice(None)) -> torch.Tensor:
        """The expectation of values (points, rows) of one element, for each row; over a part of the points where asked."""
        mass = self.mass.expand_as(self.v)[every, :, element]
        return (mass * values[every]).sum(0)


@dataclass(frozen=True)
class Sampler:
    """One draw that a term in closed form is a function of the heads of."""

    bench: Bench
    root: fx.Node  # the random operation
    noise: fx.Node  # what of it enters: the root, or the last value made of it alone
    v: fx.Node  # where the last head has entered
    heads: tuple[fx.Node, ...]  # the term's own raw values that the draw is made of
    concentration: fx.Node | None = None  # of a Gamma or Beta draw

    @property
    def is_normal(self) -> bool:
        """Whether normal noise is only moved and scaled."""
        flow = self.bench.model.flow
        way = flow.descendants(self.noise, stop={self.v}) & flow.ancestors(self.v)
        return ops.op(self.noise) in _NORMAL and all(ops.op(n) in ops.ADD | ops.MUL | ops.DIV | ops.CAST for n in way - {self.noise})

    @property
    def is_one_coordinate(self) -> bool:
        """Whether further noise, with no number of its own, joins the draw before a layer reads it: a height, and a direction around it."""
        flow = self.bench.model.flow
        layers = {n for n in flow.order if ops.uses_parameter(n)}
        beyond = flow.descendants(self.v, stop=layers) - {self.v}
        return any(i in flow.pure_noise for n in beyond - layers for i in ops.value_inputs(n))

    @staticmethod
    def decoded(bench: Bench, front: set[fx.Node]) -> Iterator[Sampler]:
        """The draws made of uniform or normal noise and some of these raw values: the last value that all ways into the loss come past."""
        flow, ends = bench.model.flow, [leaf.node for leaf in bench.model.leaves]
        for root in flow.sorted(flow.random & flow.pure_noise):
            if ops.op(root) not in (*_UNIFORM, *_NORMAL) or not shape(root):
                continue
            way = reachable([root], lambda n, r=root: [u for u in flow.users.get(n, ()) if _goes_on(u, r, bench)])  # type: ignore[misc]
            read = [n for n in flow.gates(root, ends) if n in way - flow.pure_noise] if way & flow.ancestors(*ends) else []
            entering = [n for n in flow.sorted(way & flow.pure_noise) if any(u in way - flow.pure_noise for u in flow.users.get(n, ()))]
            if not read or len(entering) != 1:
                continue
            heads = front & flow.ancestors(read[-1], stop=front | {entering[0]})
            found = _whole(front, bench, Sampler(bench, root, entering[0], read[-1], tuple(flow.sorted(heads))))
            if found is not None:
                yield found

    @staticmethod
    def all_of(bench: Bench, term: Term) -> Iterator[Sampler]:
        """The draws whose heads a term reads, where nothing but the decoder reads the draw itself."""
        flow = bench.model.flow
        front = {f for leaf in term.leaves for f in leaf.frontier}
        layers = {n for n in flow.order if ops.uses_parameter(n) or multiplies_learned(n, flow)}
        others = [leaf.node for other in bench.model.terms if other.role != "reconstruction" for leaf in other.leaves]
        read = flow.ancestors(*others, stop=layers) - layers
        used = flow.ancestors(*(leaf.node for other in bench.model.terms for leaf in other.leaves))
        for root in flow.sorted((flow.random & used) - read):  # what a prior's module draws beside its moments moves nothing
            found = _sampler(bench, root, front) if shape(root) and not front & flow.descendants(root) else None
            if found is not None:
                yield found

    def run(self, heads: Mapping[fx.Node, torch.Tensor], held: Mapping[fx.Node, torch.Tensor]) -> Drawn:
        """Draws at heads with a row each, given as leaves; `held` are other values, the same in all rows. Raises ReplayError."""
        return self.run_with_leaves(heads, held)[0]

    def run_with_leaves(
        self, heads: Mapping[fx.Node, torch.Tensor], held: Mapping[fx.Node, torch.Tensor]
    ) -> tuple[Drawn, list[torch.Tensor], torch.Tensor]:
        """The same, with the heads that each draw had, and its noise. Raises ReplayError."""
        given, log_p, mass, sizes = self.laid_out(heads, held)
        noise, rows = given[self.noise], next(iter(heads.values())).shape[0]
        points = sizes["B"] // rows
        v = self.bench.model.replay([self.v], {**given, self.noise: noise * 1}, sizes, attached=True)[self.v]
        if not v.requires_grad or v.shape[:1] != (points * rows,):
            raise ReplayError("the draw does not move with the noise")
        if v.is_complex():
            raise ReplayError("the draw is complex")
        if noise.numel() == 2 * v.numel():  # of a pair that adds up to one
            return Drawn(v.reshape(points, rows, -1), log_p, mass), [given[h] for h in heads], noise
        (rate,) = torch.autograd.grad(v.sum(), [noise], create_graph=True)
        if rate.numel() != v.numel():
            raise ReplayError("the draw is not made element by element")
        log_q = log_p - rate.abs().clamp_min(1e-30).log().reshape(points, rows, -1)
        return Drawn(v.reshape(points, rows, -1), log_q, mass), [given[h] for h in heads], noise

    def quartiles(self) -> tuple[float, float]:
        """Two values of the noise that enters, with half of it between them; 0 and 1 for a Gamma or Beta draw, without its own."""
        if self.concentration is not None:
            return 0.0, 1.0
        model, levels = self.bench.model, self._levels(4)[0]
        sizes = dict(model.record.sizes)
        size, found = model.replay.shape_of(self.root, sizes), []
        for level in (float(levels[0] + levels[1]) / 2, float(levels[2] + levels[3]) / 2):
            drawn = torch.full(size, level, dtype=torch.float64)
            found.append(
                float(
                    (model.replay([self.noise], {self.root: drawn}, sizes)[self.noise] if self.noise is not self.root else drawn).flatten()[
                        0
                    ]
                )
            )
        return found[0], found[1]

    def laid_out(
        self, heads: Mapping[fx.Node, torch.Tensor], held: Mapping[fx.Node, torch.Tensor]
    ) -> tuple[dict[fx.Node, torch.Tensor], torch.Tensor, torch.Tensor, dict[str, int]]:
        """Heads, held values and the noise, a leaf, for each point of the sum and each row, points first; log p(e) up to a constant, what
        each point counts, and the sizes. Raises ReplayError."""
        model, rows = self.bench.model, next(iter(heads.values())).shape[0]
        width = max(1, self.v.meta["val"].numel() // max(1, shape(self.v)[0]))
        points = min(_MOST, _LARGEST // (rows * width))
        if points < _FEWEST:
            raise ReplayError("the draw is too large to be summed over")
        sizes = {**model.record.sizes, "B": rows * points}
        given = {n: v[:1].expand(model.replay.shape_of(n, sizes)).clone() for n, v in held.items()}
        given |= {h: v.repeat(points, *[1] * (v.dim() - 1)) for h, v in heads.items()}
        noise, log_p, mass = self._noise(points, rows, sizes, given)
        return {**given, self.noise: noise}, log_p, mass, sizes

    def _noise(
        self, points: int, rows: int, sizes: dict[str, int], given: Mapping[fx.Node, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Noise as a leaf, its log-density up to a constant, and what each point counts."""
        replay = self.bench.model.replay
        size = replay.shape_of(self.root, sizes)
        if not size or size[0] != rows * points:
            raise ReplayError("the noise has no row for each sample")
        if self.concentration is None:
            levels, counts = self._levels(points)
            drawn = levels.repeat_interleave(rows).reshape(-1, *[1] * (len(size) - 1)).expand(size)
            noise = drawn.clone()
            if self.noise is not self.root:
                noise = replay([self.noise], {self.root: drawn.clone()}, sizes)[self.noise].detach().clone()
            return noise.requires_grad_(), torch.zeros(()), counts[:, None, None]
        a = replay([self.concentration], given, sizes, attached=True)[self.concentration].expand(size)
        return _concentrated(a, points, rows)

    def _levels(self, points: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Values of the random operation, drawn towards both ends, and what each counts."""
        t = (torch.arange(points, dtype=torch.float64) + 0.5) / points
        u, mass = t**2 * (3 - 2 * t), 6 * t * (1 - t) / points
        if ops.op(self.root) in _NORMAL:
            model = self.bench.model
            return torch.special.ndtri(u) * standard_deviation(self.root, model.flow, model.replay, dict(model.record.sizes)), mass
        ends = [a for a in self.root.args if isinstance(a, int | float)] if ops.op(self.root) == "uniform" else []
        low, high = ends if len(ends) == 2 else (0.0, 1.0)
        return low + (high - low) * u, mass


def _concentrated(a: torch.Tensor, points: int, rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same for a Gamma draw of concentration a, on a grid of its logarithm; and for a Beta draw, a pair of them, of its logit."""
    low, high = (-45.0, 5.5) if a.dim() < 3 or a.shape[-1] != 2 else (-45.0, 45.0)
    grid = torch.linspace(low, high, points, dtype=torch.float64)
    step = float(grid[1] - grid[0])
    if high < 10:
        by = a.reshape(points, rows, -1)
        g = grid.exp()[:, None, None].expand_as(by)
        log_p = (by - 1) * g.log() - g - torch.lgamma(by)
        return g.reshape(a.shape).clone().requires_grad_(), log_p, log_p.exp() * g * step
    b = a.reshape(points, rows, -1, 2)
    log_v, log_w = torch.nn.functional.logsigmoid(grid), torch.nn.functional.logsigmoid(-grid)
    lift = [x[:, None, None].expand(b.shape[:3]) for x in (log_v, log_w)]
    log_p = (b[..., 0] - 1) * lift[0] + (b[..., 1] - 1) * lift[1] + torch.lgamma(b.sum(-1)) - torch.lgamma(b).sum(-1)
    pair = torch.stack([x.exp() for x in lift], -1).reshape(a.shape)
    return pair.clone().requires_grad_(), log_p, (log_p + lift[0] + lift[1]).exp() * step


def _sampler(bench: Bench, root: fx.Node, front: set[fx.Node]) -> Sampler | None:
    """Follows a draw to where the last of the term's raw values has entered."""
    flow, name = bench.model.flow, ops.op(root)
    concentration = behind(ops.value_inputs(root)[0], ops.SHAPE | ops.CAST) if name in _CONCENTRATED else None
    seats: list[fx.Node] = []  # where something that moves has entered
    if concentration is not None:
        if name == "sample_dirichlet":  # a pair is a Beta draw, and more are no product
            return _beta(bench, root, concentration, front)
        noise = next((u for u in flow.users.get(root, ()) if ops.op(u) == "custom_gradient"), root)
        seats.append(noise)
    elif name in (*_UNIFORM, *_NORMAL) and root in flow.pure_noise:
        pure = {n for n in flow.descendants(root) & flow.pure_noise if shape(n) == shape(root)}
        entering = {n for n in pure if any(u not in pure and u in flow.learned for u in flow.users.get(n, ()))}
        noise = entering.pop() if len(entering) == 1 else root
    else:
        return None
    v = noise
    while users := [u for u in flow.users.get(v, ()) if _goes_on(u, root, bench)]:
        if any(i is not v and i in flow.learned for i in ops.value_inputs(users[0])):
            seats.append(users[0])
        v = users[0]
    for seat in reversed(seats):
        starts = [seat] if concentration is None else [seat, concentration]
        heads = front & flow.ancestors(*starts, stop=front | {noise})
        found = _whole(front, bench, Sampler(bench, root, noise, seat, tuple(flow.sorted(heads)), concentration))
        if found is not None:
            return found
    return None


def _beta(bench: Bench, root: fx.Node, concentration: fx.Node, front: set[fx.Node]) -> Sampler | None:
    """The first of a pair that add up to one."""
    flow = bench.model.flow
    noise = next((u for u in flow.users.get(root, ()) if ops.op(u) == "custom_gradient"), root)
    first = [u for u in flow.users.get(noise, ()) if ops.op(u) == "select" and u.args[1:] in ((-1, 0), (-1, 1))]
    if shape(root)[-1] != 2 or len(shape(root)) < 3 or not first:
        return None
    heads = front & flow.ancestors(concentration, stop=front)
    return _whole(front, bench, Sampler(bench, root, noise, first[0], tuple(flow.sorted(heads)), concentration))


def _goes_on(user: fx.Node, root: fx.Node, bench: Bench) -> bool:
    flow = bench.model.flow
    mapped = ops.op(user) in ops.POINTWISE and shape(user) == shape(root) and user in flow.noisy
    return mapped and not ops.uses_parameter(user) and ops.op(user) != "detach"


def _whole(front: set[fx.Node], bench: Bench, sampler: Sampler) -> Sampler | None:
    """The sampler where it is a function of the term's raw values, of one draw and of nothing else.

    Raw values that see the data through another draw alone are the prior's that the posterior starts from: they are held.
    """
    flow = bench.model.flow
    drawn = _drawn(bench)
    given = set(bench.model.record.inputs.values())
    own = tuple(h for h in sampler.heads if given & flow.ancestors(h, stop=drawn))
    sampler = replace(sampler, heads=own)
    ends = {*sampler.heads, *front}
    inside = flow.ancestors(sampler.v, stop={*ends, sampler.noise}) - ends
    if sampler.concentration is not None:
        inside |= flow.ancestors(sampler.concentration, stop=ends) - ends
    other = (inside & flow.random) - {sampler.root}
    stray = any(n.op == "placeholder" or (n in flow.data and ops.uses_parameter(n)) for n in inside)
    return sampler if sampler.heads and not other and not stray else None


def _drawn(bench: Bench) -> set[fx.Node]:
    """Values where noise has met the data, up to the next layers."""
    flow = bench.model.flow
    mixed = flow.noisy & flow.data
    met = [n for n in mixed if n in flow.random or any(i in flow.pure_noise for i in ops.value_inputs(n))]
    goes_on = ops.POINTWISE | ops.SHAPE | ops.CAST | ops.JOIN | {"custom_gradient", "select"}
    return reachable(met, lambda n: [u for u in flow.users.get(n, ()) if ops.op(u) in goes_on and not ops.uses_parameter(u)])
