"""Which module is running, and where each module was constructed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from vaelint.core.finding import Span
from vaelint.record.record import Births, ModuleCall
from vaelint.trace.spans import SpanFinder

_AROUND = 6  # calls of helpers around a constructor that tell which one chose the layer


class ModuleTracker:
    """A stack of the modules whose forward is running, by global hooks; a list of all calls."""

    def __init__(self, model: torch.nn.Module, births: Births, spans: SpanFinder) -> None:
        self._paths = {id(m): name for name, m in model.named_modules()}
        self.parameters = list(model.parameters())
        self._births, self._spans = births, spans
        self._active: list[torch.nn.Module] = []
        self.calls: list[ModuleCall] = []
        self.count: Callable[[], int] = lambda: 0

    @property
    def trained(self) -> frozenset[int]:
        """The ids of the model's parameters that take a gradient."""
        return frozenset(id(p) for p in self.parameters if p.requires_grad)

    @property
    def path(self) -> str:
        """The dotted name of the innermost running module; `?` inside one that the model does not know."""
        return self._paths.get(id(self._active[-1]), "?") if self._active else ""

    @property
    def running(self) -> bool:
        """Whether a module's forward is running."""
        return bool(self._active)

    @property
    def training(self) -> bool:
        """Whether the innermost running module is in training mode."""
        return _training(self._active[-1]) if self._active else True

    def births_of_active(self) -> tuple[Span, ...]:
        """Where the running modules were constructed, innermost first."""
        return tuple(self._births[id(m)] for m in reversed(self._active) if id(m) in self._births)

    def _enter(self, module: torch.nn.Module, _: Any) -> None:
        stack = self._spans.stack(sys._getframe(1), limit=1)
        path = self._paths.get(id(module), "?")
        self.calls.append(ModuleCall(path, module, self.count(), stack[0] if stack else None, _training(module), len(self._active)))
        self._active.append(module)

    def _leave(self, module: torch.nn.Module, *_: Any) -> None:
        while self._active and self._active.pop() is not module:
            pass

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks are global while the block runs."""
        handles = (register_module_forward_pre_hook(self._enter), register_module_forward_hook(self._leave))
        try:
            yield
        finally:
            for h in handles:
                h.remove()


@contextlib.contextmanager
def noting_births(spans: SpanFinder, births: Births, keep: list[Any], guests: list[torch.nn.Module] | None = None) -> Iterator[None]:
    """While the block constructs modules, notes the user's expression that constructed each.

    `guests` gets those that no method of a module was making: a critic that the step builds for itself.
    """
    original = torch.nn.Module.__init__

    def init(self: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        frame: Any = sys._getframe(1)
        while (
            frame is not None
            and frame.f_code.co_name == "__init__"
            and frame.f_locals.get(frame.f_code.co_varnames[0] if frame.f_code.co_varnames else "") is self
        ):
            frame = frame.f_back  # super().__init__() chains: what matters is who constructed the object
        stack = spans.stack(frame, limit=_AROUND)
        if stack:
            births.note(self, stack)
            keep.append(self)
        if guests is not None and not _in_method_of_module(frame):
            guests.append(self)
        original(self, *args, **kwargs)

    torch.nn.Module.__init__ = init  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Module.__init__ = original  # type: ignore[method-assign]


def _in_method_of_module(frame: Any) -> bool:
    """Whether a frame, or one that called it, runs a method of a module other than its constructor."""
    while frame is not None:
        code = frame.f_code
        owner = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        if isinstance(owner, torch.nn.Module) and code.co_name != "__init__":
            methods = (vars(c).get(code.co_name) for c in type(owner).__mro__ if c is not torch.nn.Module)
            if any(getattr(m, "__code__", None) is code for m in methods):
                return True
        frame = frame.f_back
    return False


def _training(module: torch.nn.Module) -> bool:
    """Whether a module is in training mode; passes by `noting_modes` where the module keeps it as all do."""
    kept = vars(module).get("training")
    return bool(module.training if kept is None else kept)


class _Mode:
    """`module.training`, kept where it always is; `note` is called when it is read, `put` when one leaves training or is told to train.
    Modules that are `held` stay in evaluation, whatever they are told."""

    def __init__(self, note: Callable[[], None], put: Callable[[torch.nn.Module, bool], None], held: frozenset[int]) -> None:
        self._note, self._put, self._held = note, put, held

    def __get__(self, module: torch.nn.Module | None, owner: type) -> Any:
        if module is None:
            raise AttributeError("training")  # the class itself has none
        if not (owner.__module__.startswith(_LAYERS) and _reads_its_own(module)):
            self._note()
        if "training" not in vars(module):
            raise AttributeError("training")  # then the class is asked in its own way: a compiled module keeps it elsewhere
        return vars(module)["training"]

    def __set__(self, module: torch.nn.Module, value: Any) -> None:
        before = vars(module).get("training")
        if not value and before is True:
            self._put(module, False)
        elif value and before is not None and not _is_passed_on():
            self._put(module, True)
        vars(module)["training"] = value if id(module) not in self._held else False


_LAYERS = "torch.nn.modules."
_TRAIN = torch.nn.Module.train.__code__


def _is_passed_on() -> bool:
    """Whether a module's own `train` tells its child."""
    frame = sys._getframe(2)
    return frame.f_code is _TRAIN and frame.f_back is not None and frame.f_back.f_code is _TRAIN


def _reads_its_own(layer: torch.nn.Module) -> bool:
    """Whether it is the code of a layer of torch that reads the layer's mode."""
    frame: Any = sys._getframe(1)
    for _ in range(12):
        if frame is not None and frame.f_globals.get("__name__", "").startswith(_LAYERS):
            return frame.f_locals.get("self") is layer
        frame = frame.f_back if frame is not None else None
    return False


@contextlib.contextmanager
def noting_modes(model: torch.nn.Module, note: Callable[[], None], put: Callable[[torch.nn.Module, bool], None]) -> Iterator[None]:
    """Calls `note` where the model may act on whether it is in training mode: its code reads that, or has a `train()` of its own.

    Layers of torch that read their own (dropout, batch normalisation) do not count. `put` gets each module that
    leaves training, and each that is told to be in it, whether it was or not; of a module with children that one alone.
    A model that is run in evaluation stays there: a step that puts it in training itself says nothing of evaluation else.
    """
    own = torch.nn.Module
    held = frozenset[int]() if vars(model).get("training", True) else frozenset(map(id, model.modules()))
    if any(c.train is not own.train or c.eval is not own.eval or hasattr(c, "training") for c in {type(m) for m in model.modules()}):
        note()
    before = vars(own).get("training")
    own.training = _Mode(note, put, held)  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is None:
            del own.training
        else:
            own.training = before
