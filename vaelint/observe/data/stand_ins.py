"""Modules in the place of packages that are not installed, for the script's own files alone."""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

from vaelint.observe.data.absent import importing_file, needs_it


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the stand-in's modules to the script. Packages that ask whether the original is there hear that it is not."""

    def __init__(self, modules: Mapping[str, ModuleType], own: Callable[[str], bool], note: Callable[[str], None] | None) -> None:
        self._modules, self._own, self._note = modules, own, note

    def find_spec(self, name: str, path: Iterable[str] | None, target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        """The spec of a module of the stand-in."""
        frame = sys._getframe(1)
        if name not in self._modules or not (self._own(importing_file(frame)) or needs_it(frame)):
            return None
        if self._note is not None:
            self._note(f"{name.partition('.')[0]} is not installed, and is stood in for")
            self._note = None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """The module as it is."""
        return self._modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """There is no code."""


class NotStoodInError(AttributeError):
    """A name of a package that is not installed, for which nothing stands in."""


class _NotStoodIn(type):
    """What has no stand-in: it can be named, as in an annotation, and derived from. Whoever makes one, or asks it for anything, is told."""

    dotted: str

    def __call__(cls, *_: Any, **__: Any) -> Any:
        top = cls.dotted.partition(".")[0]
        raise NotStoodInError(f"{cls.dotted} is not stood in for: install {top}")

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls()

    def __subclasscheck__(cls, subclass: type) -> bool:
        return bool(cls())


def lending(name: str, names: dict[str, Any]) -> ModuleType:
    """A module that lends the names of what it has no stand-in for."""
    made = ModuleType(name, "stands in for a package that is not installed")
    made.__dict__.update(names)
    made.__path__ = []

    def missing(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return _NotStoodIn(attribute, (), {"dotted": f"{name}.{attribute}"})

    made.__getattr__ = missing  # type: ignore[method-assign]
    return made


@contextlib.contextmanager
def stood_in(modules: Mapping[str, ModuleType], own: Callable[[str], bool], note: Callable[[str], None] | None = None) -> Iterator[None]:
    """Within the block the files that are the script's `own` import these modules, before any that is installed.

    `note` is told once that their package is not installed.
    """
    finder = _Finder(modules, own, note)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in modules:
            sys.modules.pop(name, None)
