"""Notebooks read as Python: each line of a cell stands where it stands in the notebook's own file, so that places are those of the file.

Imports no torch.
"""

from __future__ import annotations

import ast
import json
import linecache
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from vaelint.core.paths import regular


def source_of_file(path: str | Path) -> bytes:
    """The Python text of a file: its bytes, or the code cells of a notebook. Raises OSError; ValueError for a broken notebook."""
    data = regular(path).read_bytes()
    return as_module(data.decode("utf-8", "replace")).encode() if str(path).endswith(".ipynb") else data


def show(path: str) -> None:
    """Lets whoever shows source, Python's own `inspect` too, find a notebook's Python text. Nothing for other files."""
    if path.endswith(".ipynb"):
        text = source_of_file(path).decode()
        linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)


def as_module(text: str) -> str:
    """The code cells of a notebook as one module; what is no line of code is empty. Magics, which are not Python, are left out, and so
    are cells that are not Python whole: they never ran, and the others do without them.

    A notebook that is written without line breaks has no lines of its own: its cells follow each other. Raises ValueError.
    """
    return _without_late_futures("\n".join(_read(text)[0]))


def faults(path: str | Path) -> list[SyntaxError]:
    """Why cells of a notebook were left out, each error with its line in the notebook's file. Raises OSError, ValueError."""
    return _read(regular(path).read_bytes().decode("utf-8", "replace"))[1] if str(path).endswith(".ipynb") else []


def not_run(path: str | Path) -> list[str]:
    """The lines of a notebook that are no Python, with their place: of shells, magics, and the first one of a cell in another language.

    Raises OSError, ValueError.
    """
    document = json.loads(regular(path).read_bytes().decode("utf-8", "replace"))
    cells = [(n, _lines(c)) for n, c in enumerate(document.get("cells", ()), 1) if isinstance(c, dict) and c.get("cell_type") == "code"]
    found = []
    for number, lines in cells:
        other = bool(lines) and lines[0].startswith("%%") and not _MEASURES.match(lines[0])
        kept = lines[:1] if other else [line for line in lines if line.lstrip().startswith(("%", "!")) and not _MEASURES.match(line)]
        found += [f"cell {number}: {line.strip()}" for line in kept]
    return found


def cell_of(path: str, line: int) -> tuple[int, int] | None:
    """The cell that a line of the module stands in, and its line there, both from 1 on: as Jupyter counts, with cells of text.

    None for other files, and for lines in no cell.
    """
    if not path.endswith(".ipynb"):
        return None
    try:
        starts = _cells(path, regular(path).stat().st_mtime_ns)
    except (OSError, ValueError):
        return None
    return next(((number, line - first) for number, first, count in starts if first < line <= first + count), None)


@lru_cache(maxsize=64)
def _cells(path: str, changed: int) -> tuple[tuple[int, int, int], ...]:
    """Each code cell: its number in the notebook, the line of the module before its first, and how many lines it has."""
    text = Path(path).read_bytes().decode("utf-8", "replace")
    cells = json.loads(text).get("cells", ())
    code = [(n, _lines(c)) for n, c in enumerate(cells, 1) if isinstance(c, dict) and c.get("cell_type") == "code"]
    stated = [_stated(line) for line in text.split("\n")]
    found: list[tuple[int, int, int]] = []
    start = 0
    for number, lines in code:
        place = next((i for i in range(start, len(stated)) if stated[i : i + len(lines)] == lines), None) if lines else start
        if place is None:  # the notebook has no lines of its own: its cells follow each other
            before = [0]
            for _, other in code:
                before.append(before[-1] + len(other))
            return tuple((n, first, len(other)) for (n, other), first in zip(code, before, strict=False))
        found.append((number, place, len(lines)))
        start = place + len(lines)
    return tuple(found)


def _read(text: str) -> tuple[list[str], list[SyntaxError]]:
    """The lines of the module, and the faults of cells that are no part of it."""
    document = json.loads(text)
    cells = [_lines(c) for c in document.get("cells", ()) if isinstance(c, dict) and c.get("cell_type") == "code"]
    stated = [_stated(line) for line in text.split("\n")]
    placed = [""] * len(stated)
    bad: list[SyntaxError] = []
    start = 0
    for lines in cells:
        place = next((i for i in range(start, len(stated)) if stated[i : i + len(lines)] == lines), None) if lines else start
        if place is None:
            return [line for cell in cells for line in _python(cell, 0, [])], []
        placed[place : place + len(lines)] = _python(lines, place, bad)
        start = place + len(lines)
    return placed, bad


def _lines(cell: dict[str, Any]) -> list[str]:
    source = cell.get("source", "")
    parts = source.splitlines(keepends=True) if isinstance(source, str) else list(source)
    return [str(part) for part in parts]


def _stated(line: str) -> str | None:
    """The text that a line of the notebook's file states, None if it is no text alone."""
    line = line.strip().removesuffix(",")
    if not line.startswith('"'):
        return None
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


_MEASURES = re.compile(r"%%(time|timeit|capture|prun|memit|mprun|wandb)\b")
"""Magics of a cell that is Python."""


def _python(lines: list[str], place: int, bad: list[SyntaxError]) -> list[str]:
    """The lines of a cell as Python; a cell of another language (`%%bash`) is left out whole, one with a fault too: `bad` gets it.

    What measures a cell (`%%time`), or keeps its output, leaves it Python.
    """
    if lines and lines[0].startswith("%%") and not _MEASURES.match(lines[0]):
        return [""] * len(lines)
    plain = [line.rstrip("\n") for line in lines]
    plain = ["" if line.lstrip().startswith(("%", "!")) else line.removesuffix("?") for line in plain]
    try:
        ast.parse("\n".join(plain))
    except SyntaxError as error:
        error.lineno = place + (error.lineno or 1)
        bad.append(error)
        return [""] * len(lines)
    return plain


def _without_late_futures(text: str) -> str:
    """A cell may say `from __future__ import ...` late, where a module may not: in one module it is dropped there."""
    seen = False
    kept = []
    for line in text.split("\n"):
        future = line.startswith("from __future__ import")
        kept.append("" if future and seen else line)
        seen = seen or bool(line.strip() and not future and not line.lstrip().startswith("#"))
    return "\n".join(kept)
