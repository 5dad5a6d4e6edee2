"""Law C3 and C4, for Dirichlet draws: the gradient of the KL in the concentration is that of the family, whatever the prior.

d KL(q || p) / da_k = w ((a_k psi'(a_k) - a_0 psi'(a_0)) - b_k psi'(a_k) + b_0 psi'(a_0)), with a_0 the sum of the a_k and unknown b. A
term that neither this nor the turned-round KL explains is exempt where it is a divergence all the same: 0 where it is least.

Source: Penny 2001, KL divergences of Normal, Gamma, Dirichlet and Wishart densities, section 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import torch
from torch import fx

from vaelint.anatomy.kl.kl_gamma import concentration, fit_concentration, random_concentrations
from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.mended import mended_operation, said_of
from vaelint.anatomy.loss.terms import Term
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.densities.lowest import Lowest
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError, gradients
from vaelint.rule import Found

_RUNS = 6
_TOLERANCE = 1e-3
_STEP = 1e-4
_ALIKE = 0.1
_MOST = 200  # exchanges that are tried
_FUNCTIONS = frozenset({"digamma", "lgamma", "log", "polygamma"})


@law(
    "concentrations-pull-as-their-family",
    "the gradient of a Dirichlet KL in the concentration is that of the family",
    covered=("VAE20", "VAE21", "VAE40", "VAE41", "VAE42", "VAE43"),
    cost="replay",
)
def concentrations_pull_as_their_family(bench: Bench) -> Iterator[Broken]:
    """Closed forms of one Dirichlet posterior. Gamma and Beta draws are measured by their sampler."""
    reasons: list[str] = []
    for term in bench.model.terms_of("kl"):
        found = concentration(term)
        if found is None or found[2] != "Dirichlet" or term.detached is not None or term.core is None or shape(found[1])[-1] < 3:
            continue
        one = Concentrated(bench, term, found[1])
        try:
            broken = not one.fits({}) and not one.is_divergence
        except ReplayError as error:
            reasons.append(message_of(error))
            continue
        if broken:
            yield _broken(bench, one)
    if reasons:
        raise CannotMeasureError(f"the KL does not run by itself: {reasons[0]}")


@dataclass(frozen=True)
class Concentrated:
    """A term as a function of one concentration."""

    bench: Bench
    term: Term
    at: fx.Node

    @cached_property
    def inside(self) -> list[fx.Node]:
        """What the formula is made of, from the concentration on."""
        flow = self.bench.model.flow
        factors = [i for leaf in self.term.leaves for n in leaf.chain if ops.op(n) in ops.MUL for i in ops.value_inputs(n)]
        return flow.sorted(flow.ancestors(*(leaf.node for leaf in self.term.leaves), *factors, stop={self.at}))

    @property
    def is_divergence(self) -> bool:
        """Whether the term is 0 where it is least, and grows from there as the family's Fisher information."""
        flow = self.bench.model.flow
        front = {f for leaf in self.term.leaves for f in leaf.frontier}
        heads = flow.sorted(front & flow.ancestors(self.at))
        if not heads:
            return False
        lowest = Lowest(self.bench, self.term, heads, flow.sorted(front - set(heads)))
        return lowest.is_zero and self._is_bent_as_family(lowest)

    def _is_bent_as_family(self, lowest: Lowest) -> bool:
        replay, at = self.bench.model.replay, self.at
        middle = replay([at], {**lowest.held, **lowest.values}, lowest.sizes)[at].detach()

        def slope(a: torch.Tensor) -> torch.Tensor:
            leaf = a.clone().requires_grad_()
            found = gradients(replay([lowest.whole], {**lowest.held, at: leaf * 1}, lowest.sizes)[lowest.whole], [leaf])[0]
            return torch.zeros_like(a) if found is None else found

        generator, ratios = torch.Generator().manual_seed(6), []
        for _ in range(_RUNS):
            way = torch.zeros_like(middle)
            way.view(-1, way.shape[-1])[0] = torch.randn(way.shape[-1], dtype=torch.float64, generator=generator)
            bend = float(((slope(middle + _STEP * way) - slope(middle - _STEP * way)) * way).sum()) / (2 * _STEP)
            whole = torch.polygamma(1, middle.sum(-1)) * way.sum(-1).square()
            ratios.append(bend / float(((torch.polygamma(1, middle) * way.square()).sum(-1) - whole).sum()))
        return max(ratios) - min(ratios) <= _ALIKE * max(abs(r) for r in ratios)

    def fits(self, exchanged: Mapping[fx.Node, fx.Node]) -> bool:
        """Whether it is a KL where functions take another value in place of their own. Raises ReplayError."""
        model = self.bench.model
        assert model.record.loss is not None
        sizes = dict(model.record.sizes)
        quiet = {n: v for n, v in silence_others(self.term, model.replay, sizes).items() if n.meta.get("grad")}
        values, slopes = [], []
        for seed in range(_RUNS):
            leaf = random_concentrations(model.replay.shape_of(self.at, sizes), seed).requires_grad_()
            put = self._put(exchanged, leaf, sizes)
            out = model.replay([model.record.loss], {**quiet, self.at: leaf * 1, **put}, sizes)[model.record.loss]
            if not isinstance(out, torch.Tensor) or not out.requires_grad:
                raise ReplayError("no gradient reaches the posterior")
            (g,) = gradients(out, [leaf])
            if g is None:
                raise ReplayError("no gradient reaches the posterior")
            values.append(leaf.detach().flatten(0, -2))
            slopes.append(g.flatten(0, -2))
        found = fit_concentration(torch.cat(values), torch.cat(slopes), "Dirichlet", _TOLERANCE)
        return found is not None and not (exchanged and (found.is_reversed or found.weight < 0))  # of those, other rules speak

    def _put(self, exchanged: Mapping[fx.Node, fx.Node], leaf: torch.Tensor, sizes: dict[str, int]) -> dict[fx.Node, torch.Tensor]:
        if not exchanged:
            return {}
        got = self.bench.model.replay(list(exchanged.values()), {self.at: leaf * 1}, sizes)
        return {n: n.target(got[other], *n.args[1:], **n.kwargs) for n, other in exchanged.items()}  # type: ignore[operator]

    def mended_by(self) -> tuple[fx.Node, fx.Node] | None:
        """The function, and the value of the formula, with which the term is a KL."""
        tried = 0
        for node in self.inside:
            if ops.op(node) not in _FUNCTIONS or not node.args or not isinstance(node.args[0], fx.Node):
                continue
            for other in (self.at, *self.inside):
                if other is node.args[0] or not self._goes_in(other, node) or not self.bench.is_real(other) or tried >= _MOST:
                    continue
                if node in self.bench.model.flow.ancestors(other):
                    continue
                tried += 1
                try:
                    if self.fits({node: other}):
                        return node, other
                except ReplayError:
                    continue
        return None

    def _goes_in(self, other: fx.Node, node: fx.Node) -> bool:
        """Whether what reads a function keeps its shape where the function takes this value: a total for each sample, or for all."""
        size = shape(other)
        if size == shape(node.args[0]):  # type: ignore[arg-type]
            return True
        users = self.bench.model.flow.users.get(node, ())
        return bool(users) and all(ops.op(u) in ops.POINTWISE and _broadcast(size, shape(u)) == shape(u) for u in users)


