"""What a script asks at its beginning: it gets an answer, which the report says."""

from __future__ import annotations

import builtins
import contextlib
import re
from collections.abc import Callable, Iterator

_YES = re.compile(r"\by(?:es)?\b ?[/|,] ?n(?:o)?\b|\(y\)|\[y\]", re.IGNORECASE)


@contextlib.contextmanager
def answered(note: Callable[[str], None]) -> Iterator[None]:
    """Within the block `input` answers "y" where it is asked for yes or no, else "1", the first of a choice and a number."""
    original = builtins.input

    def ask(prompt: object = "") -> str:
        answer = "y" if _YES.search(str(prompt)) else "1"
        note(f"asked {str(prompt).strip()!r}, vaelint answered {answer!r}")
        return answer

    builtins.input = ask
    try:
        yield
    finally:
        builtins.input = original
