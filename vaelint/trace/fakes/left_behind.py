"""Fake tensors that a run leaves in the user's modules and classes, such as a table that is worked out once: they end with the run.

A real run that finds one in a cache fails in the middle of torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from vaelint.source.later_modules import later_modules
from vaelint.trace.torch_private import FakeTensor

_RULES = "vaelint_rules."  # they lie beside the user's code where vaelint itself is worked on, and hold no tensors


@contextlib.contextmanager
def no_fakes_left(is_user: Callable[[str], bool]) -> Iterator[None]:
    """Puts back what modules of the user's, and classes in them, hold under a name or in a dict or list, where it is fake afterwards."""
    held = {(id(owner), name): (value, _copied(value)) for owner, name, value in _held(is_user)}
    try:
        yield
    finally:
        for owner, name, value in list(_held(is_user)):
            was, content = held.get((id(owner), name), (None, None))
            if isinstance(value, FakeTensor):
                if (id(owner), name) in held:
                    setattr(owner, name, was)
                else:
                    delattr(owner, name)
            elif isinstance(value, dict) and any(isinstance(v, FakeTensor) for v in _there(value)):
                kept = content if was is value and content is not None else {}
                value.clear()
                value.update(kept)
            elif isinstance(value, list) and any(isinstance(v, FakeTensor) for v in value):
                value[:] = content if was is value and content is not None else []


def _there(table: dict[Any, Any]) -> list[Any]:
    """The values that are there now: another thread may add some meanwhile, and a dict that is asked for its values may load them."""
    return [*dict.values(table)]


def _copied(value: Any) -> Any:
    return value.copy() if type(value) in (dict, list) else None


def _held(is_user: Callable[[str], bool]) -> Iterator[tuple[Any, str, Any]]:
    for called, module in later_modules().items():
        file = module.__dict__.get("__file__") if isinstance(module, ModuleType) else None
        if not isinstance(file, str) or called.startswith(_RULES) or not is_user(file):
            continue
        for name, value in tuple(vars(module).items()):
            yield module, name, value
            if isinstance(value, type) and value.__module__ == module.__name__:
                yield from ((value, key, inner) for key, inner in list(vars(value).items()))
