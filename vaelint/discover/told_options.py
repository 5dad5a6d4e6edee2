"""Values that the texts of a repository give options: in commands, and beside them in lists of options. Imports no torch."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from vaelint.discover.argparse_options import Option, known_value

TEXTS = ("README*", "readme*", "Makefile", "makefile", "*.sh", "*/*.sh", "docs/*.md", "*.md", "*/README*")
_GIVEN = re.compile(
    r"""(?<![\w-])(?P<name>--?[A-Za-z][\w-]*)(?:=|[ \t]+)(?P<value>"[^"\n]*"|'[^'\n]*'|[^\s"'`|;&<>\[\]{}$*()\\]+)(?=$|[\s`;|])"""
)


def texts_of(folder: Path) -> Iterator[Path]:
    """The files that tell people how a repository is used."""
    yield from (text for pattern in TEXTS for text in sorted(folder.glob(pattern)))


def told_values(folder: Path, script: str) -> dict[str, str]:
    """The first value that texts give each option: of commands for a script of this name before others."""
    own: dict[str, str] = {}
    others: dict[str, str] = {}
    for file in dict.fromkeys(texts_of(folder)):
        try:
            text = file.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ")
        except OSError:
            continue
        for line in text.splitlines():
            for given in _GIVEN.finditer(line):
                value = given["value"].strip("\"'")
                if value and not value.startswith("-"):
                    (own if script in line else others).setdefault(given["name"], value)
    return {**others, **own}


def value_of_option(option: Option, told: Mapping[str, str]) -> object:
    """A value for an option that has to be given: what a text gives, or what argparse is told of; None where neither does."""
    choices, kind = option.value("choices"), option.given.get("type")
    given = next((told[name] for name in option.names if name in told), None)
    stands = given is not None and given.isupper() and given.lower().replace("-", "_") in (option.dest, *_TYPED)
    if given is None or option.positional or stands:
        return known_value(option)
    fits = not isinstance(choices, list | tuple) or given in [str(c) for c in choices]
    number = kind.id if isinstance(kind, ast.Name) and kind.id in ("int", "float") else ""
    return given if fits and (not number or _NUMBERS[number].fullmatch(given)) else known_value(option)


_TYPED = ("value", "path", "dir", "file", "name", "n", "num", "str", "int", "float")  # in capitals, what is to be typed
_NUMBERS = {"int": re.compile(r"[+-]?\d+"), "float": re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")}
