"""Notes which optimizers user code builds while a model is constructed or a step runs, over which parameters, and when they step."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.record.gradient_clips import limits_gradients
from vaelint.record.record import GradientUse, UsedUp
from vaelint.trace import keras_models
from vaelint.trace.spans import SpanFinder
from vaelint.trace.updates import Updates


@dataclass(frozen=True)
class Optimizer:
    """An optimizer that the model's constructor or the step built."""

    name: str
    span: Span | None
    made: torch.optim.Optimizer
    in_step: bool
    learning: frozenset[int] = frozenset()  # the ids of those that took a gradient when it was made

    @property
    def parameters(self) -> frozenset[int]:
        """The ids of those that it holds by now: groups may be added to it."""
        return self.those(lambda group, parameter: True)

    def those(self, takes: Callable[[dict[str, Any], torch.Tensor], bool]) -> frozenset[int]:
        """The ids of some of these, by their group."""
        return frozenset(self.number_of(p) for group in self.made.param_groups for p in group["params"] if takes(group, p))

    def number_of(self, parameter: torch.Tensor) -> int:
        """The id by which the record knows a parameter."""
        return id(parameter)


@contextlib.contextmanager
def noting_optimizers(spans: SpanFinder, found: list[Optimizer], *, in_step: bool) -> Iterator[None]:
    """While the block runs, appends each optimizer that is constructed."""
    original = torch.optim.Optimizer.__init__

    def init(self: torch.optim.Optimizer, params: Any, defaults: dict[str, Any]) -> None:
        original(self, params, defaults)
        stack = spans.stack(sys._getframe(1), limit=1)
        learning = frozenset(id(p) for group in self.param_groups for p in group["params"] if p.requires_grad)
        found.append(Optimizer(type(self).__name__, stack[0] if stack else None, self, in_step, learning))

    torch.optim.Optimizer.__init__ = init  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.optim.Optimizer.__init__ = original  # type: ignore[method-assign]


def ascends(optimizer: torch.optim.Optimizer) -> bool:
    """Whether it makes larger what is differentiated (`maximize=True`): its loss is minus that."""
    return bool(optimizer.param_groups) and all(group.get("maximize") for group in optimizer.param_groups)


class _Gone(Iterator[Any]):
    """What `parameters()` gives, which can be gone through once; says so when it is asked a second time, by `filter` or `map` too."""

    def __init__(self, given: Iterator[Any], made: Span, place: Callable[[], Span | None], found: list[UsedUp]) -> None:
        self._given, self._made, self._place, self._found = given, made, place, found
        self._ended: Span | None = None
        self._is_over = False

    def __iter__(self) -> _Gone:
        if self._is_over:
            self._found.append(UsedUp(self._made, self._ended, self._place()))
        return self

    def __next__(self) -> Any:
        try:
            return next(self._given)
        except StopIteration:
            if not self._is_over:
                self._is_over, self._ended = True, self._place()
            elif not self._found or self._found[-1].made is not self._made:  # not told by __iter__ yet
                self._found.append(UsedUp(self._made, self._ended, self._place()))
            raise


