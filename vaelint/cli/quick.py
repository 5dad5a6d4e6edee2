"""The words of a plain `vaelint check`, read without the command line's library, which takes longer to import than all the rest.

For a run that is answered by kept results. It reads what it is sure of, as that library would, and leaves everything else to it:
abbreviations, mistakes, help, options from variables. tests/cli/test_quick.py holds the two against each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vaelint.config.options import TABLE, Options
from vaelint.core.finding import Severity


def _count(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or int(text) < 1:
        raise ValueError(text)
    return int(text)


_UNKEPT = ("watch", "fix", "diff", "add_ignore")
"""What no kept results answer."""

_FLAGS: dict[str, tuple[str, bool]] = {}
_SEVERAL: dict[str, str] = {}
_ONE: dict[str, tuple[str, Callable[[str], Any]]] = {}
_READ: dict[str, Callable[[str], Any]] = {
    "text": str,
    "number": float,
    "count": _count,
    "file": lambda text: str(Path(text)),
    "choice": lambda text: Severity(text).value,  # of --fail-on, the only one
}

for _entry in TABLE:
    _option = _entry.option_of("check")
    if _option is None or _option.argument or _entry.field in _UNKEPT:
        continue
    for _name in filter(None, (_option.name, _option.short)):
        if _option.kind in ("flag", "switch"):
            _FLAGS[_name] = (_entry.field, True)
        elif _option.kind == "texts":
            _SEVERAL[_name] = _entry.field
        else:
            _ONE[_name] = (_entry.field, _READ[_option.kind])
    if _option.kind == "switch":
        _FLAGS[f"--no-{_option.name[2:]}"] = (_entry.field, False)


def words_of(args: Sequence[str]) -> Options | None:
    """What stands behind `vaelint check`; None where the library has to read it."""
    if any(name.startswith(("_VAELINT", "VAELINT_OUTPUT_FORMAT")) for name in os.environ):
        return None  # a shell completes a line; an option is given by a variable
    said: dict[str, Any] = {}
    waiting = list(args)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("-"):
            said.setdefault("names", []).append(word)
            continue
        option, equals, value = word.partition("=")
        if option in _FLAGS and not equals:
            name, said_by_it = _FLAGS[option]
            said[name] = said_by_it
            continue
        if (option not in _SEVERAL and option not in _ONE) or (equals and not option.startswith("--")):
            return None
        if not equals:
            if not waiting or waiting[0].startswith("-"):
                return None
            value = waiting.pop(0)
        if option in _SEVERAL:
            said.setdefault(_SEVERAL[option], []).append(value)
            continue
        name, read = _ONE[option]
        try:
            said[name] = read(value)
        except ValueError:
            return None
    return Options(**said)
