"""A module that several parts of vaelint change, or wait for, is imported once, with all of their changes."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable
from types import ModuleType

from vaelint.observe.data.after_import import changed_when_imported
from vaelint.trace.when_imported import when_imported


def test_each_who_waits_for_a_module_gets_it() -> None:
    seen: list[str] = []

    def notes(who: str) -> Callable[[ModuleType], None]:
        return lambda module: seen.append(f"{who} {module.__name__}")

    sys.modules.pop("colorsys", None)
    with contextlib.ExitStack() as stack:
        stack.enter_context(when_imported("colorsys", notes("first")))
        stack.enter_context(when_imported("colorsys", notes("second")))
        stack.enter_context(changed_when_imported({"colorsys": notes("third")}))
        importlib.import_module("colorsys")
    assert sorted(seen) == ["first colorsys", "second colorsys", "third colorsys"]
