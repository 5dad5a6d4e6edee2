"""What older releases of PyTorch took and had, for scripts that were written for them.

https://github.com/pytorch/pytorch/releases/tag/v2.7.0 (`verbose` of schedulers), v2.0.0 (`torch._six`)
"""

from __future__ import annotations

import collections.abc
import contextlib
import importlib.util
import inspect
import math
import queue
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from torch.optim import lr_scheduler

from vaelint.observe.data.stand_ins import stood_in

Note = Callable[[str], None]
_SIX = {
    "string_classes": (str, bytes), "int_classes": int, "inf": math.inf, "nan": math.nan, "container_abcs": collections.abc, "queue": queue,
    "FileNotFoundError": FileNotFoundError, "PY2": False, "PY3": True, "PY37": True,
}  # fmt: skip


@contextlib.contextmanager
def older_torch(note: Note, own: Callable[[str], bool]) -> Iterator[None]:
    """Within the block schedulers take `verbose`, and the files that are the script's `own` find `torch._six`."""
    six = {} if importlib.util.find_spec("torch._six") else {"torch._six": _six(note)}
    kinds: list[Any] = [k for k in vars(lr_scheduler).values() if _is_silent(k)]
    kept = [(kind, kind.__init__) for kind in dict.fromkeys(kinds)]
    for kind, original in kept:
        kind.__init__ = _taking_verbose(original, kind.__name__, note)
    try:
        with stood_in(six, own):
            yield
    finally:
        for kind, original in kept:
            kind.__init__ = original


def _is_silent(kind: Any) -> bool:
    """Whether it is a scheduler with a constructor of its own that says nothing, as it was asked to before."""
    scheduler = inspect.isclass(kind) and issubclass(kind, lr_scheduler.LRScheduler) and "__init__" in vars(kind)
    return scheduler and "verbose" not in inspect.signature(kind.__init__).parameters


def _taking_verbose(original: Callable[..., None], name: str, note: Note) -> Callable[..., None]:
    """The constructor, which leaves out `verbose`: in older releases it came last."""
    most = len(inspect.signature(original).parameters)

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if "verbose" in kwargs or len(args) == most:
            note(f"this PyTorch's {name} knows no verbose: left out")
        original(self, *args[: most - 1], **{k: v for k, v in kwargs.items() if k != "verbose"})

    init.__wrapped__ = original  # type: ignore[attr-defined]
    return init


def _six(note: Note) -> ModuleType:
    made = ModuleType("torch._six")

    def older(name: str) -> Any:
        if name not in _SIX:
            raise AttributeError(f"module 'torch._six' has no attribute {name!r}")
        note(f"this PyTorch has no torch._six: the script got {name}")
        return _SIX[name]

    made.__getattr__ = older  # type: ignore[method-assign]
    return made
