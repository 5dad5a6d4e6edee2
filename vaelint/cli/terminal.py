"""What depends on the terminal: colour, width, where messages go. Imports no torch."""

from __future__ import annotations

import os
import shutil
import sys

from vaelint.cli.streams import to_nowhere
from vaelint.core.visible import visible_lines

PRINTED: list[str | None] = []
"""What went to standard output as reports; None for what went elsewhere, or is another text each time."""


def say(message: str, help: str = "") -> None:
    """One message on the error stream. What user code put into it neither moves the cursor nor gives GitHub's runner a command."""
    tell(f"vaelint: {message}" + (f"\nhelp: {help}" if help else ""))


def tell(text: str) -> None:
    """The same without the name. A stream that takes nothing (closed, a full disk) is no reason to end otherwise: nobody is told."""
    PRINTED.append(None)
    text = visible_lines(text)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        text = text.replace("::", ": :").replace("##[", "## [")
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        to_nowhere(2)


def counted(count: int, word: str) -> str:
    """`1 file`, `2 files`."""
    return f"{count} {word}{'s' * (count != 1)}"


def colour(wanted: bool | None, *, to_file: bool) -> bool:
    """https://no-color.org and FORCE_COLOR, when the options leave it open."""
    if wanted is not None:
        return wanted
    if to_file or os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


def width() -> int:
    """100 columns, or what a narrower terminal or COLUMNS has; where the output goes elsewhere, only COLUMNS counts."""
    told = sys.stdout.isatty() or os.environ.get("COLUMNS")
    return max(40, min(100, shutil.get_terminal_size((100, 24)).columns)) if told else 100


def room() -> int | None:
    """The columns of the terminal, or COLUMNS; None where the output goes elsewhere, and lines may be as long as they are."""
    return max(40, shutil.get_terminal_size().columns) if sys.stdout.isatty() or os.environ.get("COLUMNS") else None
