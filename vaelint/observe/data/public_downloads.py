"""Files of public data sets that a script downloads by itself: not fetched, and made up where they are read."""

from __future__ import annotations

import contextlib
import os
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import Any

from vaelint.observe.data.public_files import public_file


@contextlib.contextmanager
def public_downloads(note: Callable[[str], None]) -> Iterator[None]:
    """Within the block `urlretrieve` leaves out files whose form is known, which are made up when they are opened. `note` is told."""
    original: Any = urllib.request.urlretrieve

    def retrieved(url: str, filename: Any = None, *args: Any, **kwargs: Any) -> Any:
        path = Path(os.fsdecode(filename)) if filename is not None else Path()
        if path.exists() or public_file(path.name) is None:
            return original(url, filename, *args, **kwargs)
        note(f"held back: download {path.name}")
        return os.fsdecode(filename), Message()

    urllib.request.urlretrieve = retrieved
    try:
        yield
    finally:
        urllib.request.urlretrieve = original