@contextlib.contextmanager
def noting_used_up(spans: SpanFinder, found: list[UsedUp]) -> Iterator[None]:
    """While the block runs, appends each second use of what user code was given by `parameters()` or `named_parameters()`."""
    originals: dict[str, Any] = {name: vars(torch.nn.Module)[name] for name in ("parameters", "named_parameters")}

    def place() -> Span | None:
        stack = spans.stack(sys._getframe(2), limit=1)
        return stack[0] if stack else None

    def telling(original: Any) -> Any:
        def parameters(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Iterator[Any]:
            given: Iterator[Any] = original(self, *args, **kwargs)
            stack = spans.stack(sys._getframe(1), limit=1)
            return _Gone(given, stack[0], place, found) if stack else given

        return parameters

    for name, original in originals.items():
        setattr(torch.nn.Module, name, telling(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(torch.nn.Module, name, original)


@contextlib.contextmanager
def noting_schedules(spans: SpanFinder, found: list[tuple[Any, Span | None]]) -> Iterator[None]:
    """While the block runs, appends each LambdaLR that is made, with its place."""
    kind = torch.optim.lr_scheduler.LambdaLR
    original = kind.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        found.append((self, next(iter(spans.stack(sys._getframe(1), limit=1)), None)))

    kind.__init__ = init  # type: ignore[method-assign]
    try:
        yield
    finally:
        kind.__init__ = original  # type: ignore[method-assign]


@contextlib.contextmanager
def noting_steps(spans: SpanFinder, updates: Updates) -> Iterator[None]:
    """While the block runs, `updates` hears of each step of torch's optimizers and of gradients that are cleared.

    A step that may not move its parameters evaluates its closure, if it was given one, and nothing else.
    """
    replaced: list[tuple[type, str, Any]] = []

    def place() -> Span | None:
        stack = spans.stack(sys._getframe(2), limit=1)
        return stack[0] if stack else None

    def stepping(original: Any) -> Any:
        def step(self: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
            held, where = [p for group in self.param_groups for p in group["params"]], place()
            climbs = ascends(self)
            if updates.as_is:
                done = original(
                    self, *_telling_again(updates, held, where, args, kwargs), **{k: v for k, v in kwargs.items() if k != "closure"}
                )
                updates.step(held, where, climbs)
                return done
            closure = args[0] if args else kwargs.get("closure")
            value = torch.enable_grad()(closure)() if callable(closure) else None
            return original(self, *args, **kwargs) if updates.step(held, where, climbs) else value

        return step

    def clearing(original: Any, of: Any) -> Any:
        def zero_grad(self: Any, *args: Any, **kwargs: Any) -> Any:
            updates.clear(of(self), place())
            return original(self, *args, **kwargs)

        return zero_grad

    def put(owner: type, name: str, made: Any) -> None:
        replaced.append((owner, name, vars(owner)[name]))
        setattr(owner, name, made)

    for kind in _kinds(torch.optim.Optimizer):
        if kind is not torch.optim.Optimizer and "step" in vars(kind):
            put(kind, "step", stepping(vars(kind)["step"]))
        if "zero_grad" in vars(kind):
            put(kind, "zero_grad", clearing(vars(kind)["zero_grad"], lambda o: [p for g in o.param_groups for p in g["params"]]))
    put(torch.nn.Module, "zero_grad", clearing(vars(torch.nn.Module)["zero_grad"], lambda m: list(m.parameters())))
    try:
        yield
    finally:
        for owner, name, original in replaced:
            setattr(owner, name, original)


def _telling_again(
    updates: Updates, held: list[torch.Tensor], place: Span | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, ...]:
    """The arguments of a step whose closure tells of each further evaluation: the gradients of the one before have been used by then."""
    closure = args[0] if args else kwargs.get("closure")
    if not callable(closure):
        return args
    before = 0

    def evaluate() -> Any:
        nonlocal before
        if before:
            updates.used(held, place)
        before += 1
        return closure()

    return (evaluate, *args[1:])


@contextlib.contextmanager
def noting_scales(updates: Updates) -> Iterator[None]:
    """While the block runs, `updates` hears of the losses that a GradScaler makes larger, and of scales that are taken out again."""
    kind: Any = torch.amp.GradScaler
    originals = {name: vars(kind)[name] for name in ("scale", "unscale_", "step")}

    def scale(self: Any, outputs: Any) -> Any:
        scaled = originals["scale"](self, outputs)
        updates.scale(scaled)
        return scaled

    def unscaling(original: Any) -> Any:
        def unscale(self: Any, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
            updates.unscale([p for group in optimizer.param_groups for p in group["params"]])
            return original(self, optimizer, *args, **kwargs)

        return unscale

    for name, original in originals.items():
        setattr(kind, name, scale if name == "scale" else unscaling(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(kind, name, original)


@contextlib.contextmanager
def noting_empty_limits(spans: SpanFinder, updates: Updates) -> Iterator[None]:
    """While the block runs, `updates` hears of limits by `clip_grad_norm_` that were given no parameters at all."""
    names = vars(torch.nn.utils.clip_grad)
    original = names["_get_total_norm"]

    def total(tensors: Any, *args: Any, **kwargs: Any) -> Any:
        frame, stack = sys._getframe(1), spans.stack(sys._getframe(1), limit=1)
        if not len(tensors) and limits_gradients(frame) is not None and frame.f_locals.get("parameters") == [] and stack:
            updates.uses.append(GradientUse("limitless", frozenset(), stack[0], len(updates.calls)))
        return original(tensors, *args, **kwargs)

    names["_get_total_norm"] = total
    try:
        yield
    finally:
        names["_get_total_norm"] = original


@contextlib.contextmanager
def noting_keras_steps(spans: SpanFinder, updates: Updates) -> Iterator[None]:
    """The same for Keras' optimizers, which are handed their gradients."""

    def applying(original: Any) -> Any:
        def apply(self: Any, grads: Any, trainable_variables: Any = None) -> Any:
            known = trainable_variables if trainable_variables is not None else self._trainable_variables
            held, stack = keras_models.values_of(known), spans.stack(sys._getframe(1), limit=1)
            updates.use(held, grads)
            return original(self, grads, trainable_variables) if updates.step(held, stack[0] if stack else None) else None

        return apply

    kept: list[tuple[Any, Any]] = [(kind, vars(kind)["apply"]) for kind in keras_models.optimizers()]
    for kind, original in kept:
        kind.apply = applying(original)
    try:
        yield
    finally:
        for kind, original in kept:
            kind.apply = original


def _kinds(of: type) -> list[type]:
    """A class and all that inherit from it, each once."""
    found: dict[type, None] = {of: None}
    kinds: list[type] = type.__subclasses__(of)
    for kind in kinds:
        found.update(dict.fromkeys(_kinds(kind)))
    return list(found)
