"""Readers in native code, which would not see files that were made up: they get the bytes that the script's own `open` gives."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from vaelint.observe.data.after_import import changed_when_imported


@contextlib.contextmanager
def native_readers() -> Iterator[None]:
    """Within the block `cv2.imread` reads where `open` does."""
    with changed_when_imported({"cv2": _images}):
        yield


def _images(module: ModuleType) -> None:
    if "imdecode" not in module.__dict__:
        return  # what is lent in the place of an OpenCV that is not installed
    decode, plain = module.__dict__["imdecode"], module.__dict__["IMREAD_COLOR"]

    def imread(filename: Any, flags: int = plain) -> Any:
        """The image as an array (H, W, C); None where it cannot be read, as OpenCV has it."""
        try:
            with open(filename, "rb") as file:  # noqa: PTH123 - the script's own `open` is what finds files that were made up
                data = file.read()
        except OSError:
            return None
        return decode(importlib.import_module("numpy").frombuffer(data, dtype="uint8"), flags)

    module.__dict__["imread"] = imread
