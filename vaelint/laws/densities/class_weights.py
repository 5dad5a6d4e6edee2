"""Law C2, for classes: weights that are counted from the data do not give the rare class even less.

Intervention: the data gets more ones (of two classes, more of the one) while the reconstruction is held at one value everywhere. Each
class then pulls in proportion to how often it occurs; weights by inverse frequency take that back, and none may add to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record.record import shape
from vaelint.rule import Found

_SHARES = (0.2, 0.5)  # of ones, before and after
_FILL = 0.3  # a logit or a probability
_MOST = 1.25  # 0 for weights by inverse frequency, 1 without weights, 2 for weights by frequency

_BEFORE = 6  # values that the target is made of
_ALIKE = 0.9  # of the target's elements are those of the value that is turned


@law("rare-classes-weigh-no-less", "a class that occurs more often pulls at most in proportion", covered=("VAE310", "VAE321", "VAE332"))
def rare_classes_weigh_no_less(bench: Bench) -> Iterator[Broken]:
    """Binary data and class labels whose weights in the loss are computed from the data itself."""
    for fact in bench.model.recons:
        for node in _whole(bench, fact):
            counted = _Counted.of(bench, fact, node)
            if counted is None or not (weights := counted.weights()):
                continue
            power = counted.power({})
            held = counted.power({w: bench.value(w) for w in weights})
            if power is None or power <= _MOST or held is None or abs(held - 1) > _MOST - 1:
                continue  # with the weights held, either class pulls in proportion, or something else than they is at work
            culprit = next((w for w in weights if (held := counted.power({w: bench.value(w)})) is not None and held <= _MOST), weights[-1])
            yield _inverted(bench, culprit, fact, power)
            return


def _whole(bench: Bench, fact: ReconFact) -> list[fx.Node]:
    """Where the classes may be turned: at an input, or at what the step has made of the inputs (data cut in two, a graph with loops)."""
    inputs, target, flow = list(bench.model.record.inputs.values()), fact.pair.target, bench.model.flow
    if target is None or target in inputs or target in flow.learned:
        return inputs
    before = [n for n in flow.sorted(flow.ancestors(target) & flow.data) if n not in inputs and shape(n) == shape(target)]
    return [*inputs, target, *(n for n in before[::-1] if n is not target and bench.is_real(n))][: len(inputs) + _BEFORE]


@dataclass(frozen=True)
class _Counted:
    """A reconstruction of data that has two values, or whole numbers."""

    bench: Bench
    fact: ReconFact
    target: fx.Node
    input: fx.Node

    @staticmethod
    def of(bench: Bench, fact: ReconFact, node: fx.Node) -> _Counted | None:
        target = fact.pair.target
        known = target is not None and all(bench.knows(n) for n in (node, target, fact.pair.recon))
        if target is None or not known or node not in bench.model.flow.ancestors(target):
            return None
        val = bench.value(node)
        if val.is_complex():
            return None
        whole = val.numel() >= 8 and bool((val.double() == val.double().round()).all())
        is_cut = bool((val <= 1).all()) and math.prod(shape(target)) < val.numel() and node in bench.model.record.inputs.values()
        alike = shape(node) == shape(target) or is_cut  # the target may be a part of the data: the upper triangle of a graph
        return _Counted(bench, fact, target, node) if whole and bool((val >= 0).all()) and alike else None

    def weights(self) -> list[fx.Node]:
        """What was made of the input alone, is no copy of the target, and meets what the decoder made."""
        flow = self.bench.model.flow
        inside = flow.ancestors(self.bench.base.loss_node) & flow.descendants(self.input)
        met = {i for n in inside if n in flow.learned for i in n.all_input_nodes if i in flow.data and i not in flow.learned}
        real = [n for n in flow.sorted(met) if self.bench.knows(n) and self.bench.is_real(n) and n not in (self.target, self.input)]
        return [n for n in real if self.fact.pair.recon not in flow.descendants(n) and not self._is_copy(n)]

    def _is_copy(self, node: fx.Node) -> bool:
        """Whether a value is the target again, enlarged at most."""
        val, target = self.bench.value(node), self.bench.value(self.target)
        return val.numel() == target.numel() and torch.equal(val.flatten().double(), target.flatten().double())

    def power(self, held: Mapping[fx.Node, torch.Tensor]) -> float | None:
        """The power of a class's share to which its pull grows, against the other class; None where it cannot be told."""
        pulls = [self._pull(share, held) for share in _SHARES]
        if pulls[0] is None or pulls[1] is None:
            return None
        odds = [math.log(s / (1 - s)) for s in _SHARES]
        return (pulls[1] - pulls[0]) / (odds[1] - odds[0])

    def _pull(self, share: float, held: Mapping[fx.Node, torch.Tensor]) -> float | None:
        """log of how hard the ones pull at the reconstruction, over how hard the zeros pull."""
        val = self.bench.value(self.input)
        ones = torch.zeros(val.numel(), dtype=torch.bool, device=val.device)
        ones[torch.randperm(val.numel(), generator=torch.Generator().manual_seed(3)).to(val.device)[: round(share * val.numel())]] = True
        new = ones.reshape(val.shape).to(val.dtype)
        recon = torch.full_like(self.bench.value(self.fact.pair.recon), _FILL).requires_grad_()
        changes = {self.input: new, self.fact.pair.recon: recon, **held}
        base, loss = self.bench.base, self.bench.base.loss_node
        got = base.recompute([loss, self.target], changes)
        new, same = _turned(got[self.target], new)
        if not got[loss].requires_grad or float(same.double().mean()) < _ALIKE:  # a graph's loops may be added
            return None
        slope = base.gradient(got[loss], [recon])[0]
        if slope is None:
            return None
        size = slope.detach().double().abs()
        axes = [d for d in range(size.dim()) if (*size.shape[:d], *size.shape[d + 1 :]) == tuple(new.shape)]
        size = size if size.shape == new.shape else size.sum(axes[0]) if axes else size.new_zeros(())
        if size.shape != new.shape:
            return None
        on, off = float(size[(new == 1) & same].sum()), float(size[(new == 0) & same].sum())
        return math.log(on / off) if on > 0 and off > 0 else None


def _turned(target: torch.Tensor, new: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The classes of the target's elements after the data was turned, and where they are known to be."""
    if target.shape == new.shape:
        return new, target.double() == new.double()
    return target, (target == 0) | (target == 1)


def _inverted(bench: Bench, weight: fx.Node, fact: ReconFact, power: float) -> Broken:
    model = bench.model
    found = Found(
        model.where(weight),
        label="grows with the class that it is to hold back",
        labels=model.labels((fact.pair.meet, "weighs the classes here")),
        why="the class that is rare anyway gets even less weight: predicting the frequent one everywhere costs next to nothing",
        help="weigh by inverse frequency: pos_weight = negatives / positives, or a weight of N / (C * count) for each class",
    )
    text = f"its pull grows with the power {power:.2g} of how often it occurs: 1 without weights, 0 for weights by inverse frequency"
    return Broken("class-weights-inverted", found, "a class pulls at most in proportion to how often it occurs", text)
