"""Whether a folder was left as it was, and whether the kernel can see to that."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file and folder below, with what is in it and when it was changed."""
    found = [folder, *folder.rglob("*")]
    return {p.as_posix(): (p.read_bytes() if p.is_file() else b"", p.stat().st_mtime_ns) for p in found}


def held_by_kernel() -> bool:
    """Whether this kernel has Landlock."""
    if sys.platform != "linux":
        return False
    version: int = ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    return version >= 1
