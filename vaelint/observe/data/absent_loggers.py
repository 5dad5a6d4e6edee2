"""Lightning's loggers whose packages are not installed: they log nothing, and the training goes on."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from vaelint.trace.when_imported import when_imported

_PACKAGES = ("lightning.pytorch.loggers", "pytorch_lightning.loggers")


@contextlib.contextmanager
def absent_loggers(note: Callable[[str], None]) -> Iterator[None]:
    """Within the block a logger that cannot be made for want of its package is Lightning's own `DummyLogger`; `note` is told."""
    with contextlib.ExitStack() as stack:
        for name in _PACKAGES:
            stack.enter_context(when_imported(name, functools.partial(_change, note=note, stack=stack)))
        yield


def _change(module: ModuleType, note: Callable[[str], None], stack: contextlib.ExitStack) -> None:
    if module.__dict__.get("is_lent"):
        return  # Lightning itself is not installed
    dummy: Any = importlib.import_module(f"{module.__name__}.logger").__dict__["DummyLogger"]
    for name, kind in list(module.__dict__.items()):
        if name.endswith("Logger") and isinstance(kind, type) and "__init__" in vars(kind):
            original: Any = vars(kind)["__init__"]
            stack.callback(setattr, kind, "__init__", original)
            setattr(kind, "__init__", _made(original, name, dummy, note))  # noqa: B010 - mypy forbids to assign it


def _made(original: Any, name: str, dummy: Any, note: Callable[[str], None]) -> Callable[..., None]:
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            original(self, *args, **kwargs)
        except ModuleNotFoundError:
            note(f"the package of {name} is not installed: nothing is logged")
            self.__class__ = dummy
            dummy.__init__(self)

    return init
