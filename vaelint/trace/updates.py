"""What a step itself did with gradients: its backward passes, what its optimizers moved, and so which losses it minimised.

A step that trains by itself (`loss.backward(); optimizer.step()`) is taken as it is: what it differentiated is its loss. While it is
recorded its optimizers move nothing of the model, so that gradients can still be taken of what was computed before. A run that shows
what the step does to the parameters leaves it alone: `as_is`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import fx

from vaelint.core.finding import Span
from vaelint.core.reach import reachable
from vaelint.late import dataclass
from vaelint.record.gradient_clips import limits_gradients
from vaelint.record.losses import behind, compares, draws, made_alike, without_turns
from vaelint.record.record import BackwardCall, GradientUse, IdleStep, Objective
from vaelint.record.walk import functions_behind, leaves_behind
from vaelint.trace import torch_private
from vaelint.trace.by_hand.handed import NO_PASS, Handed
from vaelint.trace.by_hand.pass_arguments import gradient_of, keeps_graph, of_function, tensors_in

if TYPE_CHECKING:
    from vaelint.trace.recorder import Recorder

Function = Callable[..., Any]


class Finished(BaseException):
    """The losses that were asked for have been differentiated: what comes after in the step is not run."""


@dataclass
class Updates:
    """The backward passes of one recorded step, and what became of their gradients.

    `trained` are the ids of the model's parameters. With `until`, the step ends when the passes of that objective have run.
    """

    recorder: Recorder
    trained: frozenset[int]
    until: Objective | None = None
    as_is: bool = False
    calls: list[BackwardCall] = field(default_factory=list)
    idle: list[IdleStep] = field(default_factory=list)
    inner: set[int] = field(default_factory=set)  # ids of tensors, no parameters of the model, that the step follows a gradient in
    uses: list[GradientUse] = field(default_factory=list)
    _used: dict[int, Span | None] = field(default_factory=dict)  # parameter -> the step that used its gradient, until it is cleared
    _scaled: dict[int, tuple[torch.Tensor, int]] = field(default_factory=dict)  # parameter -> a gradient times a scale, and its version
    _losses: dict[int, torch.Tensor] = field(default_factory=dict)  # those that a GradScaler has made larger, or would on a GPU
    _stale: dict[int, Span | None] = field(default_factory=dict)  # parameter -> a pass for another's step, to which one more was added
    _piled: dict[int, Span | None] = field(default_factory=dict)  # parameter -> the backward pass added to what a step has used
    _looked: Span | None = None  # where a gradient times a scale was read last
    _held: dict[int, set[int]] = field(default_factory=dict)  # parameter -> the passes whose gradients it holds, and no step has used
    _cleared: dict[int, Span | None] = field(default_factory=dict)  # parameter -> what cleared a gradient that no step had used
    _lost: dict[int, dict[int, Span | None]] = field(default_factory=dict)  # pass -> the parameters whose gradient was cleared unused
    _read: set[int] = field(default_factory=set)  # passes whose gradients the step looked at: they may have been kept elsewhere
    handed: Handed = field(init=False)
    _given: set[int] = field(default_factory=set)  # parameters whose gradient the next step is handed
    _limits: dict[Span, tuple[float, dict[int, torch.Tensor]]] = field(default_factory=dict)  # what limits by norm, which, since no step
    _climbing: set[int] = field(default_factory=set)  # parameters whose optimizer makes larger what is differentiated
    _joined: list[tuple[int, int]] = field(default_factory=list)  # passes whose gradients add up
    _begun: int = 0  # how many passes there had been when the turn that is recorded began
    _over: set[int] = field(default_factory=set)  # ids of losses whose gradient cannot be taken once more

    def __post_init__(self) -> None:
        self.handed = Handed(self.recorder)

    def backward(self, func: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """A `backward()` of the step: its gradients are there afterwards, and the graph is kept for what is asked later.

        Fake tensors have no values, so their gradients are zeros. Raises what autograd raises.
        """
        given = dict(zip(("of", "gradient", "retain_graph", "create_graph", "inputs"), args, strict=False)) | dict(kwargs)
        roots = tensors_in(given.get("of", given.get("tensors")))
        leaves = leaves_behind(*roots)
        if (chosen := given.get("inputs")) is not None:
            reached = {id(t) for t in leaves}
            leaves = [t for t in tensors_in(chosen) if id(t) in reached]
        weights = given.get("gradient", given.get("grad_tensors"))
        number = self.begin("backward", roots, weights, keeps_graph(given), leaves, self.recorder.spans.stack(sys._getframe(2)))
        with torch_private.no_torch_function():
            if self.as_is:
                func(*args, **kwargs)
            elif not self.recorder.fake:
                keeping = {k: v for k, v in given.items() if k not in ("of", "tensors")} | {"retain_graph": True}
                first = given["of"] if "of" in given else given["tensors"]
                func(first, **keeping) if func is torch.Tensor.backward else torch.autograd.backward(first, **of_function(keeping))
            else:
                for leaf in leaves:
                    leaf.grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        self.done(number, roots, leaves)
        self._end_after(number)

    def grad(self, func: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """A call of `torch.autograd.grad`; the graph is kept for what is asked later."""
        names = ("outputs", "inputs", "grad_outputs", "retain_graph", "create_graph", "only_inputs", "allow_unused")
        given = dict(zip(names, args, strict=False)) | dict(kwargs)
        with torch_private.no_torch_function():
            found = func(*args, **kwargs) if self.as_is else func(**given | {"retain_graph": True})
        inputs, number = tensors_in(given["inputs"]), NO_PASS
        leaves = [t for t in inputs if t.is_leaf]
        self.inner |= {id(t) for t in inputs} - self.trained
        if any(id(t) in self.trained for t in leaves):
            stack, outputs = self.recorder.spans.stack(sys._getframe(2)), tensors_in(given["outputs"])
            number = self.begin("grad", outputs, given.get("grad_outputs"), keeps_graph(given), leaves, stack)
            self._end_after(number)
        self.handed.given(number, inputs, found)
        return found

    def begin(
        self,
        kind: Literal["backward", "grad"],
        roots: Sequence[torch.Tensor],
        weights: Any,
        keeps: bool,
        leaves: Sequence[torch.Tensor],
        stack: tuple[Span, ...],
    ) -> int:
        """Notes a pass that is about to run; its number."""
        loss = self._summed([self.recorder.before_scaling(root) for root in roots], weights)
        node = self.recorder.to_arg(loss)
        call = BackwardCall(loss, keeps, stack, node, len(self.recorder.graph.nodes), frozenset(map(id, leaves)), kind)
        call.goes_on = self.handed.continues(tensors_in(weights))
        self.calls.append(call)
        if kind == "backward":
            self._note_piled(leaves, call.span)
            self._note_stale(leaves, call)
        return len(self.calls) - 1

    def done(self, number: int, roots: Sequence[torch.Tensor], leaves: Sequence[torch.Tensor]) -> None:
        """A `backward()` has run: its gradients are there."""
        for leaf in leaves:
            held = self._held.setdefault(id(leaf), set())
            self._joined += [(earlier, number) for earlier in held if id(leaf) in self.trained]
            held.add(number)
        if any(id(root) in self._losses for root in roots):
            self._scaled.update({id(p): (g, torch_private.changes_of(g)) for p in leaves if (g := gradient_of(p)) is not None})

    def _summed(self, roots: Sequence[torch.Tensor], weights: Any) -> torch.Tensor:
        """What a pass differentiates as one value: several summed, each times the gradient that it was given."""
        given = list(weights) if isinstance(weights, list | tuple) else [weights] * len(roots)
        parts = [r if w is None or r.numel() == 1 else self._made(torch.mul, r, w) for r, w in zip(roots, given, strict=True)]
        total = parts[0] if parts[0].numel() == 1 else self._made(torch.sum, parts[0])
        for part in parts[1:]:
            total = self._made(torch.add, total, part if part.numel() == 1 else self._made(torch.sum, part))
        return total

    def _made(self, func: Function, *args: torch.Tensor | float) -> torch.Tensor:
        """A value of the record that the user did not write: a sum of what the step differentiates."""
        with torch_private.no_torch_function():
            made: torch.Tensor = func(*(a.detach() if isinstance(a, torch.Tensor) and id(a) in self._over else a for a in args))
            self.recorder.record_made(func, args, made)
        return made

    def _end_after(self, number: int) -> None:
        if self.until is not None and number >= self.until.passes[-1]:
            raise Finished

    def repeat(self, leaves: Sequence[torch.Tensor], place: Span | None) -> None:
        """A pass that was noted before is about to run once more, of a closure that an optimizer evaluates again."""
        self._note_piled(leaves, place)

    def go_on(self, recorder: Recorder) -> None:
        """Another turn of a training begins, with a record of its own. What was made in earlier ones is let go of."""
        self.recorder, self.trained = recorder, self.trained | recorder.modules.trained  # what is frozen by now as well
        self._begun = len(self.calls)
        self.handed = Handed(recorder)
        held = set[int]().union(*self._held.values())
        for number in (n for n in range(len(self.calls)) if n not in held):
            call = self.calls[number]
            self.calls[number] = replace(call, of=call.of.detach(), node=fx.Graph().placeholder("over"))

    def put_data(self, leaf: torch.Tensor, value: torch.Tensor) -> None:
        """`p.data = value` of the step."""
        self.handed.data[id(leaf)] = value

    def put(self, leaf: torch.Tensor, gradient: object) -> None:
        """`p.grad = g`, or `= None`, of the step."""
        if gradient is None:
            self.clear([leaf], None)
        elif (number := self.handed.put(leaf, gradient)) is not None:
            self._held[id(leaf)] = {number}

    def use(self, held: Sequence[torch.Tensor], gradients: Sequence[object]) -> None:
        """An optimizer is handed gradients beside its parameters: those that `autograd.grad` gave are these parameters' from now on."""
        for leaf, gradient in zip(held, gradients, strict=False):
            if (number := self.handed.put(leaf, gradient)) is not None:
                self._held[id(leaf)] = {number}
                self._given.add(id(leaf))

    def clear(self, of: Sequence[torch.Tensor], place: Span | None) -> None:
        """The gradients of some parameters were set to zero or taken away."""
        self.uses.append(GradientUse("cleared", frozenset(map(id, of)), place))
        for p in of:
            self._used.pop(id(p), None)
            self._piled.pop(id(p), None)
            self._stale.pop(id(p), None)
            self._scaled.pop(id(p), None)
            if passes := self._held.pop(id(p), None):
                self._cleared[id(p)] = place
                for number in passes:
                    self._lost.setdefault(number, {})[id(p)] = place

    def look(self, leaf: torch.Tensor, frame: FrameType) -> None:
        """The step reads a gradient."""
        self._read |= self._held.get(id(leaf), set())
        self.handed.looked(leaf, gradient_of(leaf), self._held.get(id(leaf), ()))
        limits = limits_gradients(frame)
        if (limits is not None or id(leaf) in self._scaled) and (stack := self.recorder.spans.stack(frame, limit=1)):
            self._looked = stack[0]
            if limits is not None:
                if id(leaf) not in self._held and self.handed.was_put(leaf):
                    self._take(self.handed.in_gradients([*self.recorder.modules.parameters, leaf]))  # a copy of a parameter is in no module
                self._note_limited(leaf, stack[0], limits)
                self._limits.setdefault(stack[0], (limits, {}))[1][id(leaf)] = leaf

    def _note_limited(self, leaf: torch.Tensor, place: Span, limit: float) -> None:
        """A limit on gradients reads this one: what it reads at one place after one pass is noted as one use."""
        kind: Literal["limited", "limitless"] = "limited" if id(leaf) in self._held else "limitless"
        last, passes = self.uses[-1] if self.uses else None, len(self.calls)
        same = last if last is not None and (last.kind, last.place, last.passes) == (kind, place, passes) else None
        if same is not None:
            self.uses.pop()
        of, most = (same.of, max(same.limit, limit)) if same is not None else (frozenset[int](), limit)
        self.uses.append(GradientUse(kind, of | {id(leaf)}, place, passes, limit=most))

    def scale(self, losses: object) -> None:
        """What a GradScaler gave for a loss."""
        self._losses.update({id(t): t for t in tensors_in(losses)})

    def unscale(self, held: Sequence[torch.Tensor]) -> None:
        """A GradScaler takes its scale out of the gradients of some parameters."""
        known = {id(p): self._scaled[id(p)] for p in held if id(p) in self._scaled}
        bent = [p for p in held if id(p) in known and torch_private.changes_of(known[id(p)][0]) != known[id(p)][1]]
        if bent:
            self.uses.append(GradientUse("bent", frozenset(map(id, bent)), self._looked))
        for p in held:
            self._scaled.pop(id(p), None)

    def _note_piled(self, leaves: Sequence[torch.Tensor], place: Span | None) -> None:
        """Notes the parameters whose new gradients are added to what a step has used already."""
        if not self.recorder.fake:
            piled = [p for p in leaves if id(p) in self._used and (g := gradient_of(p)) is not None and bool(g.detach().any())]
            self._piled.update({id(p): place for p in piled})

    def _note_stale(self, leaves: Sequence[torch.Tensor], call: BackwardCall) -> None:
        """Notes the parameters that hold a gradient of the same loss, taken for another step that is over and cleared; not in one loop."""
        for leaf in leaves:
            for earlier in (self.calls[n] for n in self._held.get(id(leaf), ())):
                apart = earlier.moved and not earlier.moved & set(self._used) and earlier.stack != call.stack
                if apart and earlier.leaves == call.leaves and made_alike(earlier.node, call.node):
                    self._stale[id(leaf)] = earlier.span

    def _note_shrunk(self, held: set[int]) -> None:
        """Notes the limits whose gradients, of which a step has used some, are smaller by now than they were made."""
        for place, (limit, of) in [(p, given) for p, given in self._limits.items() if held & set(given[1])]:
            del self._limits[place]
            found = [float(g.detach().double().norm()) for p in of.values() if not self.recorder.fake and (g := gradient_of(p)) is not None]
            if limit > (norm := math.hypot(*found)) > 0:
                self.uses.append(GradientUse("shrunk", frozenset(of), place, len(self.calls), by=limit / norm, limit=limit))

    def wasted(self) -> list[IdleStep]:
        """Passes of a loop whose gradients were all cleared before a step used them, where another turn's pass did move something."""
        used = {c.stack for c in self.calls if c.moved & self.trained}
        found: dict[object, IdleStep] = {}
        for number, call in enumerate(self.calls):
            mine, lost = call.leaves & self.trained, self._lost.get(number, {})
            if mine and mine <= set(lost) and not call.moved and number not in self._read and call.stack in used:
                found.setdefault(call.stack, IdleStep(call.span, next(iter(lost.values())), turns=True))
        return list(found.values())

    def used(self, held: Sequence[torch.Tensor], place: Span | None) -> None:
        """An optimizer has used these gradients, and evaluates its closure again before its step is over."""
        self._used.update({id(p): place for p in held if gradient_of(p) is not None})

    def step(self, held: Sequence[torch.Tensor], place: Span | None, climbs: bool = False) -> bool:
        """An optimizer's step over some parameters; whether it may move them: those of the model stay while it is recorded.

        `climbs`: it makes larger what was differentiated.
        """
        self._climbing |= set(map(id, held)) if climbs else set()
        self._take(self.handed.in_gradients(held))
        fed = [p for p in held if id(p) in self._held and (p.grad is not None or id(p) in self._given)]
        for p in fed:
            for number in self._held.pop(id(p)):
                self.calls[number].moved.add(id(p))
        self.uses.append(GradientUse("stepped", frozenset(map(id, held)), place, len(self.calls)))
        if piled := [p for p in fed if id(p) in self._piled]:
            self.uses.append(GradientUse("piled", frozenset(map(id, piled)), self._piled[id(piled[0])]))
        if stale := [p for p in fed if id(p) in self._stale]:
            self.uses.append(GradientUse("stale", frozenset(map(id, stale)), self._stale[id(stale[0])], len(self.calls)))
        self._used.update({id(p): place for p in fed})
        self._note_shrunk(set(map(id, held)))
        self.inner |= {id(p) for p in fed} - self.trained
        mine = [p for p in held if id(p) in self.trained]
        if mine and not fed and (cleared := [self._cleared[id(p)] for p in mine if id(p) in self._cleared]):
            self.idle.append(IdleStep(place, cleared[0], of=frozenset(map(id, mine))))
            if len(self.calls) == self._begun:
                self.uses.append(GradientUse("empty", frozenset(map(id, mine)), place, len(self.calls)))
        elif mine and not fed:
            self.uses.append(GradientUse("empty", frozenset(map(id, mine)), place, len(self.calls)))
        for p in held:
            self._cleared.pop(id(p), None)
        return self.as_is or not mine

    def _take(self, made_of: Mapping[int, set[int]]) -> None:
        """The gradients of some parameters were put together of these passes."""
        for leaf, passes in made_of.items():
            self._held.setdefault(leaf, set()).update(passes)
            self._joined += [(one, other) for one in passes for other in passes if one < other and leaf in self.trained]

    def _note_moved_by_hand(self) -> None:
        """Notes which passes moved what no optimizer did."""
        left = self.trained.difference(*(u.of for u in self.uses if u.kind == "stepped"))
        self._take(made_of := self.handed.in_parameters([p for p in self.recorder.modules.parameters if id(p) in left]))
        for leaf in made_of:
            for number in self._held.pop(leaf):
                self.calls[number].moved.add(leaf)

    def objectives(self) -> list[Objective]:
        """The losses that the step minimised over the model's parameters.

        Passes whose gradients add up before a step uses them are one objective; the turns of a loop stand for one. A loss that moved
        nothing of the model (an inner loop over variables of its own) is none.
        """
        self._note_moved_by_hand()
        moves = any(c.moved & self.trained for c in self.calls)
        counted = {i: (c.moved if moves else c.leaves) & self.trained for i, c in enumerate(self.calls)}
        passes = [i for i, owned in counted.items() if owned]
        if not moves and any(self.calls[i].kind == "backward" for i in passes):
            passes = [i for i in passes if self.calls[i].kind == "backward"]  # a gradient that weighs a term is no update
        pairs = [*self._joined, *((j, i) for i, j in self._joined)]
        merged: dict[Any, Objective] = {}
        left = list(passes)
        while left:
            group = sorted(reachable(left[:1], lambda i: [j for k, j in pairs if k == i and j in passes]))
            left = [i for i in left if i not in group]
            chosen = without_turns(self.calls, group)
            owned = frozenset[int]().union(*(counted[i] for i in group))
            first = frozenset((self.calls[i].stack, self.calls[i].leaves) for i in chosen)
            sign = -1.0 if moves and owned <= self._climbing else 1.0
            weights = tuple(w and sign * w for w in self.handed.weights(chosen, owned))
            merged.setdefault((first, owned), Objective(chosen, owned, weights=weights))
        return list(merged.values())

    def loss_of(self, objective: Objective) -> torch.Tensor:
        """The one loss of an objective: of several passes, the sum, each as often as the step counts it.

        Of passes on values, one that cannot be asked again counts without its gradient: between two, a step may change in place what only
        the first one needed.
        """
        roots = [self.calls[i].of for i in objective.passes]
        over = {id(r) for r in roots if not self.recorder.fake and any(map(torch_private.is_broken, functions_behind(r)))}
        self._over = over if len(over) < len(roots) else set()
        stacks = [self.calls[i].stack for i in objective.passes]
        loss = self._summed(self.handed.weighed(roots, objective, stacks, self._made), None)
        if loss is not roots[0] and (node := self.recorder.node_for(loss)) is not None:
            node.meta["stack"] = stacks[-1]
        return loss

    def chosen(self, objectives: Sequence[Objective], left: torch.Tensor | None) -> Objective | None:
        """The objective of the autoencoder: that of the loss which the step left in `loss` with its gradient; else that of the data, then
        the one that holds something against the data as they are, the one whose gradient goes through a draw, the one a number left in
        `loss` was taken from, the one that moves most.

        None where the step's own loss, not differentiated yet, was made with the gradients of the others, or alone holds something against
        the data: the others are a critic's turn. Another run of a step has the objective that it was run for.
        """
        if self.until is not None and len(self.calls) > self.until.passes[-1]:
            return self.until
        node = self.recorder.node_for(left) if left is not None else None
        live = node is not None and left is not None and left.requires_grad
        passes = [self.calls[i] for o in objectives for i in o.passes]
        if node is not None and live and all(c.kind == "grad" and not c.moved for c in passes):
            weighed = {c.node for c in passes}
            if node not in weighed and weighed & behind(node):
                return None
        if node is not None and live and compares([node]) and not any(node in behind(c.node) or compares([c.node]) for c in passes):
            return None

        def fitness(objective: Objective) -> tuple[bool, bool, bool, bool, bool, int]:
            nodes = [self.calls[i].node for i in objective.passes]
            related = node is not None and any(node in behind(n) or n in behind(node) for n in nodes)
            of_data = any(m.op == "placeholder" for n in nodes for m in behind(n))
            return live and related, of_data, compares(nodes), draws(nodes), related, self._size(objective)

        begun = [o for o in objectives if not all(self.calls[i].goes_on for i in o.passes)]
        return max(begun or objectives, key=fitness, default=None)

    def _size(self, objective: Objective) -> int:
        return sum(p.numel() for p in self.recorder.modules.parameters if id(p) in objective.moved)
