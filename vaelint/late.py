"""`dataclass`, which writes a class's methods when the first object of it is made.

The standard one compiles five methods for each class at its import, 0.6 ms; a check imports some 370 such classes and makes objects of
50. What is asked of the class itself (`dataclasses.fields`, a subclass that is one too) is answered as by the standard one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

_FIELDS = "__dataclass_fields__"
_LOCK = threading.RLock()


class _Late:
    """A class whose methods are not written yet. Stands where the fields of a dataclass are found."""

    def __init__(self, cls: type, how: dict[str, Any]) -> None:
        self._cls, self._how, self._module = cls, how, sys.modules.get(cls.__module__)
        self.first: Callable[..., None] = lambda *args, **words: self._make(*args, **words)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        self._write()
        return self._cls.__dict__[_FIELDS]

    def _make(self, instance: Any, /, *args: Any, **words: Any) -> None:
        self._write()
        vars(self._cls)["__init__"](instance, *args, **words)

    def _write(self) -> None:
        """Writes them, once. `__init__` comes last and at once: until then another thread that makes an object waits here."""
        with _LOCK:
            cls = self._cls
            if cls.__dict__["__init__"] is not self.first:
                return
            with _there({cls.__module__: self._module, "dataclasses": dataclasses, "typing": typing}):
                dataclasses.dataclass(init=False, **self._how)(cls)
                twin = types.new_class(cls.__name__, (cls,))
                twin.__module__ = cls.__module__
                dataclasses.dataclass(eq=False, repr=False, match_args=False, frozen=self._how.get("frozen", False))(twin)
            init = twin.__dict__["__init__"]
            init.__qualname__ = f"{cls.__qualname__}.__init__"
            cls.__init__ = init  # type: ignore[misc]


@contextlib.contextmanager
def _there(modules: Mapping[str, types.ModuleType | None]) -> Iterator[None]:
    """Has them among the modules, which user code may have thrown out."""
    missing = {name: module for name, module in modules.items() if module is not None and name not in sys.modules}
    sys.modules.update(missing)
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


def _late(cls: type | None = None, /, **how: Any) -> Any:
    if cls is None:
        return lambda decorated: _late(decorated, **how)
    if how.get("slots") or "__init__" in cls.__dict__:  # another class, or one that makes its objects itself
        return dataclasses.dataclass(**how)(cls)
    late = _Late(cls, how)
    setattr(cls, _FIELDS, late)
    cls.__init__ = late.first  # type: ignore[misc]
    return cls


if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    dataclass = _late
