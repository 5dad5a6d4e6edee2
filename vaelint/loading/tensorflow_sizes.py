"""`tf.shape` of a symbolic tensor outside a layer: sizes that a batch gives, and what is drawn of them. Imported only where Keras is."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from vaelint.late import dataclass

keras: Any = importlib.import_module("keras")


@dataclass(frozen=True)
class Open:
    """The size of one axis of a symbolic tensor that it does not know yet."""

    tensor: Any
    axis: int


def sizes_of(input: Any, *_: Any, **__: Any) -> Any:
    """`tf.shape`."""
    sizes = keras.ops.shape(input)
    if isinstance(input, keras.KerasTensor):
        return tuple(Open(input, i) if n is None else n for i, n in enumerate(sizes))
    return sizes


class Draw(keras.Operation):  # type: ignore[misc]
    """A draw whose sizes are partly those of symbolic tensors: a node of the model's graph."""

    def __init__(self, draw: Callable[..., Any], sizes: Sequence[Any], dtype: Any) -> None:
        super().__init__()
        self._draw, self._dtype = draw, dtype
        self._tensors = list({id(n.tensor): n.tensor for n in sizes if isinstance(n, Open)}.values())
        places = {id(t): i for i, t in enumerate(self._tensors)}
        self._sizes = [(places[id(n.tensor)], n.axis) if isinstance(n, Open) else n for n in sizes]

    def of(self) -> Any:
        """The symbolic tensor."""
        return self(self._tensors)

    def call(self, tensors: Sequence[Any]) -> Any:
        """The draw, of the sizes that the tensors have."""
        sizes = tuple(keras.ops.shape(tensors[n[0]])[n[1]] if isinstance(n, tuple) else n for n in self._sizes)
        return self._draw(sizes, dtype=self._dtype)

    def compute_output_spec(self, tensors: Sequence[Any]) -> Any:
        """Its sizes, as far as they are known."""
        return keras.KerasTensor(tuple(None if isinstance(n, tuple) else n for n in self._sizes), dtype=self._dtype)
