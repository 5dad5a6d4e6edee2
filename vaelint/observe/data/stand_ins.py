"""Modules in the place of packages that are not installed, for the script's own files alone."""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType

from vaelint.observe.data.absent import importing_file, needs_it


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the stand-in's modules to the script. Packages that ask whether the original is there hear that it is not."""

    def __init__(self, modules: Mapping[str, ModuleType], own: Callable[[str], bool]) -> None:
        self._modules, self._own = modules, own

    def find_spec(self, name: str, path: Iterable[str] | None, target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        """The spec of a module of the stand-in."""
        frame = sys._getframe(1)
        if name not in self._modules or not (self._own(importing_file(frame)) or needs_it(frame)):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """The module as it is."""
        return self._modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """There is no code."""


@contextlib.contextmanager
def stood_in(modules: Mapping[str, ModuleType], own: Callable[[str], bool]) -> Iterator[None]:
    """Within the block the files that are the script's `own` import these modules, before any that is installed."""
    finder = _Finder(modules, own)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in modules:
            sys.modules.pop(name, None)
