"""The graph of a functional Keras model: what it computes twice, and what it gives beside its outputs. Imported only where Keras is."""

from __future__ import annotations

import importlib
import types
from collections.abc import Callable, Sequence
from typing import Any

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
