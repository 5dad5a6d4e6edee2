"""Where a function of a module is written: found in its source, without importing it."""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path

from vaelint.late import dataclass

_TOP = re.compile(r"^def (?P<name>\w+)\(\s*(?P<first>\w*)", re.MULTILINE)


@dataclass(frozen=True)
class Definition:
    """A function at the top of a module."""

    module: str
    name: str
    file: str
    line: int
    first: str  # its first parameter; "" if it takes none


@functools.cache
def source_of(module: str) -> tuple[str, str]:
    """The file of a module and its text; ("", "") where there is none. The packages around it are imported, itself it is not."""
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return "", ""
    if found is None or not found.has_location or found.origin is None:
        return "", ""
    return found.origin, Path(found.origin).read_text(encoding="utf-8")


@functools.cache
def _functions(module: str) -> dict[str, Definition]:
    file, text = source_of(module)
    return {m["name"]: Definition(module, m["name"], file, text.count("\n", 0, m.start()) + 1, m["first"]) for m in _TOP.finditer(text)}


def definition(module: str, name: str) -> Definition | None:
    """The function `name` of a module; None if the module has none, or is not there."""
    return _functions(module).get(name)
