"""Plain words of a command, read without the command line's library, which takes longer to import than all the rest.

That costs as much CPU time as a tenth of importing torch. What is read here is what is sure, as that library would read it; everything
else is left to it: abbreviations, mistakes, help, options from variables. tests/cache/test_words.py holds
the two against each other.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vaelint.config.declared import Option
from vaelint.config.options import TABLE, Options


def _count(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or int(text) < 1:
        raise ValueError(text)
    return int(text)


def _chosen(choices: tuple[str, ...], text: str) -> str:
    if text not in choices:
        raise ValueError(text)
    return text


_UNKEPT = ("watch", "fix", "diff", "add_ignore")
"""What no kept results answer."""

_READ: dict[str, Callable[[str], Any]] = {
    "text": str,
    "number": float,
    "count": _count,
    "file": lambda text: str(Path(text)),
}


class _Taken:
    """What a command takes, by how it is said."""

    def __init__(self, command: str) -> None:
        self.flags: dict[str, tuple[str, bool]] = {}
        self.several: dict[str, str] = {}
        self.one: dict[str, tuple[str, Callable[[str], Any]]] = {}
        self.argument: tuple[str, Option] | None = None  # its field, and how it is declared
        for entry in TABLE:
            option = entry.option_of(command)
            if option is not None and entry.field not in _UNKEPT:
                self._add(entry.field, option)

    def _add(self, field: str, option: Option) -> None:
        if option.argument:
            self.argument = (field, option)
            return
        for name in filter(None, (option.name, option.short)):
            if option.kind in ("flag", "switch"):
                self.flags[name] = (field, True)
            elif option.kind == "texts":
                self.several[name] = field
            elif option.kind == "choice":
                self.one[name] = (field, functools.partial(_chosen, option.choices))
            elif option.kind in _READ:
                self.one[name] = (field, _READ[option.kind])
        if option.kind == "switch":
            self.flags[f"--no-{option.name[2:]}"] = (field, False)


@functools.cache
def _taken(command: str) -> _Taken:
    return _Taken(command)


def words_of(args: Sequence[str], command: str = "check") -> Options | None:
    """What stands behind `vaelint check`, or another command; None where the library has to read it."""
    if any(name.startswith(("_VAELINT", "VAELINT_OUTPUT_FORMAT")) for name in os.environ):
        return None  # a shell completes a line; an option is given by a variable
    taken, said, plain = _taken(command), dict[str, Any](), list[str]()
    waiting = list(args)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("-"):
            plain.append(word)
            continue
        option, equals, value = word.partition("=")
        if option in taken.flags and not equals:
            name, said_by_it = taken.flags[option]
            said[name] = said_by_it
            continue
        if (option not in taken.several and option not in taken.one) or (equals and not option.startswith("--")):
            return None
        if not equals:
            if not waiting or waiting[0].startswith("-"):
                return None
            value = waiting.pop(0)
        if option in taken.several:
            said.setdefault(taken.several[option], []).append(value)
            continue
        name, read = taken.one[option]
        try:
            said[name] = read(value)
        except ValueError:
            return None
    return Options(**said) if _placed(plain, taken, said) else None


def _placed(plain: list[str], taken: _Taken, said: dict[str, Any]) -> bool:
    """Whether the words that are no options are as many as the command takes."""
    if taken.argument is None:
        return not plain
    field, option = taken.argument
    if option.kind == "texts":
        if plain:
            said[field] = plain
        return True
    if len(plain) > 1 or (option.required and not plain) or option.kind not in _READ:
        return False
    if plain:
        said[field] = _READ[option.kind](plain[0])
    return True
