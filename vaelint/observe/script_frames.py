"""The running functions of the user's script, and what their variables hold."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Sequence
from types import FrameType

from torch import nn

from vaelint.trace.spans import SpanFinder


def frames_from(frame: FrameType | None, spans: SpanFinder) -> Iterator[FrameType]:
    """The user's frames, innermost first."""
    yield from spans.user_frames(frame, limit=16)


def frames_of(error: BaseException | None) -> list[FrameType]:
    """The frames that an exception left, innermost first."""
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)][::-1] if error is not None else []


def named_parts(parts: Sequence[nn.Module], frames: Sequence[FrameType]) -> dict[str, nn.Module]:
    """Networks by the names that the script gives them, each name once and none that modules have a use for."""
    named: dict[str, nn.Module] = {}
    for part in parts:
        name = _name_of_variable(part, frames) or type(part).__name__.lower()
        while name in named or hasattr(nn.Module, name):
            name += "_"
        named[name] = part
    return named


def _name_of_variable(value: object, frames: Iterable[FrameType]) -> str:
    """The name of a local or global variable, or of an attribute of `self`, that holds a value; empty if none does."""
    for frame in frames:
        held = [*frame.f_locals.items(), *frame.f_globals.items()]
        own = frame.f_locals.get("self")
        held += list(getattr(own, "__dict__", {}).items())
        if found := next((k for k, v in held if v is value and k.isidentifier() and k != "self"), ""):
            return found
    return ""
