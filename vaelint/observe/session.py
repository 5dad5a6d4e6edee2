"""Watches a training run: which iteration it is in, which are recorded, and when it has shown enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Any

import torch

from vaelint.core.finding import Span
from vaelint.core.paths import class_file
from vaelint.observe.alone import unwrapped
from vaelint.observe.batches import at_most, cut, is_cuttable, is_even, rows_of, smaller, tensors_of, turns_of
from vaelint.observe.copies import Parts
from vaelint.observe.fewer import Origin
from vaelint.observe.further import Further
from vaelint.observe.iterations.turns import Turns
from vaelint.observe.kept_plainly import without_kept
from vaelint.observe.says import Says
from vaelint.observe.scaling import Scaling
from vaelint.observe.script_frames import frames_from, frames_of, named_parts
from vaelint.observe.seen import Asked, Backward, Held, Iteration, Training, held_by, stepped
from vaelint.observe.watch import Watch
from vaelint.record.record import Births, UsedUp
from vaelint.trace.keras_models import register
from vaelint.trace.lift import mark_timed
from vaelint.trace.optimizers import Optimizer
from vaelint.trace.pyro_sites import Sites
from vaelint.trace.spans import SpanFinder
from vaelint.trace.updates import Updates

_KEPT = 1 << 30  # bytes of recorded iterations that are kept for curves
_ALONE = 20  # steps without a new batch from a loader: the loop does not run over it


def _nothing() -> None:
    """What is to be done after a pass that is not watched."""


def _tensors(of: Any) -> Sequence[torch.Tensor]:
    return of if isinstance(of, list | tuple) else (of,)


class StopObserving(BaseException):
    """Enough was seen: ends the script's loop, through its `finally` blocks."""


