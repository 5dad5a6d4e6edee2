"""`tf.shape` of a symbolic tensor outside a layer: sizes that a batch gives, and what is drawn of them. Imported only where Keras is."""

from __future__ import annotations

import importlib
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vaelint.late import dataclass

keras: Any = importlib.import_module("keras")


class Size(ABC):
    """A number that is known when a batch comes: the size of an axis, or what is computed of several."""

    @abstractmethod
    def axes(self) -> Iterator[Open]:
        """The axes that it is made of."""

    @abstractmethod
    def of(self, known: Callable[[Open], int]) -> int:
        """Its value, given that of each axis."""

    def __mul__(self, other: Any) -> Size:
        return Computed(operator.mul, self, other)

    def __rmul__(self, other: Any) -> Size:
        return Computed(operator.mul, other, self)

    def __add__(self, other: Any) -> Size:
        return Computed(operator.add, self, other)

    def __radd__(self, other: Any) -> Size:
        return Computed(operator.add, other, self)

    def __sub__(self, other: Any) -> Size:
        return Computed(operator.sub, self, other)

    def __floordiv__(self, other: Any) -> Size:
        return Computed(operator.floordiv, self, other)


@dataclass(frozen=True)
class Open(Size):
    """The size of one axis of a symbolic tensor that it does not know yet."""

    tensor: Any
    axis: int

    def axes(self) -> Iterator[Open]:
        yield self

    def of(self, known: Callable[[Open], int]) -> int:
        return known(self)


@dataclass(frozen=True)
class Computed(Size):
    """Sizes, or a size and a number, put together."""

    by: Callable[[int, int], int]
    left: Any
    right: Any

    def axes(self) -> Iterator[Open]:
        for side in (self.left, self.right):
            yield from side.axes() if isinstance(side, Size) else ()

    def of(self, known: Callable[[Open], int]) -> int:
        left, right = (side.of(known) if isinstance(side, Size) else side for side in (self.left, self.right))
        return self.by(left, right)


def sizes_of(input: Any, *_: Any, **__: Any) -> Any:
    """`tf.shape`."""
    sizes = keras.ops.shape(input)
    if isinstance(input, keras.KerasTensor):
        return tuple(Open(input, i) if n is None else n for i, n in enumerate(sizes))
    return sizes


class _AtSizes(keras.Operation):  # type: ignore[misc]
    """An operation whose sizes are partly those of symbolic tensors: a node of the model's graph."""

    def __init__(self, sizes: Sequence[Any]) -> None:
        super().__init__()
        self._sizes = tuple(sizes)
        found = [one.tensor for n in sizes if isinstance(n, Size) for one in n.axes()]
        self._tensors = list({id(t): t for t in found}.values())

    def _at(self, tensors: Sequence[Any]) -> tuple[Any, ...]:
        """The sizes that these tensors give, which stand for the symbolic ones."""
        by_tensor = dict(zip(map(id, self._tensors), tensors, strict=True))

        def known(one: Open) -> int:
            return int(keras.ops.shape(by_tensor[id(one.tensor)])[one.axis])

        return tuple(n.of(known) if isinstance(n, Size) else n for n in self._sizes)


class Sized(_AtSizes):
    """An operation on a tensor: `tf.reshape(x, [tf.shape(x)[0], 1, 8])`."""

    def __init__(self, operation: Callable[..., Any], sizes: Sequence[Any]) -> None:
        super().__init__(sizes)
        self._operation = operation

    def on(self, tensor: Any) -> Any:
        """Its result: a symbolic tensor."""
        return self([tensor, *self._tensors])

    def call(self, tensors: Sequence[Any]) -> Any:
        """The result, at the sizes that the tensors have."""
        own, *others = tensors
        return self._operation(own, self._at(others))


class Draw(_AtSizes):
    """A draw: `tf.random.normal([tf.shape(x)[0], 8])`."""

    def __init__(self, draw: Callable[..., Any], sizes: Sequence[Any], dtype: Any) -> None:
        super().__init__(sizes)
        self._draw, self._dtype = draw, dtype

    def of(self) -> Any:
        """The symbolic tensor."""
        return self(self._tensors)

    def call(self, tensors: Sequence[Any]) -> Any:
        """The draw, of the sizes that the tensors have."""
        return self._draw(self._at(tensors), dtype=self._dtype)

    def compute_output_spec(self, tensors: Sequence[Any]) -> Any:
        """Its sizes, as far as they are known."""
        return keras.KerasTensor(tuple(None if isinstance(n, Size) else n for n in self._sizes), dtype=self._dtype)
