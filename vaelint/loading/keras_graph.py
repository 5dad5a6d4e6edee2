"""The graph of a functional Keras model: what it computes twice, and what it gives beside its outputs. Imported only where Keras is."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

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