class Session(Scaling, Says):
    """One observed run. The hooks of hooks.py tell it what happens; it decides what is recorded."""

    failed: Iteration | None  # the recorded iteration in which the script raised

    def __init__(
        self,
        spans: SpanFinder,
        steps: int = 5,
        *,
        goes_on: bool = False,
        names: bool = False,
        rows: int = 0,
        curves: bool = False,
        further: bool = False,
    ) -> None:
        """`curves`: each iteration is recorded, as long as they fit into memory.
        `further`: what the script trains after its first training is looked at too.
        `goes_on`: the training is not ended when enough was seen. `names`: which variables hold what is noted, for repairs.
        `rows`: batches get no more; 0 leaves them as they are."""
        super().__init__(spans)
        self.steps, self.goes_on = max(steps, 2), goes_on
        self.names, self.rows, self.curves = names, rows, curves
        self.curve: list[Iteration] = []  # all that were recorded, where curves are wanted
        self._room = _KEPT if curves else 0
        self.started = time.perf_counter()
        self.births = Births()
        self.further = Further(spans, wanted=further and not curves and not goes_on)
        self.modules: list[Any] = []  # those that user code constructed, in order
        self.optimizers, self.used_up = list[Optimizer](), list[UsedUp]()
        self.schedules: list[tuple[Any, Span | None]] = []
        self.done, self.iterations = 0, list[Iteration]()  # how many ended; those that were recorded
        self.failed, self.stopped, self.sites = None, False, Sites()  # sites: what Pyro samples
        self.learned: set[int] = set()  # parameters that some iteration's step had a gradient for
        self.sites.on_arguments = self._on_arguments
        self.asked_for_cuda: list[tuple[Span, str]] = []  # where the script asks for a GPU that is not there
        self.usage: list[str] = []  # what the script says is wrong with its command line
        self.guessed: list[str] = []  # data that were made up without anything that tells their size
        self.unfound: list[tuple[str, str]] = []  # folders that the script looked into and that are not there, with its line
        self.invented, self.asked = list[tuple[str, str]](), list[tuple[str, str]]()  # files made up unknown; paths asked for in vain
        self.public, self.pointers = list[tuple[str, str]](), list[tuple[str, str]]()  # public sets, made up smaller; what Git LFS left
        self._backwards, self._muted = 0, False  # of the iteration under way; whether a closure is called once more
        self._usual: int | None = None  # `backward` calls of the first iteration
        self._origin: Origin | None = None  # where the last recorded batch came from, if no loader gave it
        self._looped: Any = None  # the data that the training loop runs over
        self._source: Any = None  # the data that the batch under way came from
        self._unused: set[str] = set()  # parts of the batch that nothing is made of
        self._used: set[int] = set()  # modules that iterations called
        self._known: set[int] = set()  # modules that are in `modules`, or in one of these
        self._turns = Turns()  # which steps end iterations, where no loader does
        self._since = 0  # iterations that a step has ended since a loader gave a batch
        self._loading = False  # whether a loader gives the batches
        self._cleared: Span | None = None  # where gradients were cleared last
        self._before: dict[int, list[torch.Tensor]] = {}
        self._updates: Updates | None = None  # what became of gradients in the training under way

    @property
    def came_to_batches(self) -> bool:
        """Whether the script got as far as to train: a loader gave a batch, or gradients were taken."""
        return self._loading or self._backwards > 0 or self.done > 0

    # --- what the hooks tell -----------------------------------------------------------------------------------------

    def on_batch(self, loader: Any, batch: Any, frame: FrameType) -> Any:
        """A loader hands over a batch: an iteration may end and another begin. Returns the batch that the script gets."""
        if self.passes_over:
            self._loading, self._since = True, 0
            return batch
        if self._enough() or not torch.is_grad_enabled():
            return batch  # an evaluation
        batch, of = at_most(batch, self.rows)
        if of:
            self.say(f"batches were cut to {self.rows} rows of {of}")
        self._loading, self._since = True, 0
        if self._backwards:
            self._looped = self._source
            self._end(frames_from(frame, self.spans))
            if self.done >= self.steps:
                self._shown(frame)
                return batch
        elif self.watch is not None and not self.watch.modules.calls:
            self._add(batch, frame)  # a second loader of the same iteration
            return batch
        else:
            self._drop()
        self._source = loader.dataset
        return self._begin(batch, frame, loader)

    def on_backward(self, of: Any, asked: Asked, frame: FrameType) -> Callable[[], None]:
        """`backward` is called on one or more tensors; with gradients that are given, their product is what is minimised.

        Returns what is to be called when it has run.
        """
        if self.passes_over or self._enough():
            return _nothing
        if self._muted:
            return self.watch.once_more(_tensors(of), frame) if self.watch is not None else _nothing
        stack = self.spans.stack(frame, limit=1)
        if self.watch is not None and self.watch.around:
            inside = self.spans.user_frames(frame, limit=64)
            self.watch.outer, self.watch.around = sum(f in self.watch.around for f in inside), []
        if self.watch is not None and self.curves:
            self.watch.held = [Held.of(f) for f in self.spans.user_frames(frame, limit=16)]
        tensors = _tensors(of)
        gradients = asked.given if isinstance(asked.given, list | tuple) else (asked.given,) * len(tensors)
        meant = [self.before_scaling(tensor) for tensor in tensors]
        self._backwards += len(tensors)
        if self.watch is None:
            return _nothing
        passed, call = self.watch.passing(tensors, meant, asked, frame), self.watch.calls_so_far - 1
        for tensor, gradient, loss in zip(tensors, gradients, meant, strict=True):
            own = gradient if tensor.numel() != 1 else None
            place, by = stack[0] if stack else None, self.spans.library(frame)
            self.watch.backwards.append(Backward(loss, place, asked.keeps, by, own, call, asked.returns))
        if self.watch.finished:
            self.watch.is_over()
        return passed

    def on_call(self, module: torch.nn.Module) -> None:
        """A module is called: one that was made before the watch began is known from here on."""
        if id(module) in self._known:
            return
        for top in self.modules:
            self._known |= {id(part) for part in top.modules()}
        if id(module) not in self._known and not isinstance(module, Parts):
            self.modules.append(module)
            self._known |= {id(part) for part in module.modules()}

    def on_cleared(self, of: Sequence[torch.Tensor], frame: FrameType) -> None:
        """Gradients are cleared."""
        stack = self.spans.stack(frame, limit=1)
        self._cleared = stack[0] if stack else None
        if self.watch is not None:
            self.watch.updates.clear(of, self._cleared)

    def before_step(self, optimizer: torch.optim.Optimizer, closure: Any) -> Any:
        """An optimizer is about to step. Returns the closure that it gets."""
        if self.watch is None:
            return closure
        self.watch.recorder.paused = True
        self._before[id(optimizer)] = [p.detach().clone() for p in held_by(optimizer)]
        self.learned |= {id(p) for p in held_by(optimizer) if p.grad is not None and bool(p.grad.any())}
        if self.curves and (closure is None):
            names = self.watch.names
            self.watch.gradients |= {
                names[id(p)]: float(p.grad.norm()) for p in held_by(optimizer) if p.grad is not None and id(p) in names
            }
        if closure is None:
            return None
        watch, first = self.watch, [True]

        def once() -> Any:
            """The closure; of several calls the first is recorded."""
            self._muted = not first
            if self._muted:
                watch.used(optimizer)
            watch.recorder.paused = not (first and first.pop())
            try:
                return closure()
            finally:
                watch.recorder.paused, self._muted = True, False

        return once

    def after_step(self, optimizer: torch.optim.Optimizer, frame: FrameType) -> None:
        """An optimizer has stepped: where no loader does, its next step ends an iteration."""
        if self.passes_over and not self._has_begun(optimizer):
            return
        place = next(iter(self.spans.stack(frame, limit=1)), None)
        ends = self._turns.ends(held_by(optimizer), place, alone=len(self.optimizers) < 2)
        if self.watch is not None:
            made = stepped(optimizer, self._before.pop(id(optimizer), []), len(self.watch.backwards), place, self._cleared)
            self.watch.stepped(made, self.iterations, leads=ends or self._turns.several)
            self.watch.recorder.paused = False
            if self.watch.finished:
                self.watch.is_over()
        if not ends or self._enough():
            return
        self._since += 1
        if self._loading and self._since > _ALONE:
            self._loading = False
            self._drop()
        if not self._loading and self._backwards:
            self._end(frames_from(frame, self.spans))
            if self.done >= self.steps:
                self._shown(frame)
                return
            self._begin(None, frame, None)

    def _enough(self) -> bool:
        """Whether enough was seen, and the training goes on. Raises StopObserving where it does not."""
        if self.stopped and not self.goes_on:
            raise StopObserving
        return self.stopped

    def stop(self) -> None:
        """Ends the script's loop."""
        self.stopped = True
        self._enough()

    # --- one training after another -----------------------------------------------------------------------------------

    @property
    def trainings(self) -> list[Training]:
        """All that were seen; at least one, which may have no iterations."""
        last = Training(self.iterations, self.failed)
        return [*self.further.earlier, *([last] if self.iterations or not self.further.earlier else [])]

    @property
    def passes_over(self) -> bool:
        """Whether what runs is left from a training that has shown enough. Raises StopObserving where that takes too long."""
        if self.further.late:
            self.say("the script may train more: that was not reached in the time for it")
            self.stop()
        return self.further.passing

    def _shown(self, frame: FrameType) -> None:
        """The training has shown enough: the script goes on to another one, or is ended."""
        last, so_far = Training(self.iterations), time.perf_counter() - self.started
        if self.further.pass_over(last, self.births, self.optimizers, self.spans.user_frames(frame, limit=64), so_far):
            self.iterations = []
        else:
            self.stop()

    def _has_begun(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether the step of an optimizer, on the way to another training, is one of it."""
        begins = self.further.begins(held_by(optimizer), self.modules, self.births, self.optimizers)
        if begins is None:
            self.stop()  # the same again
        elif begins:
            self.done, self._backwards, self._usual = 0, int(not self._loading), None
            self._used, self._unused, self._turns, self._looped, self._cleared = set(), set(), Turns(), None, None
            self._updates = None
        return bool(begins)

    def over(self, error: BaseException | None, frame: FrameType) -> None:
        """The script has ended; `error` is what it raised."""
        broke = isinstance(error, Exception)
        if broke and self.further.passing:
            self.say(f"what the script trains later was not seen: it raises {type(error).__name__} when its loops get one batch each")
        if self.watch is not None and isinstance(error, Exception) and self.watch.steps and self._backwards and not self.watch.cut:
            place = next((f" at {s.file}:{s.line}" for s in self.spans.of_traceback(error)), "")
            said = f"{type(error).__name__}: {error}".partition("\n")[0]
            self.say(f"the script raises {said}{place}, after the step of iteration {self.done + 1}: what it did until then was checked")
            del self.watch.backwards[self.watch.steps[-1].after :]  # that of the step which did not come
            self._end(frames_of(error))
        elif self.watch is not None and broke and self.watch.recorded:
            watch, self.watch = self.watch, None
            watch.settle()
            watch.name_inputs(frames_of(error), self._unused, whole=False)
            self.failed = watch.end(error)
        elif self._backwards and not broke:
            self._end(frames_from(frame, self.spans))
        self._drop()

    # --- iterations --------------------------------------------------------------------------------------------------

    def _begin(self, batch: Any, frame: FrameType, loader: Any) -> Any:
        number = self.done + 1
        self._backwards = 0
        rows, fewer = rows_of(batch), None
        if (origin := self._origin if number == 3 and loader is None and not (self.curves or self.goes_on) else None) is not None:
            fewer = smaller(origin.rows, set(origin.sizes))
        elif number == 3 and self._can_cut(batch, loader) and rows is not None:
            fewer = smaller(rows, {int(n) for _, t in tensors_of(batch) for n in t.shape[1:]})
        if number > min(2, self.steps) and fewer is None and self._room <= 0:
            return batch
        if fewer is not None and rows is not None:
            batch, rows = cut(batch, fewer, rows), fewer
        parts = self._parts(frame)
        if not parts:
            return batch
        less = (origin, fewer) if origin is not None and fewer is not None else None
        about, names = (self.births, self.spans, rows, self._usual), self.names
        self.watch = watch = Watch(number, parts, *about, loose=batch is None, names=names, fewer=less, updates=self._updates)
        self._updates = watch.updates
        watch.updates.trained |= watch.names.keys() & frozenset[int]().union(*(o.learning for o in self.optimizers))
        watch.cut, watch.even, watch.around = fewer is not None, is_even(loader), self.spans.user_frames(frame, limit=64)
        watch.batches = turns_of(loader) if self.curves else None
        self._add(batch, frame)
        return batch

    def _can_cut(self, batch: Any, loader: Any) -> bool:
        """Whether the third iteration may run at another batch size."""
        if loader is None or loader.dataset is not self._looped:
            return False
        if not is_cuttable(batch) or rows_of(batch) is None:
            self.say("one batch size only: the loader's batches cannot be cut")
            return False
        return True

    def _add(self, batch: Any, frame: FrameType) -> None:
        if self.watch is None or batch is None:
            return
        for way, tensor in tensors_of(batch):
            name = str(way[-1]) if way else "batch"
            self.watch.take(name if name.isidentifier() else f"batch_{'_'.join(map(str, way))}", tensor)

    def _on_arguments(self, arguments: Any) -> None:
        """Pyro calls a guide and a model: where no loader gives the batch, it is what they get."""
        if self.watch is not None:
            self.watch.given(arguments)

    def _end(self, frames: Iterable[FrameType]) -> None:
        """The iteration under way has ended well. `frames`: the user's, innermost first."""
        self.done += 1
        if self._loading or self.done > 1 or len(self.optimizers) < 2:  # of several optimizers' turns the first ones may begin anywhere
            self._usual = self._usual or self._backwards
        self._backwards = 0
        if self.watch is None:
            return
        watch, self.watch = self.watch, None
        self._used |= {id(call.module) for call in watch.modules.calls}
        watch.settle()
        self._origin = watch.origin
        watch.name_inputs([*frames], self._unused)
        made = watch.end()
        for earlier in self.iterations[-1:]:
            watch.follow(earlier)
            if earlier.batch == made.batch:
                mark_timed(made.record, earlier.record)
        if self.curves:
            self.curve.append(made)
            self._room -= made.bytes()
            if self._room <= 0:
                self.say(f"curves end at iteration {made.number}: more do not fit into {_KEPT >> 20} MB")
        if made.number > 2 and not made.cut:
            return
        self.iterations = [i for i in self.iterations if i.number != 1 or i.breaks] + [made]  # the first only warmed up

    def _drop(self) -> None:
        """What was recorded is no training iteration."""
        if self.watch is not None:
            self.watch.close()
            self.watch = None
        self._backwards = 0

    # --- networks ----------------------------------------------------------------------------------------------------

    def _parts(self, frame: FrameType) -> dict[str, torch.nn.Module]:
        """The networks of the script that no other network holds, by the names they have there."""
        for top in self.modules:
            register(top)
        inner = {id(m) for top in self.modules if not isinstance(top, Parts) for m in top.modules() if m is not top}
        tops = [m for m in self.modules if id(m) not in inner and not isinstance(m, Parts) and any(True for _ in m.parameters())]
        if self._used:
            tops = [m for m in tops if any(id(sub) in self._used for sub in m.modules())] or tops
        tops = without_kept(
            tops, {i for o in self.optimizers for i in o.parameters}, lambda kind: self.spans.is_user(class_file(kind) or "<")
        )
        return named_parts(list(dict.fromkeys(map(unwrapped, tops))), list(frames_from(frame, self.spans)))
