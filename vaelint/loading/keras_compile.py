"""Losses of `compile` that read tensors of the model's graph, as Keras 2 had them: they get the values of the batch.

Imported only where Keras is.
"""

from __future__ import annotations

import functools
import importlib
import types
from collections.abc import Callable, Mapping
from typing import Any

from vaelint.core.paths import user_file
from vaelint.loading.keras_graph import with_more
from vaelint.loading.keras_symbolic import read_by, reading

keras: Any = importlib.import_module("keras")


def compiling(original: Callable[..., None], note: Callable[[str], None], alone: bool) -> Callable[..., None]:
    """`compile` of Keras 2, whose losses may read tensors of the model's graph: each call of the model keeps their values for them.

    A loss that is the only one is left as it is, unless `alone`. A metric that reads them is left out: it is no part of the training.
    """

    @functools.wraps(original)
    def compile(self: Any, optimizer: Any = "rmsprop", loss: Any = None, *args: Any, **kwargs: Any) -> None:
        if isinstance(shown := kwargs.get("metrics"), list | tuple):
            kwargs["metrics"] = [m for m in shown if not (isinstance(m, types.FunctionType) and read_by(m, set()))]
        several = isinstance(loss, list | tuple | dict)
        original(self, optimizer, _with_values(self, loss, note) if several or alone else loss, *args, **kwargs)

    compile.keeps_symbols = True  # type: ignore[attr-defined]
    return compile


def _with_values(model: Any, loss: Any, note: Callable[[str], None]) -> Any:
    functions = [f for f in keras.tree.flatten(loss) if isinstance(f, types.FunctionType) and user_file(f.__code__.co_filename)]
    reads = {f: read for f in functions if (read := read_by(f, set()))}
    if not reads or not getattr(model, "outputs", None):
        return loss
    tensors = list({id(t): t for read in reads.values() for t in read.values()}.values())
    try:
        whole = with_more(model, tensors)
    except (ValueError, KeyError):
        return loss  # tensors of another graph
    values: dict[int, Any] = {}
    count, structure = len(model.outputs), model._outputs_struct

    def call(inputs: Any, training: Any = None, mask: Any = None, **_: Any) -> Any:
        given = whole(inputs, training=training)
        values.update(zip(map(id, tensors), given[count:], strict=True))
        return keras.tree.pack_sequence_as(structure, given[:count])

    vars(model)["call"] = call
    for function, read in reads.items():
        note(f"{function.__name__} reads {', '.join(read)} of the graph, which Keras 3 refuses: it is given their values")
    return keras.tree.map_structure(lambda f: _given(f, reads[f], values) if isinstance(f, types.FunctionType) and f in reads else f, loss)


def _given(loss: types.FunctionType, read: Mapping[str, Any], values: Mapping[int, Any]) -> Callable[[Any, Any], Any]:
    @functools.wraps(loss)
    def with_values(y_true: Any, y_pred: Any) -> Any:
        if not values or getattr(y_pred, "is_meta", False):  # Keras asks for shapes alone, before the first batch
            return keras.ops.mean(y_pred, axis=tuple(range(1, len(y_pred.shape))))
        return reading(loss, **{name: values[id(tensor)] for name, tensor in read.items()})(y_true, y_pred)

    return with_values
