"""Losses that read Keras' symbolic tensors: in a training they hold no values of a batch."""

from __future__ import annotations

import dis
import importlib
import inspect
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from vaelint.core.finding import Span
from vaelint.core.paths import relative, user_file
from vaelint.late import dataclass
from vaelint.trace.keras_models import is_keras


@dataclass(frozen=True)
class Symbolic:
    """A loss of `compile` that needs more than targets and outputs: the names it reads, and where it reads the first.

    With `as_arguments` they are arguments that nothing gives it; else names from outside, which are symbolic. `outputs` counts those of
    the model.
    """

    loss: Callable[..., Any] | None
    names: tuple[str, ...]
    as_arguments: bool
    place: Span
    outputs: int
    added: int = 0  # how many of the names are what `add_loss` got, of a Keras that takes symbols there: nothing is wrong then


def extended(model: Any, namespace: Mapping[str, Any]) -> tuple[nn.Module, Symbolic | None]:
    """A model that gives the symbolic tensors which its loss reads beside its outputs; the model itself where the loss reads none."""
    loss: Any = getattr(model, "loss", None)
    keras: Any
    if (added := vars(model).get("symbolic_losses")) and getattr(model, "inputs", None):
        keras = sys.modules["keras"]
        given: nn.Module = _graph().with_more(model, added)
        names = ("added",) if len(added) == 1 else tuple(f"added{i + 1}" for i in range(len(added)))
        return given, Symbolic(
            keras.losses.get(loss) if loss is not None else None, names, False, Span("", 1), len(model.outputs), len(added)
        )
    if not is_keras(model) or not getattr(model, "inputs", None) or not isinstance(loss, types.FunctionType):
        return model, None
    if not user_file(loss.__code__.co_filename):
        return model, None
    keras = sys.modules["keras"]
    more = [p.name for p in list(inspect.signature(loss).parameters.values())[2:] if p.default is p.empty and p.kind != p.VAR_KEYWORD]
    read = read_by(loss, set())
    missing = {name: namespace.get(name) for name in more}
    if more and not all(isinstance(v, keras.KerasTensor) for v in missing.values()):
        return model, None
    wanted = missing or read
    if not wanted:
        return model, None
    outputs = list(model.outputs)
    try:
        made: nn.Module = _graph().with_more(model, list(wanted.values()))
    except (ValueError, KeyError):
        return model, None  # tensors of another graph
    place = _definition(loss) if missing else _first_read(loss, frozenset(read))
    return made, Symbolic(loss, tuple(wanted), bool(missing), place, len(outputs))


def read_by(function: types.FunctionType, seen: set[types.CodeType]) -> dict[str, Any]:
    """The symbolic tensors that a function, or one of the user's that it calls, reads from outside."""
    seen.add(function.__code__)
    around = inspect.getclosurevars(function)
    read: dict[str, Any] = {}
    for name, value in {**around.globals, **around.nonlocals}.items():
        if isinstance(value, sys.modules["keras"].KerasTensor):
            read[name] = value
        elif isinstance(value, types.FunctionType) and value.__code__ not in seen and user_file(value.__code__.co_filename):
            read |= read_by(value, seen)
    return read


def _graph() -> Any:
    return importlib.import_module("vaelint.loading.keras_graph")  # which imports Keras


def _definition(function: types.FunctionType) -> Span:
    return Span(relative(function.__code__.co_filename), function.__code__.co_firstlineno)


def _first_read(function: types.FunctionType, names: frozenset[str]) -> Span:
    """Where a function, or one that it calls, reads the first of some names from outside."""
    around = inspect.getclosurevars(function)
    inner = [v for v in (*around.nonlocals.values(), *around.globals.values()) if isinstance(v, types.FunctionType) and v is not function]
    if not names & {*around.nonlocals, *around.globals}:
        reading = next((f for f in inner if user_file(f.__code__.co_filename) and names & read_by(f, {function.__code__}).keys()), None)
        return _first_read(reading, names) if reading is not None else _definition(function)
    for step in dis.get_instructions(function):
        at = step.positions
        if step.opname.startswith("LOAD_") and step.argval in names and at is not None and at.lineno is not None:
            file = relative(function.__code__.co_filename)
            return Span(file, at.lineno, (at.col_offset or 0) + 1, at.end_lineno, (at.end_col_offset or 0) + 1)
    return _definition(function)


def reading(loss: Callable[..., Any], **values: Any) -> Callable[..., Any]:
    """A function of the user's that reads these values in the place of the names it has from outside, as do the functions it calls."""
    assert isinstance(loss, types.FunctionType)
    outside: dict[str, Any] = {**loss.__globals__, **values}
    cells = [
        types.CellType(values[name]) if name in values else _cell(cell, values)
        for name, cell in zip(loss.__code__.co_freevars, loss.__closure__ or (), strict=True)
    ]
    for name in loss.__code__.co_names:
        called = loss.__globals__.get(name)
        if isinstance(called, types.FunctionType) and called is not loss and _reads(called, values):
            outside[name] = reading(called, **values)
    return types.FunctionType(loss.__code__, outside, loss.__name__, loss.__defaults__, tuple(cells))


def _cell(cell: types.CellType, values: dict[str, Any]) -> types.CellType:
    inner = cell.cell_contents
    return types.CellType(reading(inner, **values)) if isinstance(inner, types.FunctionType) and _reads(inner, values) else cell


def _reads(function: types.FunctionType, values: dict[str, Any]) -> bool:
    """Whether a function itself reads one of these names from outside, or one in a cell of it does."""
    code = function.__code__
    inner = [c.cell_contents for c in function.__closure__ or ()]
    called = any(isinstance(f, types.FunctionType) and f.__code__ is not code and _reads(f, values) for f in inner)
    return called or bool({*code.co_freevars, *code.co_names} & values.keys())
