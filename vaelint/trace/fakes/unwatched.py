"""The interpreter's profile hook, which is not called while torch asks its own kernels, in Python, for a shape not met before.

The first of these imports sympy and torch.distributed: with a hook at each call that takes three times as long.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Hook = Callable[[FrameType, str, Any], None]
_ours: list[Hook] = []


@contextmanager
def watched_by(hook: Hook) -> Iterator[None]:
    """Has the hook called at each call and return, and puts back the one before."""
    before = sys.getprofile()
    _ours.append(hook)
    sys.setprofile(hook)
    try:
        yield
    finally:
        sys.setprofile(before)
        _ours.pop()


@contextmanager
def unwatched() -> Iterator[None]:
    """Nothing in here is told to the hook of `watched_by`; another's, as of a profiler, stays."""
    hook = sys.getprofile()
    if hook is None or not _ours or hook is not _ours[-1]:
        yield
        return
    sys.setprofile(None)
    try:
        yield
    finally:
        sys.setprofile(hook)
