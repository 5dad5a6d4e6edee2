"""The graph of a functional Keras model: what it computes twice, and what it gives beside its outputs. Imported only where Keras is."""

from __future__ import annotations

import contextlib
import functools
import importlib
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vaelint.core.paths import user_file
from vaelint.loading.keras_symbolic import read_by, reading
from vaelint.trace import keras_places

keras: Any = importlib.import_module("keras")


def with_more(model: Any, wanted: Sequence[Any]) -> Any:
    """A model of the same layers that gives `wanted`, tensors of its graph or of a model within it, after its outputs.

    A model that is called on its own inputs is taken apart: `decoder(encoder(inputs)[2])` has the mean that `encoder` has, and draws once.
    Raises ValueError or KeyError for tensors of another graph.
    """
    known: dict[int, Any] = {}
    return keras.Model(model.inputs, [_again(tensor, known) for tensor in (*model.outputs, *wanted)])


def _again(tensor: Any, known: dict[int, Any]) -> Any:
    """A symbolic tensor, made of what the parts of models that are taken apart give."""
    if id(tensor) in known:
        return known[id(tensor)]
    operation, index, place = tensor._keras_history
    node = operation._inbound_nodes[index]
    if node.is_input:
        return known.setdefault(id(tensor), tensor)
    given = [_again(t, known) for t in node.input_tensors]
    if getattr(operation, "inputs", None) and [id(t) for t in given] == [id(t) for t in operation.inputs]:
        made = [_again(t, known) for t in operation.outputs]
    elif all(one is other for one, other in zip(given, node.input_tensors, strict=True)):
        made = node.output_tensors
    else:
        other = {id(t): new for t, new in zip(node.input_tensors, given, strict=True)}
        arguments = keras.tree.map_structure(lambda value: other.get(id(value), value), (node.arguments.args, node.arguments.kwargs))
        made = keras.tree.flatten(operation(*arguments[0], **arguments[1]))
        keras_places.like(operation._inbound_nodes[-1], node)
    known.update((id(t), new) for t, new in zip(node.output_tensors, made, strict=True))
    return made[place]


def adding(original: Callable[..., Any]) -> Callable[..., Any]:
    """`add_loss` of Keras 2, which takes tensors of the model's graph as well: they are kept, and each call of the model adds them."""

    def add_loss(self: Any, loss: Any, *_: Any, **__: Any) -> None:
        symbols = [part for part in keras.tree.flatten(loss) if isinstance(part, keras.KerasTensor)]
        if not symbols:
            original(self, loss)
            return
        kept = vars(self).setdefault("symbolic_losses", [])
        kept.extend(symbols)
        if getattr(self, "outputs", None):
            vars(self)["call"] = _calling(self, with_more(self, kept), original)

    add_loss.keeps_symbols = True  # type: ignore[attr-defined]
    return add_loss


def _calling(model: Any, whole: Any, add: Callable[..., Any]) -> Callable[..., Any]:
    count, structure = len(model.outputs), model._outputs_struct

    def call(inputs: Any, training: Any = None, mask: Any = None, **_: Any) -> Any:
        given = whole(inputs, training=training)
        for loss in given[count:]:
            add(model, loss)
        return keras.tree.pack_sequence_as(structure, given[:count])

    return call


def taking(original: Callable[..., Any], note: Callable[[str], None]) -> Callable[..., Any]:
    """`Lambda.__call__` of Keras 1 and 2, whose function may read tensors of the graph from outside: they become inputs of the layer."""

    def call(self: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if not any(isinstance(part, keras.KerasTensor) for part in keras.tree.flatten(inputs)):
            return original(self, inputs, *args, **kwargs)
        if "read_outside" not in vars(self):
            own = self.function
            vars(self)["read_outside"] = read = read_by(own, set()) if isinstance(own, types.FunctionType) else {}
            if read:
                self.function = _with_inputs(own, tuple(read))
                note(f"{own.__name__} reads {', '.join(read)} of the graph, which a Lambda of Keras 3 refuses: it is given their values")
        more = list(self.read_outside.values())
        return original(self, [inputs, *more] if more else inputs, *args, **kwargs)

    return call


def _with_inputs(function: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    def of_all(given: Sequence[Any], **kwargs: Any) -> Any:
        own, *more = given
        return reading(function, **dict(zip(names, more, strict=True)))(own, **kwargs)

    return of_all


def taking_more(original: Callable[..., Any], note: Callable[[str], None]) -> Callable[..., Any]:
    """`Layer.__call__` of Keras 1 and 2, by which a layer also gets the tensors of the graph that its methods read from outside."""

    @functools.wraps(original)
    def call_layer(self: Any, *args: Any, **kwargs: Any) -> Any:
        kind: Any = type(self)
        own = _own_functions(kind)
        if not own or not args:
            return original(self, *args, **kwargs)
        if vars(self).get("read_outside"):
            vars(self)["call"] = _with_values(self, own)  # of a copy as well
        if not any(isinstance(part, keras.KerasTensor) for part in keras.tree.flatten(args[0])):
            return original(self, *args, **kwargs)
        if "read_outside" not in vars(self):
            read: dict[str, Any] = {}
            for function in own:
                read |= read_by(function, set())
            vars(self)["read_outside"] = read
            if read:
                vars(self)["call"] = _with_values(self, own)
                note(f"{kind.__name__} reads {', '.join(read)} of the graph, which Keras 3 refuses: it is given their values")
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


def _with_values(layer: Any, functions: Sequence[types.FunctionType]) -> Callable[..., Any]:
    """The layer's own `call`, which gets the values of what its methods read after its inputs."""
    own, names = type(layer).call, tuple(layer.read_outside)

    @functools.wraps(own)
    def call(given: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        inputs, *more = given
        with contextlib.ExitStack() as stack:
            for function in functions:
                stack.enter_context(_reading(function, dict(zip(names, more, strict=True))))
            return own(layer, inputs, *args, **kwargs)

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
