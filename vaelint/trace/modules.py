"""Which module is running, and where each module was constructed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from vaelint.finding import Span
from vaelint.graph import ModuleCall
from vaelint.trace.spans import SpanFinder


class ModuleTracker:
    """A stack of the modules whose forward is running, by global hooks; a list of all calls."""

    def __init__(self, model: torch.nn.Module, births: dict[int, Span], spans: SpanFinder) -> None:
        self._paths = {id(m): name for name, m in model.named_modules()}
        self._births, self._spans = births, spans
        self._active: list[torch.nn.Module] = []
        self.calls: list[ModuleCall] = []
        self.count: Callable[[], int] = lambda: 0

    @property
    def path(self) -> str:
        """The dotted name of the innermost running module; `?` inside one that the model does not know."""
        return self._paths.get(id(self._active[-1]), "?") if self._active else ""

    @property
    def training(self) -> bool:
        """Whether the innermost running module is in training mode."""
        return bool(self._active[-1].training) if self._active else True

    def births_of_active(self) -> tuple[Span, ...]:
        """Where the running modules were constructed, innermost first."""
        return tuple(self._births[id(m)] for m in reversed(self._active) if id(m) in self._births)

    def _enter(self, module: torch.nn.Module, _: Any) -> None:
        stack = self._spans.stack(sys._getframe(1), limit=1)
        path = self._paths.get(id(module), "?")
        self.calls.append(ModuleCall(path, module, self.count(), stack[0] if stack else None, module.training, len(self._active)))
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
def noting_births(spans: SpanFinder, births: dict[int, Span], keep: list[Any]) -> Iterator[None]:
    """While the block constructs modules, notes the user's expression that constructed each."""
    original = torch.nn.Module.__init__

    def init(self: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        frame: Any = sys._getframe(1)
        while (
            frame is not None
            and frame.f_code.co_name == "__init__"
            and frame.f_locals.get(frame.f_code.co_varnames[0] if frame.f_code.co_varnames else "") is self
        ):
            frame = frame.f_back  # super().__init__() chains: what matters is who constructed the object
        stack = spans.stack(frame, limit=1)
        if stack:
            births[id(self)] = stack[0]
            keep.append(self)
        original(self, *args, **kwargs)

    torch.nn.Module.__init__ = init  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Module.__init__ = original  # type: ignore[method-assign]
