"""`tf.data.Dataset` in memory, for the loops of code written for tensorflow: the order is kept, and nothing is read ahead.

Methods and arguments as in TensorFlow's API documentation (tensorflow.org/api_docs/python/tf/data/Dataset, version 2.16).
"""

from __future__ import annotations

import contextlib
import glob
import importlib
import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch

from vaelint.loading.placeholder import Placeholder

keras: Any = importlib.import_module("keras")
_AUTOTUNE = -1


def _row(whole: Any, i: int) -> Any:
    return keras.tree.map_structure(lambda t: t[i], whole)


class _Rows(torch.utils.data.IterableDataset[Any]):
    def __init__(self, made: Callable[[], Iterator[Any]]) -> None:
        self._made = made

    def __iter__(self) -> Iterator[Any]:
        return self._made()


class Dataset(keras.utils.PyDataset):  # type: ignore[misc]
    """Elements as often as they are asked for; `fit` takes it as a data set of Keras. `count` is None for no end, or none that is known."""

    def __init__(self, made: Callable[[], Iterator[Any]], count: int | None) -> None:
        super().__init__()
        self._made, self._count, self._rows = made, count, _Rows(made)
        self._left: Iterator[Any] = iter(())

    @staticmethod
    def from_tensor_slices(tensors: Any, name: str | None = None) -> Dataset:
        """The rows of arrays."""
        whole = keras.tree.map_structure(keras.ops.convert_to_tensor, tensors)
        count = len(keras.tree.flatten(whole)[0])
        return Dataset(lambda: (_row(whole, i) for i in range(count)), count)

    @staticmethod
    def from_tensors(tensors: Any, name: str | None = None) -> Dataset:
        """One element."""
        return Dataset(lambda: iter([keras.tree.map_structure(keras.ops.convert_to_tensor, tensors)]), 1)

    @staticmethod
    def from_generator(generator: Callable[..., Any], *_: Any, args: Any = (), **__: Any) -> Dataset:
        """What a generator gives."""
        return Dataset(lambda: (keras.tree.map_structure(keras.ops.convert_to_tensor, e) for e in generator(*(args or ()))), None)

    @staticmethod
    def list_files(file_pattern: Any, *_: Any, **__: Any) -> Dataset:
        """The files of a pattern, or of several. Raises FileNotFoundError where there are none."""
        patterns = [file_pattern] if isinstance(file_pattern, str) else [str(p) for p in file_pattern]
        found = sorted(file for pattern in patterns for file in glob.glob(pattern))  # noqa: PTH207 - a pattern may be absolute
        if not found:
            raise FileNotFoundError(2, "No such file or directory", ", ".join(patterns) or "of tf.data.Dataset.list_files")
        return Dataset(lambda: iter(found), len(found))

    @staticmethod
    def range(*ends: int, **_: Any) -> Dataset:
        """Whole numbers."""
        return Dataset(lambda: map(keras.ops.convert_to_tensor, range(*ends)), len(range(*ends)))

    @staticmethod
    def zip(*datasets: Any, **_: Any) -> Dataset:
        """The elements of several, side by side."""
        several = datasets[0] if len(datasets) == 1 and isinstance(datasets[0], tuple | list) else datasets
        counts = [d._count for d in several if d._count is not None]
        return Dataset(lambda: zip(*(d._made() for d in several), strict=False), min(counts) if counts else None)

    def map(self, map_func: Callable[..., Any], *_: Any, **__: Any) -> Dataset:
        """Each element, as a function makes it."""
        return Dataset(lambda: (map_func(*e) if isinstance(e, tuple) else map_func(e) for e in self._made()), self._count)

    def filter(self, predicate: Callable[..., Any], name: str | None = None) -> Dataset:
        """The elements that a function is true of."""
        return Dataset(lambda: (e for e in self._made() if bool(predicate(*e) if isinstance(e, tuple) else predicate(e))), None)

    def batch(self, batch_size: Any, drop_remainder: bool = False, *_: Any, **__: Any) -> Dataset:
        """Several elements at once, along a new first axis."""
        size = int(batch_size)

        def made() -> Iterator[Any]:
            rows = self._made()
            while some := list(itertools.islice(rows, size)):
                if len(some) == size or not drop_remainder:
                    yield keras.tree.map_structure(lambda *parts: keras.ops.stack(parts), *some)

        return Dataset(made, None if self._count is None else self._count // size if drop_remainder else -(-self._count // size))

    def repeat(self, count: int | None = None, name: str | None = None) -> Dataset:
        """All elements, several times; without end where no number, or -1, is given."""
        if count is None or count < 0:
            return Dataset(lambda: (e for _ in itertools.count() for e in self._made()), None)
        return Dataset(
            lambda: (e for _ in itertools.repeat(None, count) for e in self._made()), None if self._count is None else self._count * count
        )

    def apply(self, transformation_func: Callable[..., Any]) -> Any:
        """What a function of the data set makes of it."""
        return transformation_func(self)

    def concatenate(self, dataset: Any, name: str | None = None) -> Dataset:
        """The elements of this one, then those of another."""
        count = None if self._count is None or dataset._count is None else self._count + dataset._count
        return Dataset(lambda: itertools.chain(self._made(), dataset._made()), count)

    def enumerate(self, start: int = 0, name: str | None = None) -> Dataset:
        """Each element with its number."""
        return Dataset(lambda: iter(zip(itertools.count(start), self._made(), strict=False)), self._count)

    def take(self, count: int, name: str | None = None) -> Dataset:
        """The first elements."""
        return Dataset(lambda: itertools.islice(self._made(), count), count if self._count is None else min(count, self._count))

    def skip(self, count: int, name: str | None = None) -> Dataset:
        """All but the first elements."""
        return Dataset(lambda: itertools.islice(self._made(), count, None), None if self._count is None else max(self._count - count, 0))

    def shuffle(self, *_: Any, **__: Any) -> Dataset:
        """The same, in the order that it has."""
        return self

    prefetch = cache = with_options = shuffle

    def as_numpy_iterator(self) -> Iterator[Any]:
        """The elements as arrays."""
        return (keras.tree.map_structure(keras.ops.convert_to_numpy, e) for e in self)

    def cardinality(self, name: str | None = None) -> int:
        """How many elements there are: -1 for no end."""
        return -1 if self._count is None else self._count

    def __iter__(self) -> Iterator[Any]:
        """By torch's loader, as any other training."""
        return iter(torch.utils.data.DataLoader(self._rows, batch_size=None))

    def __len__(self) -> int:
        if self._count is None:
            raise TypeError("the data set has no known length")
        return self._count

    @property
    def num_batches(self) -> int | None:
        """As Keras asks a data set."""
        return self._count

    def __getitem__(self, index: int) -> Any:
        """The next element, whichever Keras asks for; from the start again after the last."""
        with contextlib.suppress(StopIteration):
            return next(self._left)
        self._left = self._made()
        return next(self._left)


DATA: dict[str, Any] = {"Dataset": Dataset, "AUTOTUNE": _AUTOTUNE, "experimental": SimpleNamespace(AUTOTUNE=_AUTOTUNE)}
"""`tf.data`."""


def _nothing(*_: Any, **__: Any) -> None:
    """A setting of tensorflow's, which has no place here."""


def _none_there(*_: Any, **__: Any) -> bool:
    return False


def _no_device(*_: Any, **__: Any) -> list[Any]:
    return []


_DEVICES = {"list_physical_devices": _no_device, "list_logical_devices": _no_device, "get_visible_devices": _no_device}
_SETTINGS = dict.fromkeys(("set_memory_growth", "set_visible_devices", "run_functions_eagerly", "set_soft_device_placement"), _nothing)
CONFIG: dict[str, Any] = {
    **_DEVICES, **_SETTINGS, "experimental": SimpleNamespace(**_DEVICES, **_SETTINGS), "optimizer": SimpleNamespace(set_jit=_nothing),
    "experimental_run_functions_eagerly": _nothing,
}  # fmt: skip
"""`tf.config`: no device of tensorflow's is there, and nothing is set."""


class _Options:
    """`tf.ConfigProto` and its parts: what a session is to do with a GPU, which has no place here."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Nothing is kept."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return vars(self).setdefault(name, _Options())


class _Session:
    """`tf.Session`, which code of Keras 2 makes to hand it such options; nothing can be run in it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Nothing is opened."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Placeholder(f"tensorflow.Session.{name}")


OPTIONS: dict[str, Any] = {"ConfigProto": _Options, "GPUOptions": _Options, "Session": _Session}
"""What is told a session of tensorflow 1."""
TEST: dict[str, Any] = {"is_gpu_available": _none_there, "is_built_with_cuda": _none_there, "gpu_device_name": lambda: ""}
"""`tf.test`, as far as trainings ask it for a GPU."""
_WRITTEN = dict.fromkeys(("set_as_default", "init", "flush", "close", "add_summary", "add_graph"), _nothing)
_WRITER = SimpleNamespace(as_default=lambda *_, **__: contextlib.nullcontext(), **_WRITTEN)
SUMMARY: dict[str, Any] = {
    **dict.fromkeys(("scalar", "image", "histogram", "text", "graph", "trace_on", "trace_off", "trace_export"), _nothing),
    "create_file_writer": lambda *_, **__: _WRITER, "FileWriter": lambda *_, **__: _WRITER,
    "experimental": SimpleNamespace(set_step=_nothing),
}  # fmt: skip
"""`tf.summary`: nothing of what a training would show is written."""
