"""The modules that were imported after a server was ready to fork: a user's are among them.

A process that only looks at a module counts a reference to it, and so copies the page it lies on. A fork that looked at all of the server's
1800 spent a third of its time on that.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType

_MARK = "vaelint modules until here"
_before: dict[str, ModuleType] = {}


def mark() -> None:
    """Holds that what is imported by now is no user's."""
    sys.modules.pop(_MARK, None)
    _before.clear()
    _before.update(sys.modules)
    sys.modules[_MARK] = ModuleType(_MARK)


def later_modules() -> dict[str, ModuleType]:
    """Those that came after the mark, by name; all where there is none, or where it was thrown out. Modules keep the order they came in."""
    while True:
        found = []
        try:
            for name, module in reversed(sys.modules.items()):
                if name == _MARK:
                    break
                found.append((name, module))
        except RuntimeError:  # another thread imports
            continue
        return dict(reversed(found))


def thrown_out() -> dict[str, ModuleType]:
    """Of those before the mark, what is not there any more."""
    if _MARK in sys.modules and len(sys.modules) == len(_before) + 1 + len(later_modules()):
        return {}
    return {name: module for name, module in _before.items() if name not in sys.modules}


def came_since(earlier: Mapping[str, ModuleType]) -> dict[str, ModuleType]:
    """What has come under a new name since `later_modules` gave these."""
    return {name: module for name, module in later_modules().items() if name not in earlier and name not in _before}
