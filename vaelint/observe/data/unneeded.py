"""Modules that are not there and that the training may do without: imported as what ends the script once anything depends on it.

What trains a model is often in one file with what scores it, plays it or stores it, and imports the packages of all of them. A name out
of such a module may be called, and its results be called and dropped, as loggers are. As soon as a value of it would decide anything (a
condition, a loop, arithmetic, an argument of torch), or a network, its parameters, or code of the script are handed to it, the script
ends with the error that its import would have raised.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, NoReturn

import torch

from vaelint.observe.data.absent import importing_file, needs_it

_OTHERWISE = frozenset({"tensorflow", "keras", "torchvision"})
"""What has a stand-in of its own."""
_DEPTH = 2
_lent: dict[str, None] = {}  # the modules that are lent


class NeededError(ModuleNotFoundError):
    """Something depends on a module that is not there."""


def _missing(name: str) -> str:
    """The module that is not there, of a name within it."""
    return next((m for m in _lent if name == m or name.startswith(f"{m}.")), name)


def _refuse(name: str) -> NoReturn:
    missing = _missing(name)
    raise NeededError(f"No module named {missing!r}", name=missing)


class Lent:
    """Something out of a module that is not there, known by its dotted name."""

    def __init__(self, name: str) -> None:
        self.__dict__["_name"] = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Lent(f"{self.__dict__['_name']}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if any(map(_decides, (*args, *kwargs.values()))):
            _refuse(self._name)
        return Lent(self._name)

    def __repr__(self) -> str:
        return f"<{self._name}, which is not installed>"

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        name = self._name

        def refuse(cls: type, /, *args: object, **kwargs: object) -> NoReturn:
            _refuse(name)

        def accept(cls: type, /, **kwargs: object) -> None:
            """Keywords of the real base mean nothing here."""

        return (type(name.rpartition(".")[2], (), {"__new__": refuse, "__init_subclass__": classmethod(accept)}),)

    def __instancecheck__(self, instance: object) -> bool:
        if "." in _missing(self._name):
            _refuse(self._name)  # what is installed may have the class elsewhere
        return False  # nothing can be of a class that is not there

    __subclasscheck__ = __instancecheck__

    def __or__(self, other: object) -> Lent:
        return self if isinstance(other, type) or other is None or isinstance(other, Lent) else self._needed()

    __ror__ = __or__  # `pretty_midi.Note | None`, in an annotation

    def __enter__(self) -> Lent:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __eq__(self, other: object) -> bool:
        return self is other or (not isinstance(other, Lent) and self._needed())

    __hash__ = object.__hash__

    @classmethod
    def __torch_function__(cls, func: object, types: object, args: tuple[object, ...] = (), kwargs: object = None) -> NoReturn:
        given = [*args, *(kwargs.values() if isinstance(kwargs, dict) else ())]
        parts = [p for a in given for p in (a if isinstance(a, list | tuple) else (a,))]
        _refuse(next((p._name for p in parts if isinstance(p, Lent)), ""))

    def _needed(self, *_: object, **__: object) -> NoReturn:
        _refuse(self._name)

    __bool__ = __iter__ = __len__ = __contains__ = __getitem__ = __setitem__ = __str__ = __format__ = __fspath__ = _needed
    __int__ = __float__ = __index__ = __array__ = __lt__ = __le__ = __gt__ = __ge__ = __next__ = __reversed__ = _needed
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = __rpow__ = _needed
    __matmul__ = __rmatmul__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __neg__ = __and__ = __rand__ = _needed


Lent.__name__ = Lent.__qualname__ = "absent package"  # as Python names it in the user's tracebacks


def _decides(value: Any, depth: int = _DEPTH) -> bool:
    """Whether what gets this value could have a part in the training: networks, what has a gradient, data to come, and code."""
    if isinstance(value, torch.Tensor):
        return value.requires_grad
    if isinstance(value, Lent):
        return False
    if isinstance(value, torch.nn.Module | torch.optim.Optimizer | torch.utils.data.Dataset | torch.utils.data.DataLoader | Iterator):
        return True
    if callable(value):
        return True
    if depth and isinstance(value, dict | list | tuple | set):
        return any(_decides(v, depth - 1) for v in (value.values() if isinstance(value, dict) else value))
    return False


def wanting(error: BaseException) -> str | None:
    """The module for want of which an error was raised: something out of it is named, or at hand, where it was."""
    if isinstance(error, ModuleNotFoundError):
        return None
    frames = [frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__)]
    held = [v for at in frames[-1:] for v in (*at.values(), *getattr(at.get("self"), "__dict__", {}).values())]
    at_hand = next((v for v in held if isinstance(v, Lent)), None)
    if at_hand is not None:
        return _missing(at_hand._name)
    return next(iter(_lent), None) if Lent.__name__ in str(error) else None


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lends to the script's own files what no other finder has, and what they import outside of `try`."""

    def __init__(self, note: Callable[[str], None], own: Callable[[str], bool]) -> None:
        self._note, self._own = note, own

    def find_spec(self, name: str, path: Iterable[str] | None, target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        """A module that is lent, and the modules within it."""
        if name.partition(".")[0] in _OTHERWISE:
            return None
        parent = name.rpartition(".")[0]
        if parent not in sys.modules or not hasattr(sys.modules[parent], "is_lent"):
            frame = sys._getframe(1)
            if not self._own(importing_file(frame)) or not needs_it(frame) or self._is_found_later(name, path, target):
                return None
            _lent.setdefault(name)
            self._note(f"{name} is not installed, and what was observed does without it")
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def _is_found_later(self, name: str, path: Iterable[str] | None, target: ModuleType | None) -> bool:
        """Whether a finder behind this one has it, such as the one for the repository's own packages."""
        behind: list[Any] = sys.meta_path[sys.meta_path.index(self) + 1 :]
        return any(finder.find_spec(name, path, target) is not None for finder in behind)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """A module that lends whatever is asked of it."""
        made = ModuleType(spec.name)

        def lend(name: str) -> Any:
            if name.startswith("__") and name != "__version__":
                if name == "__all__":  # all names of it are asked for, which nothing knows
                    _refuse(spec.name)
                raise AttributeError(name)
            return Lent(f"{spec.name}.{name}")

        made.__dict__.update(is_lent=True, __getattr__=lend)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """There is no code."""


@contextlib.contextmanager
def lent_modules(note: Callable[[str], None], own: Callable[[str], bool]) -> Iterator[None]:
    """Within the block the files that are the script's `own` can import what is not there, as long as nothing depends on it."""
    finder = _Finder(note, own)
    sys.meta_path.append(finder)
    _lent.clear()
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n, m in sys.modules.items() if getattr(m, "__dict__", {}).get("is_lent")]:
            del sys.modules[name]
