"""Where a functional Keras model is written: each node of its graph keeps the user's call that made it. Imports no Keras by itself."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from vaelint.core.paths import user_file

Place = tuple[CodeType, int]
"""A user's code, and the instruction in it."""

_GRAPH = f"{os.sep}keras{os.sep}src{os.sep}ops{os.sep}function.py"
_SEQUENTIAL = f"{os.sep}keras{os.sep}src{os.sep}models{os.sep}sequential.py"
_KEPT = "written_at"


def keep_places() -> None:
    """Once Keras is imported: its layers keep where they are made, and the nodes of its graphs where they are called."""
    node: Any = sys.modules["keras.src.ops.node"].Node
    operation: Any = sys.modules["keras.src.ops.operation"].Operation
    if not hasattr(node.__init__, _KEPT):
        node.__init__ = _called(node.__init__)
        operation.__new__ = staticmethod(_made(operation.__new__))


def _called(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def init(self: Any, operation: Any, *args: Any, **kwargs: Any) -> None:
        original(self, operation, *args, **kwargs)
        frame, listed = sys._getframe(1), False
        while frame is not None and not user_file(frame.f_code.co_filename):
            listed = listed or frame.f_code.co_filename.endswith(_SEQUENTIAL)
            frame = frame.f_back  # type: ignore[assignment]
        # a Sequential calls all its layers whenever one is added: there it is the making of the layer that tells them apart
        made = vars(operation).get(_KEPT) if listed else None
        vars(self)[_KEPT] = made or (_place(frame) if frame is not None else None)

    setattr(init, _KEPT, True)
    return init


def _made(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def new(cls: type, *args: Any, **kwargs: Any) -> Any:
        made = original(cls, *args, **kwargs)
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not user_file(frame.f_code.co_filename):
            frame = frame.f_back
        vars(made)[_KEPT] = _place(frame) if frame is not None else None
        return made

    return new


def _place(frame: FrameType) -> Place:
    return frame.f_code, frame.f_lasti


def like(node: Any, other: Any) -> None:
    """A node that does again what another does is written where that is."""
    vars(node)[_KEPT] = vars(other).get(_KEPT)


def of_graph(frame: FrameType) -> Place | None:
    """The user's call of the layer that this frame runs as a node of a functional model; None for any other frame."""
    if frame.f_code.co_name != "_run_through_graph" or not frame.f_code.co_filename.endswith(_GRAPH):
        return None
    node = frame.f_locals.get("node")
    place: Place | None = vars(node).get(_KEPT) if node is not None else None
    return place
