"""Places as people know them: `model.py:3:5`; in a notebook `study.ipynb: cell 3, line 2`; in a running kernel `Cell In[3], line 2`."""

from __future__ import annotations

import re
import sys
from typing import Any

from vaelint.core.finding import Span
from vaelint.source.notebook import cell_of

_IN_NOTEBOOK = re.compile(r"([^\s()]+\.ipynb):(\d+)")
_IN_KERNEL = re.compile(r"(/[^\s:]*/ipykernel_\d+/\d+\.py)(?::(\d+))?")


def place_words(file: str, line: int, column: int | None = None) -> str:
    """A place in words."""
    told = f", column {column}" if column is not None else ""
    if (typed := typed_name(file)) is not None:
        return f"{typed}, line {line}{told}"
    if (cell := cell_of(file, line)) is not None:
        return f"{file}: cell {cell[0]}, line {cell[1]}{told}"
    return f"{file}:{line}" + (f":{column}" if column is not None else "")


def place_of(span: Span, *, column: bool = False) -> str:
    """The place of a span, its column if wanted."""
    return place_words(span.file, span.line, span.column if column else None)


def place_in(span: Any) -> str:
    """The same for a span as JSON has it; empty for none."""
    return place_words(span["file"], span["line"]) if isinstance(span, dict) and span.get("file") else ""


def with_cells(text: str) -> str:
    """A text in which places of notebooks are those of their cells: `study.ipynb:57` reads `study.ipynb: cell 3, line 2`."""
    told = _IN_NOTEBOOK.sub(lambda m: place_words(m[1], int(m[2])), text)
    return _IN_KERNEL.sub(_in_kernel, told) if "IPython" in sys.modules else told


def _in_kernel(found: re.Match[str]) -> str:
    name = typed_name(found[1])
    return found[0] if name is None else f"{name}, line {found[2]}" if found[2] else name


def shown_line(file: str, line: int) -> int:
    """The number of a line where it is read: in its cell, for a notebook."""
    cell = cell_of(file, line)
    return cell[1] if cell is not None else line


def typed_name(file: str) -> str | None:
    """`Cell In[3]` for the code of a cell in the running kernel, as IPython's own tracebacks have it."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    named = getattr(getattr(shell, "compile", None), "format_code_name", None)
    found = named(file) if callable(named) else None
    return " ".join(found) if found else None
