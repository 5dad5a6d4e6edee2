"""Acts on a module of a library as soon as it is imported, and without importing it."""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, cast

Act = Callable[[ModuleType], None]


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module as all others would, and acts on it when its code has run."""

    def __init__(self, name: str, act: Act) -> None:
        self._name, self._act = name, act

    def find_spec(self, name: str, path: Iterable[str] | None, target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        """The module's spec, as another finder gives it."""
        if name != self._name:
            return None
        later = sys.meta_path[sys.meta_path.index(self) + 1 :]  # those before have been asked, another that waits for the module among them
        found = (cast(Any, f).find_spec(name, path, target) for f in later)
        spec = next((s for s in found if s is not None), None)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            loader.exec_module = self._then(loader.exec_module)
        return spec

    def _then(self, execute: Act) -> Act:
        def exec_module(module: ModuleType) -> None:
            execute(module)
            if module.__name__ == self._name:  # a loader may load more than this one
                self._act(module)

        return exec_module


@contextlib.contextmanager
def when_imported(name: str, act: Act) -> Iterator[None]:
    """Within the block, `act` gets the module when it has been imported: at once, where it has been already."""
    known = sys.modules.get(name)
    if known is not None:
        act(known)
        yield
        return
    finder = _Finder(name, act)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
