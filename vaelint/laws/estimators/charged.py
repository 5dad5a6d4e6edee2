"""log q(z) at a draw of its own, as the loss weighs it, and by which of two ways its gradient reaches the encoder.

The path leads through the draw; the score is what the posterior's own numbers pull with the draw held. The score averages to 0 over the
draws, the path is the whole gradient of the entropy: so where the loss charges log q, it may hold the score and not the path.

Source: Roeder et al. 2017, Sticking the landing, eq. 5 and 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise, zip_longest

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Leaf, Term, part_of
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.finding import Span
from vaelint.core.reach import reachable
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.record import ops
from vaelint.record.record import route

_NOTHING = 1e-6
_FAR = 6.0


@dataclass(frozen=True)
class Charged:
    """The addends that are log q(z) of one draw, and the expression that holds them, element by element."""

    bench: Bench
    site: Site
    leaves: tuple[Leaf, ...]
    density: fx.Node

    @staticmethod
    def all_of(bench: Bench) -> Iterator[Charged]:
        """One for each draw whose log-density the loss reads at the draw; none of closed forms, which read the mean without it."""
        flow = bench.model.flow
        for term in (*bench.model.terms_of("kl"), *bench.model.terms_of("mixed")):
            for site in (s for s in term.sites if s.z.meta.get("grad") and s.heads and bench.knows(s.z)):
                own = [leaf for leaf in term.leaves if leaf.detached is None and set(site.heads) & set(leaf.frontier)]
                if not own or not all(_is_of_a_density(leaf, site) for leaf in own):
                    continue
                density = _whole(bench, term, own, site)
                if density is not None and site.z in flow.ancestors(density) and all(bench.knows(h) for h in site.heads):
                    yield Charged(bench, site, tuple(own), density)

    @cached_property
    def weight(self) -> torch.Tensor | None:
        """How much the loss grows with each element of log q. Raises CannotMeasureError."""
        base = self.bench.base
        found = base.gradient(base.loss, [self.bench.value_with_graph(self.density)])[0]
        return None if found is None or self._sign is None else self._sign * found

    @cached_property
    def _sign(self) -> float | None:
        """-1 where the expression falls as log q rises: log q falls far away from where z is drawn. None where it has no value there."""
        bench, z = self.bench, self.site.z
        at = bench.value(z)
        here, far = (bench.after({z: at + by}, [self.density])[self.density].double().sum() for by in (0.0, _FAR * (at.std() + 1.0)))
        return float((here - far).sign()) if bool(far.isfinite()) and here != far else None

    @cached_property
    def path(self) -> torch.Tensor | None:
        """The gradient of the expression in the draw; None where none arrives."""
        bench = self.bench
        found = bench.base.gradient(bench.value_with_graph(self.density), [bench.value_with_graph(self.site.z)])[0]
        return found if found is not None and float(found.abs().max()) > _NOTHING else None

    @cached_property
    def has_score(self) -> bool:
        """Whether the posterior's own numbers pull at log q with the draw held: backward comes to them without coming past the draw.

        Asked of autograd's graph: a hook on the draw changes what arrives there.
        """
        bench = self.bench
        stop = bench.value_with_graph(self.site.z).grad_fn
        heads = {bench.value_with_graph(h).grad_fn for h in self.site.heads} - {None}
        start = bench.value_with_graph(self.density).grad_fn
        found = reachable([start], lambda fn: [f for f, _ in fn.next_functions if f is not None and f is not stop]) if start else set()
        return bool(found & heads)

    @property
    def place(self) -> Span | None:
        """Where log q is asked for: of a density that log p is asked of too, its call."""
        model = self.bench.model
        others = [
            route(leaf.node) for term in model.terms for leaf in term.leaves if leaf not in self.leaves and leaf.role in ("kl", "prior")
        ]
        way = route(self.density)
        for place, caller in zip_longest(way, way[1:]):
            inside = model.source.function(place)
            elsewhere = {(c and c.line) for other in others for p, c in zip_longest(other, other[1:]) if model.source.function(p) is inside}
            if inside is None or elsewhere <= {caller and caller.line}:
                return place
        return model.where(self.density)

    @property
    def is_drawn_through(self) -> bool:
        """Whether the loss pulls at the draw, and the draw at the posterior's numbers."""
        bench, base = self.bench, self.bench.base
        z = bench.value_with_graph(self.site.z)
        pulled = base.gradient(base.loss, [z])[0]
        moved = base.gradient(z, [bench.value_with_graph(h) for h in self.site.heads])
        return pulled is not None and float(pulled.abs().max()) > 0 and any(g is not None for g in moved)

    @property
    def held_weights(self) -> tuple[fx.Node, ...]:
        """Those of the weights that have no gradient."""
        return tuple(n for n in self.weights_of_draws if not n.meta.get("grad"))

    @property
    def weights_of_draws(self) -> tuple[fx.Node, ...]:
        """Values that the draws have made, and that multiply log q on its way to the loss."""
        flow, found = self.bench.model.flow, []
        for leaf in self.leaves:
            for source, node in pairwise((leaf.node, *reversed(leaf.chain))):
                if ops.op(node) in ops.MUL:
                    found += [n for n in ops.value_inputs(node) if n is not source and n in flow.noisy]
        return tuple(dict.fromkeys(found))


def _is_of_a_density(leaf: Leaf, site: Site) -> bool:
    """Whether an addend reads the draw, or the spread alone: the mean by itself is a closed form's."""
    return site.z in leaf.frontier or not set(site.mu_heads) - set(site.scale_heads) & set(leaf.frontier)


def _whole(bench: Bench, term: Term, own: list[Leaf], site: Site) -> fx.Node | None:
    if not any(site.z in leaf.frontier and set(site.heads) & set(leaf.frontier) for leaf in own):
        return None
    core = part_of(term, own, [site], bench.model.flow).core
    return core if core is not None and bench.is_real(core) and bench.knows(core) else None
