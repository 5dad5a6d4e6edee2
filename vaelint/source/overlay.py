"""Files that read as edited, for a process that checks an edit: imports, `inspect` and `open` see the new text, the disk keeps the old.

Meant for a process of its own that ends afterwards: nothing is put back. Imports no torch.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import io
import os
import sys
import tokenize
from collections.abc import Mapping
from typing import Any


def install(texts: Mapping[str, str]) -> None:
    """From now on this process reads the files named in `texts` (relative to the working directory) with the text given there."""
    contents = {os.path.realpath(name): text.encode() for name, text in texts.items()}
    if not contents:
        return
    real_open, real_open_code, real_stats = builtins.open, io.open_code, importlib.machinery.SourceFileLoader.path_stats

    def edited(file: Any) -> bytes | None:
        if not isinstance(file, str | bytes | os.PathLike):
            return None
        return contents.get(os.path.realpath(os.fsdecode(file)))

    def open_edited(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        data = edited(file) if not set(mode) & set("wax+") else None
        if data is None:
            return real_open(file, mode, *args, **kwargs)
        if "b" in mode:
            return io.BytesIO(data)
        given = dict(zip(("buffering", "encoding", "errors", "newline", "closefd", "opener"), args, strict=False)) | kwargs
        return io.TextIOWrapper(io.BytesIO(data), given.get("encoding") or "utf-8", given.get("errors"), given.get("newline"))

    def open_code_edited(path: str) -> Any:
        data = edited(path)
        return real_open_code(path) if data is None else io.BytesIO(data)

    def path_stats(self: Any, path: str) -> Any:
        if edited(path) is not None:
            raise OSError("edited: compiled code on the disk does not belong to this text")
        return real_stats(self, path)

    raw: Any = sys.modules["_io"]  # what the import system itself uses
    readers: tuple[Any, ...] = (builtins, io, raw)
    for module in readers:
        module.open = open_edited
    for module in readers[1:]:
        module.open_code = open_code_edited
    tokenize._builtin_open = open_edited  # type: ignore[attr-defined]  # taken when tokenize was imported; linecache reads through it
    importlib.machinery.SourceFileLoader.path_stats = path_stats  # type: ignore[method-assign]
