"""The replay of one KL term: its loose ends, how to set them, and the gradients that come out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from vaelint.anatomy.kl.root import off, root
from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.terms import Term
from vaelint.anatomy.posterior.noise import standard_deviation
from vaelint.anatomy.posterior.sites import Site
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.replay.replay import Replay, ReplayError, gradients


@dataclass
class Slice:
    """The replay of one KL term: its loose ends and how to set them."""

    term: Term
    loss: fx.Node
    replay: Replay
    flow: Flow
    sites: list[Site]
    heads: list[fx.Node]
    others: list[fx.Node]  # loose ends that are not the posterior's: prior networks, prior draws
    draws: list[fx.Node]
    after: list[fx.Node]  # what learned layers make of the draw: it follows the draw

    def overrides(
        self, sizes: Mapping[str, int], values: Mapping[fx.Node, torch.Tensor], fill: float, draw: torch.Tensor | float | None, seed: int
    ) -> dict[fx.Node, Any]:
        """Posterior heads as given, everything else constant, other terms of the loss silent."""
        out: dict[fx.Node, Any] = dict(silence_others(self.term, self.replay, sizes))
        generator = torch.Generator().manual_seed(seed)
        for n in self.others:
            out[n] = torch.full(self.replay.shape_of(n, sizes), fill, dtype=torch.float64)
        for n in self.draws:
            size = self.replay.shape_of(n, sizes)
            out[n] = (
                torch.full(size, draw, dtype=torch.float64)
                if isinstance(draw, float)
                else torch.randn(size, dtype=torch.float64, generator=generator)
            )
        out.update(values)
        return out

    def gradients(
        self,
        sizes: Mapping[str, int],
        values: Mapping[fx.Node, torch.Tensor],
        fill: float = 0.3,
        draw: float | None = None,
        seed: int = 0,
        even: float = 0.0,
    ) -> dict[fx.Node, torch.Tensor]:
        """d loss / d head for every head, through this term alone."""
        leaves = {h: v.detach().clone().requires_grad_() for h, v in values.items()}
        overrides = self.overrides(sizes, {h: v.clone() for h, v in leaves.items()}, fill, draw, seed)
        out = self.replay([self.loss], overrides, sizes, even=even)[self.loss]
        if not isinstance(out, torch.Tensor) or not out.requires_grad:
            return {h: torch.zeros_like(v) for h, v in leaves.items()}
        grads = gradients(out, list(leaves.values()))
        return {h: torch.zeros_like(v) if g is None else g for (h, v), g in zip(leaves.items(), grads, strict=True)}

    def moments(
        self, site: Site, sizes: Mapping[str, int], values: Mapping[fx.Node, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Mean and scale of a site's draw as (differentiable) functions of the heads; what else they are made of is constant."""
        values = {**{n: torch.full(self.replay.shape_of(n, sizes), 0.3, dtype=torch.float64) for n in self.others}, **values}
        if site.kind == "drawn":
            got = self.replay([n for n in (site.mu, site.scale) if n is not None], dict(values), sizes, attached=True)
            return got[site.mu], got.get(site.scale)  # type: ignore[index,arg-type]
        at = {}
        units = {n: standard_deviation(n, self.flow, self.replay, sizes) for n in site.noise}
        try:
            for level in (0.0, 1.0):
                noise = {n: torch.full(self.replay.shape_of(n, sizes), level * unit, dtype=torch.float64) for n, unit in units.items()}
                at[level] = self.replay([site.z], {**values, **noise}, sizes, attached=True)[site.z]
        except ReplayError:
            if site.mu is None or site.scale is None:
                raise
            got = self.replay([site.mu, site.scale], dict(values), sizes, attached=True)  # the noise has a fixed shape
            return got[site.mu], got[site.scale]
        return at[0.0], at[1.0] - at[0.0]


def value_near(slice_: Slice, site: Site, sizes: Mapping[str, int], scale: float) -> tuple[float, float | None]:
    """The term where the posterior has mean 0 and this scale everywhere; None for the scale where no head gives it."""
    if len(site.mu_heads) != 1 or len(site.scale_heads) != 1 or site.mu_heads == site.scale_heads:
        return 0.0, None

    def at(h: float) -> dict[fx.Node, torch.Tensor]:
        return {
            n: torch.full(slice_.replay.shape_of(n, sizes), h if n in site.scale_heads else 0.0, dtype=torch.float64) for n in slice_.heads
        }

    def scale_at(h: float) -> float:
        _, s = slice_.moments(site, sizes, at(h))
        return abs(float(s.flatten()[0])) if s is not None else 0.0

    low, high = -12.0, 12.0
    if not scale_at(low) <= scale <= scale_at(high):
        return 0.0, None
    found = root(lambda h: off(scale_at(h), scale), low, high)
    out = slice_.replay([slice_.loss], slice_.overrides(sizes, at(found), 0.0, None, 0), sizes)[slice_.loss]
    return float(out.sum()), scale_at(found)


def loose_ends(term: Term, loss: fx.Node, sites: list[Site], flow: Flow, replay: Replay) -> Slice:
    """Finds what a KL term is a function of."""
    front = {f for leaf in term.leaves for f in leaf.frontier}
    mine = [s for s in sites if s.z in front or any(h in front for h in s.heads)]
    reached = flow.ancestors(*[leaf.node for leaf in term.leaves])
    heads = flow.sorted({h for s in mine for h in s.heads})
    zs = {s.z for s in mine if s.z in front}
    loose = [f for f in front if f not in heads and f not in zs and f in flow.learned]
    follows = flow.descendants(*zs) if zs else set()
    others, after = [f for f in loose if f not in follows], [f for f in loose if f in follows]
    others += _free_priors(reached, flow, {*heads, *zs, *others})
    draws = [n for s in mine if s.z in zs for n in s.noise if n in reached]
    return Slice(term, loss, replay, flow, mine, heads, others, draws, after)


def _free_priors(reached: set[fx.Node], flow: Flow, known: set[fx.Node]) -> list[fx.Node]:
    """The last layers' outputs in a term that depend on no input: a prior that is read from a start value."""
    layers = [n for n in reached if n not in known and n not in flow.data and n in flow.learned and ops.op(n) in ops.LAYERS]
    above = flow.ancestors(*(i for n in layers for i in ops.value_inputs(n)))
    return [n for n in flow.sorted(set(layers)) if n not in above]
