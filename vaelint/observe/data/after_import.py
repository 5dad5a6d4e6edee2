"""Changes to a library's module, made when a script imports it: nothing is imported for their sake."""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

from vaelint.trace.when_imported import found_by_others

Change = Callable[[ModuleType], None]


class _Loader(importlib.abc.Loader):
    """The module's own loader, and then the change."""

    def __init__(self, own: Any, change: Change) -> None:
        self._own, self._change = own, change

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """As its own."""
        made: ModuleType | None = self._own.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """As its own, then changed."""
        self._own.exec_module(module)
        self._change(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Comes first, and lets the others find."""

    def __init__(self, changes: Mapping[str, Change]) -> None:
        self._changes = changes

    def find_spec(self, name: str, path: Iterable[str] | None, target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        """The module with a loader that changes it."""
        if name not in self._changes:
            return None
        spec = found_by_others(self, name, path, target)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec.loader, self._changes[name])
        return spec


@contextlib.contextmanager
def changed_when_imported(changes: Mapping[str, Change]) -> Iterator[None]:
    """Within the block the modules named are changed as they are imported; those that are there already at once, and put back."""
    finder = _Finder(changes)
    before = {name: dict(sys.modules[name].__dict__) for name in changes if name in sys.modules}
    added: dict[str, set[str]] = {}
    for name in before:
        changes[name](sys.modules[name])
        added[name] = set(sys.modules[name].__dict__) - set(before[name])
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in changes:
            if name in before:
                sys.modules[name].__dict__.update(before[name])
                for new in added[name]:
                    sys.modules[name].__dict__.pop(new, None)
            else:
                sys.modules.pop(name, None)
