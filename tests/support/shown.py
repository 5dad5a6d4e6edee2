"""Output that a guide shows, held against what is printed now."""

from __future__ import annotations

import os
import re
from pathlib import Path


def as_shown(file: Path, text: str) -> None:
    """Compares the words with the file's: numbers of a real pass differ from one torch to the next. `make update` writes it anew."""
    if os.environ.get("VAELINT_UPDATE"):
        file.write_text(text)
    assert words(file.read_text()) == words(text), "run make update"


def words(text: str) -> list[str]:
    """The words of a text, with all its numbers alike."""
    return re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "#", text).split()
