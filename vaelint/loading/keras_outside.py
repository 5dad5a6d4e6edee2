"""Layers of Keras 1 and 2 whose methods read tensors of the graph from outside: they become inputs. Imported only where Keras is."""

from __future__ import annotations

import contextlib
import functools
import importlib
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vaelint.core.paths import user_file
from vaelint.loading.keras_symbolic import read_by

keras: Any = importlib.import_module("keras")


def taking_more(original: Callable[..., Any], note: Callable[[str], None]) -> Callable[..., Any]:
    """`Layer.__call__`, by which a layer of the user's is also given the tensors of the graph that its methods read from outside."""

    @functools.wraps(original)
    def call_layer(self: Any, *args: Any, **kwargs: Any) -> Any:
        kind: Any = type(self)
        own = _own_functions(kind)
        if not own or not args or not any(isinstance(part, keras.KerasTensor) for part in keras.tree.flatten(args[0])):
            return original(self, *args, **kwargs)
        if "read_outside" not in vars(self):
            read: dict[str, Any] = {}
            for function in own:
                read |= read_by(function, set())
            vars(self)["read_outside"] = read
            if read:
                vars(self)["call"] = _with_values(self, own, tuple(read))
                note(f"{type(self).__name__} reads {', '.join(read)} of the graph, which Keras 3 refuses: it is given their values")
        more = list(self.read_outside.values())
        return original(self, [args[0], *more] if more else args[0], *args[1:], **kwargs)

    return call_layer


@functools.cache
def _own_functions(kind: type) -> tuple[types.FunctionType, ...]:
    """The methods of a layer's class that the user wrote, if its `call` is one of them."""
    found = [
        f
        for base in getattr(kind, "__mro__", ())
        for f in vars(base).values()
        if isinstance(f, types.FunctionType) and user_file(f.__code__.co_filename)
    ]
    return tuple(found) if any(f.__name__ == "call" for f in found) else ()


def _with_values(layer: Any, functions: Sequence[types.FunctionType], names: Sequence[str]) -> Callable[..., Any]:
    own = layer.call

    @functools.wraps(own)
    def call(given: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        inputs, *more = given
        with contextlib.ExitStack() as stack:
            for function in functions:
                stack.enter_context(_reading(function, dict(zip(names, more, strict=True))))
            return own(inputs, *args, **kwargs)

    return call


@contextlib.contextmanager
def _reading(function: types.FunctionType, values: Mapping[str, Any]) -> Iterator[None]:
    """Within the block the names that a function has from outside stand for these values."""
    outside = {n: function.__globals__[n] for n in values if n in function.__globals__}
    cells = [(c, c.cell_contents, n) for n, c in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True) if n in values]
    function.__globals__.update({n: values[n] for n in outside})
    for cell, _, name in cells:
        cell.cell_contents = values[name]
    try:
        yield
    finally:
        function.__globals__.update(outside)
        for cell, before, _ in cells:
            cell.cell_contents = before
