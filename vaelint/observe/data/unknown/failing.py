"""Where a script failed, and what was at hand there."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch

from vaelint.observe.data.unknown.wishes import Node, Wishes

SEEN = 12  # frames


def frames_of(error: BaseException) -> list[FrameType]:
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def line_of(error: BaseException) -> str:
    """The line of the script, or of what it called last, that failed."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "site-packages" not in f.filename and f.line]
    return (own or frames)[-1].line or "" if frames else ""


def values_at(error: BaseException) -> Iterator[Any]:
    for frame in frames_of(error)[-SEEN:]:
        for value in list(frame.f_locals.values()):
            yield value
            if isinstance(value, list | tuple):
                yield from value[:8]
            elif isinstance(value, dict):
                yield from list(value.values())[:16]


def held_at(error: BaseException, kind: type) -> list[Any]:
    return [v for v in values_at(error) if isinstance(v, kind)]


def tensors_at(error: BaseException) -> list[torch.Tensor]:
    """The tensors, and arrays, that were at hand."""
    found: list[torch.Tensor] = []
    for value in values_at(error):
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif type(value).__module__ == "numpy" and getattr(getattr(value, "dtype", None), "kind", "O") != "O":
            found.append(torch.empty(value.shape, device="meta"))
    return found


def arrays_of(wishes: Wishes) -> list[Node]:
    return [n for key in wishes.used if key in wishes.files for n in wishes.files[key].walk() if n.kind == "array"]
