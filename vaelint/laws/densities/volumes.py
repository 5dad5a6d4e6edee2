"""Law C3, for flows: with the last draw held, log q moves with the flow's own numbers as the density of the sampler does.

For z = f(eps; t) with Gaussian eps, log q(z) = -|eps|^2 / 2 - log|det df/deps| + const. The numbers t of the flow (weights, and what the
encoder hands to it) are moved while eps makes up for it, so that z stays where it is: prior and decoder stay too, and the term may only
move by what log q does. The Jacobian is that of the recorded sampler, so neither the family of the flow nor its prior need be known. The
weight of the term is taken from the posterior's own mean and scale, moved in the same way; where those disagree, nothing is said of an
entropy in closed form beside a log-determinant. A log q that is estimated at the draw agrees with both at one weight: where it agrees
with neither at any, it is the density of another value than the one that enters the flow.

Source: Rezende & Mohamed 2015, Variational inference with normalizing flows, eq. 6 and 13.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Term
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.messages import message_of
from vaelint.core.reach import ends
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError, gradients
from vaelint.rule import Found

_BATCH = 4
_MOST_LATENTS = 64
_DIRECTIONS = 3
_STEP = 1e-5
_SAME = 1e-3  # the arithmetic is exact to 1e-6
_OFF = 0.02
_SHARE = 0.75  # of all samples and directions; a kink may lie in the way of the others
_MOVED = (0.1, 0.4)  # of a flow near the identity, all volumes are near 1: what is off shows further on
_LOGS = frozenset({"log", "log1p", "logsigmoid", "log_sigmoid", "logdet", "slogdet"})
_BOUNDS = frozenset({"clamp", "clip", "clamp_min", "clamp_max", "maximum", "minimum", "relu", "where", "batch_norm"})

Values = Mapping[fx.Node, torch.Tensor]


@law(
    "volumes-follow-the-flow",
    "with the last draw held, log q moves with a flow's own numbers as the density of its draws does",
    covered=("VAE408", "VAE427", "VAE428"),
    cost="replay",
)
def volumes_follow_the_flow(bench: Bench) -> Iterator[Broken]:
    """KL terms estimated at draws that a flow has moved."""
    reasons: list[str] = []
    for term in bench.model.terms:
        if term.role != "kl" or term.detached is not None or term.core is None:
            continue
        for site in term.sites:
            volume = Volume(bench, term, site)
            try:
                off = volume.off() if volume.is_of_a_flow else None
            except ReplayError as error:
                reasons.append(message_of(error))
                continue
            if off is not None:
                yield _broken(bench, volume, *off)
    if reasons:
        raise CannotMeasureError(f"the flow does not run by itself: {reasons[0]}")


@dataclass(frozen=True)
class Volume:
    """A term log q(z) - log p(z) as a function of the noise, the posterior's raw values and the numbers of a flow."""

    bench: Bench
    term: Term
    site: Site

    @cached_property
    def core(self) -> fx.Node:
        """The term, one or more numbers a sample."""
        assert self.term.core is not None
        return self.term.core

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The recorded sizes, with a few samples."""
        return {**self.bench.model.record.sizes, "B": _BATCH}

    @cached_property
    def last(self) -> fx.Node | None:
        """The last value of the noise's size that all of the reconstruction is decoded from, and that the term reads."""
        flow, noise = self.bench.model.flow, self.site.noise[0]
        decoded = [leaf.node for term in self.bench.model.terms_of("reconstruction") for leaf in term.leaves]
        below = flow.descendants(self.site.z) & flow.ancestors(self.core, stop=frozenset(decoded))  # one sum may hold both terms
        passes = flow.gates(noise, decoded)
        return next((node for node in reversed(passes) if node in below and shape(node) == shape(noise)), None)

    @cached_property
    def numbers(self) -> list[fx.Node]:
        """The weights of the flow, and what layers that read the data hand to it; without those that the prior reads as well."""
        flow = self.bench.model.flow
        if self.last is None:
            return []
        behind = flow.ancestors(self.last, stop={self.site.z})
        moved = (behind & flow.descendants(self.site.z)) - {self.site.z}

        def beyond(node: fx.Node) -> list[fx.Node] | None:
            raw = node.op == "get_attr" and node.meta.get("parameter")  # a triangle of it stays one
            if raw or (node in flow.data and ops.uses_parameter(node)):
                return None
            return node.all_input_nodes

        found = ends([i for n in moved for i in n.all_input_nodes if i not in moved and i is not self.site.z], beyond)
        after = [leaf.node for leaf in self.term.leaves if self.last in flow.ancestors(leaf.node)]
        other = [s.z for s in self.bench.model.sites if s is not self.site and s.z not in flow.ancestors(self.last)]
        shared = flow.ancestors(*after, *other, stop={self.last}) if after or other else set()
        shared -= self._only_draw(after)
        return [n for n in flow.sorted(found) if n not in shared and n not in self.site.heads and self.bench.is_real(n)]

    def _only_draw(self, after: list[fx.Node]) -> set[fx.Node]:
        """The numbers that addends which read the last draw see by way of earlier values of the flow alone."""
        flow = self.bench.model.flow
        assert self.last is not None
        parts = flow.ancestors(self.last) | {self.last}
        outside = {n for leaf in after for n in flow.ancestors(leaf) | {leaf}} - parts
        direct = {i for n in outside for i in n.all_input_nodes}
        return {n for n in flow.ancestors(self.last) if n not in direct}

    @property
    def is_of_a_flow(self) -> bool:
        """Whether one draw a sample is moved by numbers of a flow, and log q has no other draws, bounds or pairs."""
        model, flow, site = self.bench.model, self.bench.model.flow, self.site
        if site.kind != "gaussian" or len(site.noise) != 1 or not site.heads or not shape(self.core):
            return False
        if self.last is None or self.last is site.z or not self.numbers:
            return False
        inside = flow.ancestors(self.core, stop={*site.heads, self.last})
        beside = flow.descendants(*self.numbers, *site.heads, stop={self.last}) & inside - flow.ancestors(self.last)
        known = {r for s in model.sites for r in (*s.roots, *s.noise)}
        return (
            math.prod(shape(self.last)[1:]) <= _MOST_LATENTS
            and all(model.dims(n)[:1] == ("B",) for n in (self.core, self.last, site.noise[0]))
            and not any(self.bench.is_of_pairs(n) for n in inside if self.bench.is_real(n))
            and not any(ops.op(n) in _BOUNDS for n in beside)
            and not any(ops.op(n) == "batch_norm" for n in flow.ancestors(self.last, stop=set(site.heads)))
            and (flow.random & inside) <= known
        )

    def _values(self, seed: int, moved: float) -> tuple[dict[fx.Node, torch.Tensor], dict[fx.Node, torch.Tensor]]:
        """Noise and posterior, and the flow's numbers near their own values."""
        replay, generator = self.bench.model.replay, torch.Generator().manual_seed(seed)

        def drawn(node: fx.Node, size: float) -> torch.Tensor:
            return size * torch.randn(replay.shape_of(node, self.sizes), dtype=torch.float64, generator=generator)

        posterior = {n: drawn(n, 0.5) for n in self.site.heads}
        own = replay(self.numbers, {}, self.sizes)
        return {self.site.noise[0]: drawn(self.site.noise[0], 1.0), **posterior}, {
            n: own[n].detach().double() + drawn(n, moved) for n in self.numbers
        }

    def _at(self, values: Values) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The last draw, the term and the Jacobian of the draw in the noise, of each sample."""
        noise = self.site.noise[0]
        assert self.last is not None
        eps = values[noise].clone().requires_grad_()
        got = self.bench.model.replay([self.last, self.core], {**values, noise: eps * 1}, self.sizes)
        last = got[self.last].reshape(_BATCH, -1)
        rows = []
        for i in range(last.shape[1]):
            row = gradients(last[:, i], [eps], retain=True)[0]
            rows.append((torch.zeros_like(eps) if row is None else row).reshape(_BATCH, -1))
        return last.detach(), got[self.core].detach().reshape(_BATCH, -1).sum(1), torch.stack(rows, 1)

    def _moves(self, values: dict[fx.Node, torch.Tensor], way: Values) -> tuple[torch.Tensor, torch.Tensor]:
        """How fast the term and log q move along a way on which the last draw stays where it is, of each sample."""
        noise = self.site.noise[0]
        ahead, behind = ({n: v + sign * _STEP * way[n] if n in way else v for n, v in values.items()} for sign in (1, -1))
        here, there = self._at(ahead)[0], self._at(behind)[0]
        jacobian = self._at(values)[2]
        back, _ = torch.linalg.solve_ex(jacobian, (there - here).unsqueeze(2) / (2 * _STEP))  # not finite where it is singular
        back = back.reshape(values[noise].shape)
        sides = []
        for sign, moved in ((1, ahead), (-1, behind)):
            eps = values[noise] + sign * _STEP * back
            _, cost, volume = self._at({**moved, noise: eps})
            sides.append((cost, -torch.linalg.slogdet(volume)[1] - eps.reshape(_BATCH, -1).square().sum(1) / 2))
        return (sides[0][0] - sides[1][0]) / (2 * _STEP), (sides[0][1] - sides[1][1]) / (2 * _STEP)

    def _asked(self, nodes: list[fx.Node], moved: float) -> tuple[torch.Tensor, torch.Tensor]:
        """The same along several random ways of some nodes, at as many states."""
        costs, logs = [], []
        for seed in range(_DIRECTIONS):
            first, second = self._values(seed, moved)
            values = {**first, **second}
            generator = torch.Generator().manual_seed(100 + seed)
            way = {n: torch.randn(values[n].shape, dtype=torch.float64, generator=generator) for n in nodes}
            cost, log = self._moves(values, way)
            costs.append(cost)
            logs.append(log)
        return torch.cat(costs), torch.cat(logs)

    def off(self) -> tuple[float, bool] | None:
        """By what share the term moves otherwise than log q with the flow's numbers, and whether with its own draw's moments too."""
        flow = self.bench.model.flow
        logs = any(ops.op(n) in _LOGS for n in flow.descendants(*self.numbers) & flow.ancestors(self.core))
        # without a logarithm, a trace may be added up over small steps of time, which is near only where the steps are
        return next((off for moved in (_MOVED if logs else _MOVED[:1]) if (off := self._off_at(moved)) is not None), None)

    def _off_at(self, moved: float) -> tuple[float, bool] | None:
        by_heads, by_numbers = self._asked(list(self.site.heads), moved), self._asked(self.numbers, moved)
        weight = float((by_heads[0] / by_heads[1]).median())
        if weight == 0:
            return None
        if _alike(by_heads[0], weight * by_heads[1], _SAME):
            share = self._apart(*by_numbers, weight)
            return (share, False) if share is not None else None
        found = [self._apart(cost, log, float((cost / log).median())) for cost, log in (by_heads, by_numbers)]
        if self.sampled is None or None in found or any(float(cost.abs().median()) == 0 for cost, _ in (by_heads, by_numbers)):
            return None  # no estimate at the draw, or one that is held against values without a gradient
        return max(share for share in found if share is not None), True

    @cached_property
    def sampled(self) -> fx.Node | None:
        """The addend that holds a draw against mean and spread of the posterior: log q is estimated, not in closed form."""
        noisy, heads = self.bench.model.flow.noisy, set(self.site.heads)
        own = (leaf for leaf in self.term.leaves if leaf.detached is None and heads <= set(leaf.frontier))
        return next((leaf.node for leaf in own if any(f in noisy and f not in heads for f in leaf.frontier)), None)

    @staticmethod
    def _apart(cost: torch.Tensor, log: torch.Tensor, weight: float) -> float | None:
        """By what share a term moves otherwise than log q; None where it does not, or not for sure."""
        apart = (cost - weight * log).abs() / (cost.abs() + (weight * log).abs()).clamp(min=1e-9)
        if not bool(apart.isfinite().all()) or float((apart > _OFF).double().mean()) < _SHARE:
            return None
        return float(apart.median())

    @property
    def place(self) -> fx.Node:
        """The first value that the flow's numbers make for log q, and not for the draw."""
        flow = self.bench.model.flow
        assert self.last is not None
        made = flow.descendants(*self.numbers) & flow.ancestors(self.core)
        own = made - flow.ancestors(self.last) - flow.descendants(self.last) - {self.last}
        return next((n for n in flow.sorted(own) if self.bench.is_real(n)), self.core)


def _alike(one: torch.Tensor, other: torch.Tensor, share: float) -> bool:
    apart = (one - other).abs()
    return bool(apart.isfinite().all()) and float(apart.median()) <= share * float(one.abs().median())


def _broken(bench: Bench, volume: Volume, off: float, elsewhere: bool) -> Broken:
    model = bench.model
    found = Found(
        (bench.called(volume.sampled, volume.term) or model.where(volume.sampled)) if elsewhere else model.where(volume.place),
        label="not the density of the draw that enters the flow"
        if elsewhere
        else "not the logarithm of the factor by which the flow changes volumes",
        labels=model.labels((volume.last, "the draw, after the flow"), (volume.site.z, "drawn here")),
        why="log q is not the log-density of what the flow puts out: the loss is minimised by a flow that shrinks or grows without need",
        help="log q(z_K) = log q(z_0) - sum log|det dz_k/dz_(k-1)|; for z * scale + shift it is the sum of log(scale)",
    )
    text = f"with z held, the term and log q move by numbers that are {100 * off:.2g} % of their sizes apart"
    return Broken("kl-formula", found, "with z held, the term moves with the flow as log q does", text)
