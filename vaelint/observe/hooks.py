"""Where a training run is watched: loaders, `backward`, optimizers, gradient scalers. All is put back afterwards."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from vaelint.observe.alone import running_alone
from vaelint.observe.aside import aside
from vaelint.observe.iterations.handed_gradients import handed_gradients
from vaelint.observe.loaders import loaders_watched
from vaelint.observe.logged import logs_watched, note_logged
from vaelint.observe.seen import Asked, held_by
from vaelint.observe.session import Session
from vaelint.trace import keras_models
from vaelint.trace.modules import noting_births
from vaelint.trace.optimizers import noting_optimizers, noting_schedules, noting_used_up
from vaelint.trace.plainly import running_plainly
from vaelint.trace.pyro_sites import pyro_watched
from vaelint.trace.standin import InsteadOfCuda
from vaelint.trace.when_imported import when_imported


@contextlib.contextmanager
def watched(session: Session, *, stands_in: bool = True) -> Iterator[None]:
    """While the block runs, `session` is told what the training does.

    Args:
        stands_in: a GPU that is not there, a group of processes and compiled code are stood in for.
    """
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        if stands_in:
            _stand_in(session, stack)
        enter(noting_births(session.spans, session.births, session.modules))
        enter(noting_optimizers(session.spans, session.optimizers, in_step=True))
        enter(noting_used_up(session.spans, session.used_up))
        enter(noting_schedules(session.spans, session.schedules))
        enter(loaders_watched(session))
        enter(_backward(session))
        enter(handed_gradients(session))
        enter(_scalers(session))
        enter(logs_watched(session))
        enter(_clearing(session))
        enter(_saving(session))
        enter(pyro_watched(session.sites, session.spans))
        enter(when_imported("keras", lambda _: stack.enter_context(_keras_aside(session))))
        called = register_module_forward_pre_hook(lambda module, _: session.on_call(module))
        stack.callback(called.remove)
        pre = register_optimizer_step_pre_hook(lambda optimizer, args, kwargs: _before_step(session, optimizer, args, kwargs))
        post = register_optimizer_step_post_hook(lambda optimizer, args, kwargs: session.after_step(optimizer, sys._getframe(1)))
        stack.callback(pre.remove)
        stack.callback(post.remove)
        yield


def _stand_in(session: Session, stack: contextlib.ExitStack) -> None:
    if not torch.cuda.is_available():
        instead = InsteadOfCuda(session.spans)
        session.asked_for_cuda = instead.asked
        stack.enter_context(instead)
    stack.enter_context(running_plainly())
    stack.enter_context(running_alone(lambda what: session.say(f"{what}{session.where()}"), session.spans.is_user))


def _before_step(session: Session, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
    place = next((i for i, a in enumerate(args) if callable(a) and not isinstance(a, torch.optim.Optimizer)), None)
    given = args[place] if place is not None else kwargs.get("closure")
    closure = session.before_step(optimizer, given)
    if closure is given:
        return None
    if place is None:
        return args, {**kwargs, "closure": closure}
    return (*args[:place], closure, *args[place + 1 :]), kwargs


@contextlib.contextmanager
def _backward(session: Session) -> Iterator[None]:
    """`Tensor.backward` comes here too."""
    original = torch.autograd.backward
    within = [False]

    def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
        if within[0]:
            original(tensors, *args, **kwargs)
            return
        passed = session.on_backward(tensors, Asked.by(args, kwargs), sys._getframe(1))
        within[0] = True
        try:
            with aside(session):
                original(tensors, *args, **kwargs)
        finally:
            within[0] = False
        passed()

    torch.autograd.backward = backward
    try:
        yield
    finally:
        torch.autograd.backward = original


@contextlib.contextmanager
def _keras_aside(session: Session) -> Iterator[None]:
    """What Keras' optimizers and metrics compute is no part of the loss."""
    kept = [(kind, name, vars(kind)[name]) for kind, name in keras_models.beside_the_loss()]

    def quiet(original: Any) -> Any:
        def call(metric: Any, *args: Any, **kwargs: Any) -> Any:
            for value in args[:1]:
                note_logged(session, metric.name, value)
            with aside(session):
                return original(metric, *args, **kwargs)

        return call

    def counted(original: Any) -> Any:
        def apply(optimizer: Any, grads: Any, trainable_variables: Any = None) -> Any:
            with aside(session), session.applying(type(optimizer).__name__, keras_models.held_by(optimizer, trainable_variables)):
                return original(optimizer, grads, trainable_variables)

        return apply

    for kind, name, original in kept:
        setattr(kind, name, counted(original) if name == "apply" else quiet(original))
    try:
        yield
    finally:
        for kind, name, original in kept:
            setattr(kind, name, original)


@contextlib.contextmanager
def _clearing(session: Session) -> Iterator[None]:
    """`zero_grad` of optimizers and modules."""
    kinds: tuple[Any, ...] = (torch.optim.Optimizer, torch.nn.Module)
    kept = [kind.zero_grad for kind in kinds]

    def noting(of: Any, original: Any) -> Any:
        def zero_grad(self: Any, *args: Any, **kwargs: Any) -> None:
            session.on_cleared(held_by(self) if of is kinds[0] else list(self.parameters()), sys._getframe(1))
            with aside(session):
                original(self, *args, **kwargs)

        return zero_grad

    for kind, original in zip(kinds, kept, strict=True):
        kind.zero_grad = noting(kind, original)
    try:
        yield
    finally:
        for kind, original in zip(kinds, kept, strict=True):
            kind.zero_grad = original


@contextlib.contextmanager
def _saving(session: Session) -> Iterator[None]:
    """What is saved are plain numbers and tensors, and nothing of it is recorded."""
    kept = torch.save, torch.load

    def quiet(original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            with aside(session):
                return original(*args, **kwargs)

        return call

    torch.save, torch.load = map(quiet, kept)
    try:
        yield
    finally:
        torch.save, torch.load = kept


@contextlib.contextmanager
def _scalers(session: Session) -> Iterator[None]:
    """What a gradient scaler scales is minimised as it was before."""
    kind: Any = torch.amp.GradScaler
    kept = {name: vars(kind)[name] for name in ("scale", "unscale_", "step")}
    switched_off: set[int] = set()
    make = kind.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        given = inspect.signature(make).bind(self, *args, **kwargs).arguments
        (switched_off.discard if given.get("enabled", True) else switched_off.add)(id(self))

    def scale(self: Any, outputs: Any) -> Any:
        with aside(session):
            scaled = kept["scale"](self, outputs)
        session.on_scaled(scaled, outputs, works=id(self) not in switched_off)
        return scaled

    def unscaling(original: Any) -> Any:
        def unscale(self: Any, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
            session.on_unscaled(optimizer)
            with aside(session) if original is kept["unscale_"] else contextlib.nullcontext():
                return original(self, optimizer, *args, **kwargs)

        return unscale

    kind.__init__ = init
    for name, original in kept.items():
        setattr(kind, name, scale if name == "scale" else unscaling(original))
    try:
        yield
    finally:
        kind.__init__ = make
        for name, original in kept.items():
            setattr(kind, name, original)
