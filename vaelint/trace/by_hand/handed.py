"""Gradients that a step hands to its parameters by its own hand, from `torch.autograd.grad` or put together of several passes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.record.marks import attribute, share_of
from vaelint.record.record import Objective
from vaelint.trace import torch_private
from vaelint.trace.by_hand.shares import UNKNOWN, Element, Share, Shares, shares_in

if TYPE_CHECKING:
    from vaelint.trace.recorder import Recorder

NO_PASS = -1  # a gradient in values of the step, and in no parameter


@dataclass
class Handed:
    """What the gradients and the parameters of one recorded step were made of by hand."""

    recorder: Recorder
    shares: dict[int, dict[int, Share]] = field(default_factory=dict)  # parameter -> the passes that move it, and how often each counts
    _results: dict[int, tuple[Element, torch.Tensor]] = field(default_factory=dict)  # id of a gradient that autograd.grad gave
    _looked: dict[int, tuple[set[Element], torch.Tensor]] = field(default_factory=dict)  # id of a gradient that was read
    _read: dict[fx.Node, set[Element]] = field(default_factory=dict)  # the same of one that has a node by then
    _put: set[int] = field(default_factory=set)  # parameters whose gradient was put there by hand
    data: dict[int, torch.Tensor] = field(default_factory=dict)  # parameter -> what was put in its place

    def given(self, number: int, inputs: Sequence[torch.Tensor], found: Sequence[object]) -> None:
        """What `torch.autograd.grad` gave."""
        self._results.update({id(g): ((number, id(t)), g) for t, g in zip(inputs, found, strict=True) if isinstance(g, torch.Tensor)})

    def looked(self, leaf: torch.Tensor, gradient: torch.Tensor | None, passes: Collection[int]) -> None:
        """The step reads a gradient that these passes have left."""
        if gradient is None or not passes:
            return
        elements = {(number, id(leaf)) for number in passes}
        self._looked.setdefault(id(gradient), (set(), gradient))[0].update(elements)
        if (node := self.recorder.node_for(gradient)) is not None and self._elements_of(node) is None:
            self._read.setdefault(node, set()).update(elements)

    def put(self, leaf: torch.Tensor, gradient: object) -> int | None:
        """`p.grad = gradient`; the pass that gave this very gradient."""
        self._put.add(id(leaf))
        known = self._results.get(id(gradient))
        return known[0][0] if known is not None and known[0][0] != NO_PASS else None

    def was_put(self, leaf: torch.Tensor) -> bool:
        """Whether the step has put a gradient there."""
        return id(leaf) in self._put

    def in_gradients(self, held: Sequence[torch.Tensor]) -> dict[int, set[int]]:
        """Of parameters that are about to be moved, the passes that their gradients were put together from."""
        if not self._results and not self._looked:
            return {}
        with torch_private.no_torch_function():
            nodes = {id(p): node for p in held if (g := p.grad) is not None and (node := self.recorder.node_for(g)) is not None}
        given = {number for (number, _), _ in self._results.values()}
        return self._note(nodes, 1.0, lambda leaf, passes: leaf in self._put or not given.isdisjoint(passes))

    def in_parameters(self, parameters: Iterable[torch.Tensor]) -> dict[int, set[int]]:
        """The passes by which the step moved parameters without an optimizer: `p -= rate * gradient`."""
        if not self._results and not self._looked:
            return {}
        found = {id(p): self.recorder.node_for(self.data.get(id(p), p)) for p in parameters}
        nodes = {i: node for i, node in found.items() if node is not None and node.op == "call_function"}
        return self._note(nodes, -1.0, lambda leaf, passes: True)

    def continues(self, weights: Sequence[torch.Tensor]) -> bool:
        """Whether a pass is given gradients of another one in what the step computed: it goes on with that one."""
        nodes = [node for w in weights if (node := self.recorder.node_for(w)) is not None]
        return bool(nodes and (self._results or self._looked)) and any(shares_in(nodes, self._elements()).get(n) for n in nodes)

    def weighed(
        self, losses: Sequence[torch.Tensor], objective: Objective, stacks: Sequence[tuple[Span, ...]], made: Callable[..., torch.Tensor]
    ) -> list[torch.Tensor]:
        """The losses of an objective, each as often as the step counts it. `made` applies a function and records what it gives."""
        found = []
        weights = objective.weights or [1.0] * len(losses)
        for loss, number, weight, stack in zip(losses, objective.passes, weights, stacks, strict=True):
            share: float | torch.Tensor | None = weight
            if share is None:
                share = torch.ones((), dtype=loss.dtype, device=loss.device)
                self.recorder.record_made(share_of, tuple(n.meta["val"] for n in self._given_by(number)), share)
            counted = loss if isinstance(share, float) and share == 1.0 else made(torch.mul, loss, share)
            if counted is not loss and (node := self.recorder.node_for(counted)) is not None:
                node.meta["stack"] = stack
            found.append(counted)
        return found

    def weights(self, passes: Sequence[int], moved: Collection[int]) -> list[float | None]:
        """How often each pass counts in what moves some parameters, against the first one; None where that is not a fixed number."""
        sizes = {id(p): p.numel() for p in self.recorder.modules.parameters}
        tables = [({n: t[n] for n in passes if n in t}, sizes.get(i, 0)) for i in moved if (t := self.shares.get(i))]
        most = max((len(t) for t, _ in tables), default=0)
        if most <= 1:  # what alone moves a parameter may have any size: its sign counts
            return [_sign(sum(size * _sign_of(t[n]) for t, size in tables if n in t)) for n in passes]
        ratios = [_ratios(t) for t, _ in tables if len(t) > 1]
        sign = _sign(sum(size * _sign_of(next(iter(t.values()))) for t, size in tables if len(t) > 1))
        found: list[float | None] = []
        for number in passes:
            known = {r[number] for r in ratios if number in r}
            found.append(next(iter(known)) if len(known) == 1 else None)
        return [w and sign * w for w in found]

    def _given_by(self, number: int) -> list[fx.Node]:
        """The values of the record that one pass gave as gradients."""
        return [node for node, elements in self._elements().items() if any(n == number for n, _ in elements)]

    def _note(self, nodes: Mapping[int, fx.Node], sign: float, counts: Callable[[int, Collection[int]], bool]) -> dict[int, set[int]]:
        shares = shares_in(nodes.values(), self._elements()) if nodes else {}
        found: dict[int, set[int]] = {}
        for leaf, node in nodes.items():
            if (made := _by_pass(shares.get(node, {}), leaf)) and counts(leaf, made):
                self.shares[leaf] = {n: s.by(sign) for n, s in made.items()}
                found[leaf] = set(made)
        return found

    def _elements(self) -> dict[fx.Node, set[Element]]:
        found = {node: elements for node in self.recorder.graph.nodes if (elements := self._elements_of(node))}
        return found | self._read

    def _elements_of(self, node: fx.Node) -> set[Element] | None:
        """The gradients that a node is as torch gave them."""
        source = node.args[0] if node.args else None
        if node.target is operator.getitem and isinstance(source, fx.Node) and source.target is torch.autograd.grad:
            known = self._results.get(id(node.meta.get("val")))
            return {known[0]} if known is not None else None
        if node.target is attribute and node.args[1] == "grad":
            read = self._looked.get(id(node.meta.get("val")))
            return read[0] if read is not None else None
        return None


def _by_pass(shares: Shares, leaf: int) -> dict[int, Share]:
    """Of what a parameter is moved by, how often each pass counts: by the gradients in itself, or where there are none by the others."""
    counted = {e: s for e, s in shares.items() if e[0] != NO_PASS}
    own = {e: s for e, s in counted.items() if e[1] == leaf}
    found: dict[int, Share] = {}
    for (number, _), share in (own or counted).items():
        found[number] = share if found.get(number, share) == share else UNKNOWN
    return found


def _sign_of(share: Share) -> float:
    """-1 where a gradient is climbed, as far as that is known."""
    return -1.0 if share.number is not None and share.number < 0 and not share.times else 1.0


def _sign(total: float | int) -> float:
    return -1.0 if total < 0 else 1.0


def _ratios(table: Mapping[int, Share]) -> dict[int, float | None]:
    """How often each pass counts against the first one; None where that is not known."""
    first = next(iter(table.values()))
    alike = all(s.times == first.times and s.number for s in table.values()) and first.number
    return {n: round(s.number / first.number, 9) if alike and s.number and first.number else None for n, s in table.items()}
