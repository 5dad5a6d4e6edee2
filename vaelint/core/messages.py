"""What user code says, cut before anything reads it: an exception may have a text of any length, and may raise when asked for it.

Imports no torch.
"""

from __future__ import annotations

import re
from typing import Any

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # as terminals take them

LONGEST = 2000  # characters: more of one message helps nobody


def message_of(error: BaseException) -> str:
    """The text of an exception, cut. For one that cannot be turned into text, the reason."""
    try:
        said = cut(_COLOURS.sub("", str(error)))
        return said or ("no memory is left, or none that --max-memory allows" if isinstance(error, MemoryError) else "")
    except Exception as second:  # noqa: BLE001 - `__str__` is user code too
        return f"its text cannot be read: __str__ raises {type(second).__name__}"


def cut(text: str) -> str:
    """A text of at most `LONGEST` characters and a word on how many more there were."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... and {len(text) - LONGEST} more characters"


def all_cut(value: Any) -> Any:
    """The same for every text in plain JSON values."""
    if isinstance(value, str):
        return cut(value)
    if isinstance(value, dict):
        return {all_cut(k): all_cut(v) for k, v in value.items()}
    return [all_cut(v) for v in value] if isinstance(value, list | tuple) else value
