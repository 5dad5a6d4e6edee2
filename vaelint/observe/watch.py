"""One iteration of the user's loop under the recorder: from the batch to the end of the optimizer's step."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import CodeType, FrameType
from typing import Any

import torch
from torch import fx
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from vaelint.observe.afterwards import Afterwards, keep_writes, take_over
from vaelint.observe.copies import Parts, copied
from vaelint.observe.fewer import Cutting, Origin
from vaelint.observe.iterations.entering import Entering
from vaelint.observe.seen import SUM_OF_PASSES, Applied, Asked, Backward, Goal, Held, Iteration, Stepped, goals_of, held_by
from vaelint.record.record import Births, Record
from vaelint.record.walk import leaves_behind
from vaelint.trace import torch_private
from vaelint.trace.autocast import noting_autocast
from vaelint.trace.calls import noting_calls_of_a_run
from vaelint.trace.modules import ModuleTracker
from vaelint.trace.optimizers import ascends
from vaelint.trace.recorded_run import names_of_tensors, noting_distributions, recording_from_numpy
from vaelint.trace.recorder import Recorder
from vaelint.trace.spans import SpanFinder
from vaelint.trace.updates import Updates


class Watch(Entering):
    """Records what runs between its making and `end`. Lives in the thread of the script; the loop goes on in between."""

    def __init__(
        self,
        number: int,
        parts: Mapping[str, torch.nn.Module],
        births: Births,
        spans: SpanFinder,
        batch: int | None,
        last: int | None,
        *,
        loose: bool = False,
        names: bool = False,
        fewer: tuple[Origin, int] | None = None,
        updates: Updates | None = None,
    ) -> None:
        """`last`: how many `backward` calls an iteration has, where that is known. `loose`: no loader gives the batch; what enters a
        network from outside of the recorded graph is the input. `names`: which variables hold what is noted.
        `fewer`: where a loose batch comes from, and how many rows it is to have. `updates`: of the iteration before."""
        super().__init__(fewer, loose=loose)
        self.number, self.spans, self.batch, self._last = number, spans, batch, last
        self.model = next(iter(parts.values())) if len(parts) == 1 else Parts(dict(parts))
        self.names = names_of_tensors(self.model)
        self._frozen = copied(self.model)
        self.modules = ModuleTracker(self.model, births, spans)
        self.recorder = Recorder(spans, self.modules, self.names, fake=False, watch=names, as_is=True)
        self.updates = self.recorder.updates if updates is None else self._gone_on(updates)
        self._earlier = len(self.updates.calls), len(self.updates.uses)
        self.recorder.live = True
        self.backwards: list[Backward] = []
        self.steps, self.applied = list[Stepped](), list[Applied]()
        self.even = False  # whether all of the loader's batches have one size
        self.around: list[FrameType] = []  # the frames of the script when the iteration began
        self.outer = 0  # those that the iteration runs inside of
        self.gradients: dict[str, float] = {}  # norms, where curves are wanted
        self.batches: int | None = None  # that the loader gives, where curves are wanted
        self.held: list[Held] = []  # the variables at the last `backward`, where curves are wanted
        self.cut = fewer is not None  # whether the batch was made smaller than the script's
        self._outputs: dict[int, Any] = {}
        self._random = torch.get_rng_state()
        self.record = Record(self.recorder.graph, self.model, "real", {"B": batch} if batch else {}, births=births)
        self.record.node_for = self.recorder.node_for
        self._after: Afterwards | None = None
        self._variables: dict[CodeType, tuple[dict[str, Any], dict[str, Any]]] = {}  # at the last pass
        self.spans.frames = {}
        self._open = contextlib.ExitStack()
        self._begin()

    def _gone_on(self, updates: Updates) -> Updates:
        """What became of gradients until now, in the record of this iteration."""
        updates.go_on(self.recorder)
        self.recorder.updates = updates
        return updates

    def _begin(self) -> None:
        enter = self._open.enter_context
        validate = torch_private.distributions_validate()
        self._open.callback(torch.distributions.Distribution.set_default_validate_args, validate)
        torch.distributions.Distribution.set_default_validate_args(False)  # its checks branch on values
        if self._loose:
            before = register_module_forward_pre_hook(self._entered)
            self._open.callback(before.remove)
        enter(self.modules.watching())
        handle = register_module_forward_hook(self._left)
        self._open.callback(handle.remove)
        enter(noting_autocast(self.recorder.autocast))
        enter(noting_distributions(self.recorder, self.record))
        self._open.callback(self._shrunk.restore)
        if self._fewer is not None:
            cutting = Cutting(*self._fewer, self.spans, lambda: self.recorder.paused, self._shrink)
            enter(cutting.from_numpy_too())
            enter(cutting)
        enter(recording_from_numpy(self.recorder))
        enter(self.recorder)
        if sys.getprofile() is None:  # else a profiler of the script's own is at work
            enter(noting_calls_of_a_run(self.recorder, self.record.functions, self.spans.is_user))

    @property
    def recorded(self) -> bool:
        """Whether anything was computed."""
        return self.recorder.current is not None or any(n.op == "call_function" for n in self.recorder.graph.nodes)

    def _left(self, module: torch.nn.Module, _: Any, output: Any) -> None:
        if not self.recorder.paused and not self.modules.running:
            self._outputs[id(module)] = output

    @property
    def calls_so_far(self) -> int:
        """How many `backward` calls the iteration has seen."""
        return len(self.updates.calls) - self._earlier[0]

    def used(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimizer has used its gradients, and evaluates its closure again before its step is over."""
        with torch_private.no_torch_function():
            self.updates.used(held_by(optimizer), None)

    def once_more(self, roots: Sequence[torch.Tensor], frame: FrameType) -> Callable[[], None]:
        """A closure is evaluated again, and differentiates its loss; returns what is to be called when it has."""
        with torch_private.no_torch_function():
            leaves = leaves_behind(*roots)
            self.updates.repeat(leaves, next(iter(self.spans.stack(frame, limit=1)), None))
            return lambda: self._passed(len(self.updates.calls) - 1, roots, leaves)

    def stepped(self, step: Stepped, earlier: Sequence[Iteration], *, leads: bool) -> None:
        """An optimizer has stepped.

        Where no loader gives the batches, the step of the first one has ended an iteration (`leads`). What others do before the next
        `backward` still belongs to that one, and this one begins with what they leave.
        """
        with torch_private.no_torch_function():
            self.updates.step(held_by(step.optimizer), step.span, ascends(step.optimizer))
        if leads or not self._loose or self.backwards:
            self.steps.append(step)
            return
        for iteration in earlier[-1:]:
            if iteration.number == self.number - 1 and iteration.goals:
                iteration.goals[-1].steps.append(step)
        own = dict(self._frozen.named_parameters())
        with contextlib.ExitStack() as quiet, torch.no_grad():
            self.hush(quiet)
            for tensor in held_by(step.optimizer):
                if (name := self.names.get(id(tensor), "")) in own:
                    own[name].copy_(tensor)

    def passing(self, roots: Sequence[torch.Tensor], meant: Sequence[torch.Tensor], asked: Asked, frame: FrameType) -> Callable[[], None]:
        """A `backward` is about to run; returns what is to be called when it has. `meant`: the losses without the scale of a scaler."""
        with torch_private.no_torch_function():
            leaves = leaves_behind(*roots)
            if asked.inputs is not None:
                chosen = set(map(id, asked.inputs))
                leaves = [t for t in leaves if id(t) in chosen]
            self._variables = {code: (dict(f.f_locals), f.f_globals) for code, f in (self.spans.frames or {}).items()}
            number = self.updates.begin(
                "grad" if asked.returns else "backward", meant, asked.given, asked.keeps, leaves, self.spans.stack(frame)
            )
            return lambda: self._passed(number, roots, leaves)

    def _passed(self, number: int, roots: Sequence[torch.Tensor], leaves: Sequence[torch.Tensor]) -> None:
        with torch_private.no_torch_function():
            self.updates.done(number, roots, leaves)

    def is_over(self) -> None:
        """All passes have begun: from here on only what the script writes by hand is recorded."""
        if self.recorder.over is None:
            self._after = Afterwards(self)
            self.recorder.over = self._after

    @property
    def finished(self) -> bool:
        """Whether all `backward` calls of an iteration were seen, as the one before had them: what comes after is bookkeeping."""
        return self._last is not None and len(self.backwards) >= self._last

    def log(self, name: str, value: object) -> None:
        """The script logs a value under a name."""
        node = self.recorder.known(value)
        if self._after is not None and node is not None:
            node = self._after.source_of(node)
        if node is not None and node.graph is self.record.graph:
            self.record.logged.setdefault(name, node)

    def close(self) -> None:
        """Ends the recording."""
        for name, tensor in self.inputs.items():
            if tensor in self._shrunk:
                self.record.inputs[name].meta["val"] = self._kept[name]  # as it was in the iteration: it gets its rows back
        self._open.close()

    def end(self, error: BaseException | None = None) -> Iteration:
        """Ends the recording; what the script raised is kept in the record."""
        with contextlib.ExitStack() as quiet:
            self.hush(quiet)
            record = self.record
            self._take_selected()
            if error is not None:
                record.failure = self.recorder.failure(error)
            self.note_own_noise()
            record.calls, record.reads = self.modules.calls, self.recorder.reads
            self._note_updates()
            record.held, self.spans.frames = self._variables, None
            record.read_later += _kept_by_the_script(record)
            record.raw_output = list(self._outputs.values())[-1] if self._outputs else None
            record.output = self.recorder.to_arg_structure(record.raw_output)
            goals = goals_of(len(self.backwards), self.steps)
            losses = [self._minimised_by(goal) for goal in goals]
        self.close()
        made = Iteration(self.number, record, self._frozen, self.names, self._kept, self.batch, self.backwards, goals, losses, self._random)
        made.altered, made.cut, made.even = self._altered(), self.cut, self.even and (self.origin is None or self.origin.even)
        made.outer, made.gradients, made.applied = self.outer, self.gradients, self.applied
        made.held, made.batches = self.held, self.batches
        return made

    def _note_updates(self) -> None:
        """What became of gradients, and what the script wrote by hand once its passes were over."""
        calls, uses = self._earlier
        self.record.backwards = self.updates.calls[calls:]
        self.record.uses = [replace(u, passes=max(u.passes - calls, 0)) for u in self.updates.uses[uses:]]
        self.record.inner = frozenset(self.updates.inner)
        if self._after is not None:
            keep_writes(self.record, self._after.before, self._gradients())
            self.record.read_later = list(self._after.read)

    def _gradients(self) -> set[int]:
        with torch_private.no_torch_function():
            return {id(g) for p in self.model.parameters() if (g := p.grad) is not None}

    def follow(self, earlier: Iteration) -> None:
        """The iteration before this one gets what the script did after its step, and before it called a network again."""
        if self._loose and earlier.number == self.number - 1:
            given = [n.meta["val"] for n in self.record.nodes if n.op == "get_attr" and isinstance(n.meta.get("val"), torch.Tensor)]
            earlier.record.read_later += [n for v in given if (n := earlier.record.node_for(v)) is not None and n.op == "call_function"]
            take_over(earlier.record, self.record, self._gradients())

    def _minimised_by(self, goal: Goal) -> Any:
        """The node of what the optimizers of a goal make smaller; None where it was not recorded."""
        backwards = [self.backwards[i] for i in goal.backwards]
        total, value = self._total(backwards)
        if total is None or not goal.steps or not all(ascends(o) for o in goal.optimizers):
            return total
        turned = self.record.graph.call_function(torch.neg, (total,))
        span = backwards[-1].span
        turned.meta.update(val=-value, grad=True, stack=(span,) if span else (), module="", training=True)
        return turned

    def _total(self, backwards: list[Backward]) -> tuple[Any, torch.Tensor]:
        """The node of the sum of what `backward` was called on, and its value; no node where one of them was not recorded."""
        parts = [self._minimised(b) for b in backwards]
        if any(node is None for node, _ in parts):
            return None, parts[0][1]
        (total, value), *others = parts
        for (node, more), backward in zip(others, backwards[1:], strict=True):
            total, value = self.record.graph.call_function(torch.add, (total, node)), value + more
            total.meta.update(val=value, grad=True, stack=(backward.span,) if backward.span else (), module="", training=True)
            total.meta[SUM_OF_PASSES] = True
        return total, value

    def _minimised(self, backward: Backward) -> tuple[Any, torch.Tensor]:
        """The node of what one `backward` minimises, and its value: of what it was called on, times the gradient that it was given."""
        node, value = self.recorder.node_for(backward.of), backward.of.detach()
        if node is not None and node.op == "get_attr" and not node.meta.get("parameter"):
            node = None  # it was there before
        if self._after is not None and node not in self._after.before:
            node = None  # a pass beyond those that an iteration has
        if node is None or backward.given is None:
            return node, value
        self.record.handed = True
        about = {"grad": True, "stack": (backward.span,) if backward.span else (), "module": "", "training": True}
        given = self.recorder.to_arg_structure(backward.given.detach().clone())
        product, weighed = self.record.graph.call_function(torch.mul, (node, given)), value * backward.given.detach()
        product.meta.update(val=weighed, **about)
        total = self.record.graph.call_function(torch.sum, (product,))
        total.meta.update(val=weighed.sum(), **about)
        return total, weighed.sum()

    def _altered(self) -> frozenset[str]:
        """Constants of the record whose values were changed in place while it ran."""
        changed = set()
        for node in self.record.graph.nodes:
            val = node.meta.get("val")
            constant = node.op == "get_attr" and str(node.target).startswith("_constant_") and node.meta.get("was") is None
            if constant and isinstance(val, torch.Tensor) and node.meta.get("version") != torch_private.version_of(val):
                changed.add(str(node.target))
        return frozenset(changed)


def _kept_by_the_script(record: Record) -> list[fx.Node]:
    """Values that nothing of the iteration reads and that somebody holds when it is over, in a list of metrics for instance."""
    noted = Counter(id(value) for names, _ in record.held.values() for value in names.values())
    probe = object()
    kept, meta = [[probe], [probe]], {"val": probe}  # as the recorder and the node hold a value
    del probe
    own = _references(meta)
    unread = (n for n in record.graph.nodes if n.op == "call_function" and not n.users and isinstance(n.meta.get("val"), torch.Tensor))
    return [n for n in unread if kept and _references(n.meta) > own + noted[id(n.meta["val"])]]


def _references(meta: Mapping[str, Any]) -> int:
    """How many hold the value of a node."""
    return sys.getrefcount(meta["val"])