def _broadcast(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        return tuple(torch.broadcast_shapes(one, other))  # type: ignore[no-untyped-call]
    except RuntimeError:
        return None


def _broken(bench: Bench, one: Concentrated) -> Broken:
    model = bench.model
    mended = one.mended_by()
    exchange = mended_operation(bench.model, one.term, {one.at}, lambda: one.fits({})) if mended is None else None
    node = mended[0] if mended is not None else exchange.node if exchange is not None else one.term.core
    label = "its gradient is that of no Dirichlet KL"
    if exchange is not None:
        label = said_of(bench.model, exchange, "this is a KL")
    if mended is not None:
        label = f"with {model.written(mended[1])} instead of {model.written(mended[0].args[0])} this is a KL"  # type: ignore[arg-type]
    found = Found(
        model.where(node),
        label=label,
        labels=model.labels(*((s.z, "drawn here") for s in one.term.sites[:1])),
        why="the loss is minimised by the wrong posterior: the term is not the KL of the drawn distribution",
        help="KL = lgamma(a0) - sum lgamma(a) - lgamma(b0) + sum lgamma(b) + sum (a - b) (digamma(a) - digamma(a0)), with "
        "a0 = a.sum(-1) and b0 = b.sum(-1)",
    )
    text = "no prior and no weight explain the gradient in the concentration"
    return Broken("kl-formula", found, "the gradient of a Dirichlet KL is linear in the prior's concentration", text)
