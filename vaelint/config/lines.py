"""Where in the text of a configuration a key or a table stands: for editors. Reads lines, so that a file that is no TOML has them too."""

from __future__ import annotations

import re
from pathlib import Path

from vaelint.core.errors import ConfigurationError
from vaelint.core.finding import Span

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")


def place_of_error(error: ConfigurationError) -> Span:
    """The line that an error is about."""
    lines = _lines(error.file)
    if error.line:
        return _whole(error.file, lines, error.line)
    return place_of_key(error.file, error.table, error.key)


def place_of_key(file: Path, table: int, key: str = "") -> Span:
    """The line of a key; of the header of its table where it has none, or where `key` is empty; else the first line.

    Args:
        table: 0 for the keys of vaelint as a whole, N for the N-th target.
    """
    lines = _lines(file)
    own = file.name != "pyproject.toml"
    top, targets = ("", "targets") if own else ("tool.vaelint", "tool.vaelint.targets")
    wanted = targets if table else top
    header, seen, current = (0 if wanted else 1), 0, "" if own else None
    for number, line in enumerate(lines, 1):
        if (found := _HEADER.match(line)) is not None:
            current = re.sub(r"[\s\"']", "", found[2])
            seen += current == targets
            if current == wanted and (not table or seen == table):
                header = number
            if not table and current == f"{top}.{key}".lstrip("."):
                return _whole(file, lines, number)
        elif current == wanted and (not table or seen == table) and _names(line, key):
            return _whole(file, lines, number)
    return _whole(file, lines, header or 1)


def _names(line: str, key: str) -> bool:
    return bool(key) and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line) is not None


def _whole(file: Path, lines: list[str], number: int) -> Span:
    text = lines[number - 1] if number <= len(lines) else ""
    body = text.strip()
    first = text.index(body) + 1 if body else 1
    return Span(str(file), number, first, number, first + max(1, len(body)))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
