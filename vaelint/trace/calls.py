"""Calls of the user's own functions, with the recorded values that went in and came out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

import jaxtyping
import torch

from vaelint.record.record import FunctionCall
from vaelint.trace.fakes.unwatched import watched_by
from vaelint.trace.recorder import Recorder

_FUNCTION = 0x03  # CO_OPTIMIZED | CO_NEWLOCALS: a function's code, not a module's or a class body's
_DEPTH = 4


@contextmanager
def noting_calls(recorder: Recorder, calls: list[FunctionCall], wanted: Callable[[str], bool]) -> Iterator[None]:
    """The same of a step that is run to be looked at: checks of the user's own at run time would stop it at their first complaint."""
    checking = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with noting_calls_of_a_run(recorder, calls, wanted):
            yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", checking)


@contextmanager
def noting_calls_of_a_run(recorder: Recorder, calls: list[FunctionCall], wanted: Callable[[str], bool]) -> Iterator[None]:
    """Notes each call of a function of a file that `wanted` names. Uses the interpreter's profile hook, which is put back."""
    open_calls: dict[FrameType, dict[str, Any]] = {}
    of_file: dict[CodeType, bool] = {}

    def is_wanted(code: CodeType) -> bool:
        known = of_file.get(code)
        if known is None:
            known = code.co_flags & _FUNCTION == _FUNCTION and not code.co_name.startswith("<") and wanted(code.co_filename)
            of_file[code] = known
        return known

    def hook(frame: FrameType, event: str, value: Any) -> None:
        if event == "call" and is_wanted(frame.f_code):
            open_calls[frame] = {name: _nodes(frame.f_locals.get(name), recorder) for name in _parameters(frame.f_code)}
        elif event == "return" and frame in open_calls:
            given = open_calls.pop(frame)
            stack = recorder.spans.stack(frame.f_back, 1)
            code = frame.f_code
            calls.append(
                FunctionCall(
                    recorder.spans.relative(code.co_filename),
                    code.co_qualname,
                    code.co_firstlineno,
                    given,
                    _nodes(value, recorder),
                    stack[0] if stack else None,
                    frame.f_lineno,
                )
            )

    with watched_by(hook):
        yield


def _parameters(code: CodeType) -> tuple[str, ...]:
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _nodes(value: Any, recorder: Recorder, depth: int = 0) -> Any:
    """Tensors as nodes inside the tuples, lists and dicts they came in; any other value as its type's name in a `str`."""
    if isinstance(value, torch.Tensor):
        return recorder.node_for(value) or "Tensor"
    if depth < _DEPTH and type(value) in (tuple, list):
        return type(value)(_nodes(v, recorder, depth + 1) for v in value)
    if depth < _DEPTH and type(value) is dict:
        return {str(k): _nodes(v, recorder, depth + 1) for k, v in value.items()}
    return type(value).__name__
