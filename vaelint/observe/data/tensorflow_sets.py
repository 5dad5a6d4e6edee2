"""tensorflow-datasets where it is not installed and Keras stands in for tensorflow: public image sets, made up.

Sizes, types and names as the catalogue states them (tensorflow.org/datasets/catalog); splits as in tensorflow.org/datasets/splits.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

from vaelint.observe.data.pictures import drawn
from vaelint.observe.data.stood_in import instead_of

NAME = "tensorflow_datasets"
_DISTINCT = 256
_GREY, _COLOURS = (28, 28, 1), (32, 32, 3)
_MNIST = {"train": 60000, "test": 10000}
_SETS: dict[str, tuple[tuple[int, int, int], dict[str, int], dict[str, int]]] = {
    "mnist": (_GREY, _MNIST, {"label": 10}),
    "fashion_mnist": (_GREY, _MNIST, {"label": 10}),
    "kmnist": (_GREY, _MNIST, {"label": 10}),
    "emnist": (_GREY, {"train": 697932, "test": 116323}, {"label": 62}),
    "emnist/balanced": (_GREY, {"train": 112800, "test": 18800}, {"label": 47}),
    "emnist/letters": (_GREY, {"train": 88800, "test": 14800}, {"label": 37}),
    "emnist/digits": (_GREY, {"train": 240000, "test": 40000}, {"label": 10}),
    "binarized_mnist": (_GREY, {"train": 50000, "validation": 10000, "test": 10000}, {}),
    "cifar10": (_COLOURS, {"train": 50000, "test": 10000}, {"label": 10}),
    "cifar100": (_COLOURS, {"train": 50000, "test": 10000}, {"label": 100, "coarse_label": 20}),
    "svhn_cropped": (_COLOURS, {"train": 73257, "test": 26032, "extra": 531131}, {"label": 10}),
    "celeb_a": ((218, 178, 3), {"train": 162770, "validation": 19867, "test": 19962}, {}),
}
"""Size of an image, number of them in each split, classes of each label."""

_PART = re.compile(r"(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?")


def _count_in(count: int, split: str) -> int:
    """How many images a part like `train[10%:]` has. Raises ValueError for one that is not written so."""

    def place(end: str | None, default: int) -> int:
        if not end:
            return default
        at = round(count * int(end[:-1]) / 100) if end.endswith("%") else int(end)
        return min(max(at + count if at < 0 else at, 0), count)

    part = _PART.fullmatch(split)
    if part is None:
        raise ValueError(f"{split!r} is not a split of tensorflow-datasets")
    return max(place(part[3], count) - place(part[2], 0), 0)


class _Builder:
    """A data set by its name, as `tfds.builder` gives it. Raises FileNotFoundError for one that is not made up here."""

    def __init__(self, name: str, note: Callable[[str], None]) -> None:
        self.name = name.partition(":")[0].lower()
        if self.name not in _SETS:
            raise FileNotFoundError(2, "tensorflow-datasets is not installed, and this data set is not made up", name)
        (self._height, self._width, self._channels), self._splits, self._labels = _SETS[self.name]
        shape = f"{self._height}x{self._width}x{self._channels}"
        note(instead_of(f"tensorflow-datasets' {name}", f"{self._splits['train']} training images of {shape}"))
        self._keras: Any = importlib.import_module("keras")

    @property
    def info(self) -> Any:
        """What is asked of `ds_info`: sizes, classes and counts."""
        features = {"image": SimpleNamespace(shape=(self._height, self._width, self._channels), dtype="uint8")}
        for label, classes in self._labels.items():
            features[label] = SimpleNamespace(num_classes=classes, names=[str(i) for i in range(classes)], shape=(), dtype="int64")
        counts = {split: SimpleNamespace(num_examples=count) for split, count in self._splits.items()}
        return SimpleNamespace(name=self.name, full_name=self.name, features=features, splits=counts)

    def download_and_prepare(self, *_: Any, **__: Any) -> None:
        """Nothing is downloaded."""

    def as_dataset(self, split: Any = None, batch_size: int | None = None, as_supervised: bool = False, **_: Any) -> Any:
        """One split, or all by their names, or those of a list. Raises ValueError where there is no such split."""
        if split is None:
            return {name: self.as_dataset(name, batch_size, as_supervised) for name in self._splits}
        if isinstance(split, list | tuple):
            return [self.as_dataset(name, batch_size, as_supervised) for name in split]
        count = 0
        for part in str(split).split("+"):
            name = part.partition("[")[0].strip()
            if name != "all" and name not in self._splits:
                raise ValueError(f"{self.name} has no split {part!r}: it has {', '.join(self._splits)}")
            count += _count_in(sum(self._splits.values()) if name == "all" else self._splits[name], part.strip())
        return self._made(count, batch_size, as_supervised)

    def _made(self, count: int, batch_size: int | None, as_supervised: bool) -> Any:
        dataset: Any = importlib.import_module("vaelint.loading.tensorflow_data").Dataset
        ops = self._keras.ops
        pool = drawn(min(count, _DISTINCT), self._height, self._width, self._channels, seed=count).permute(0, 2, 3, 1)
        pool = (pool > 127).to(pool.dtype) if self.name == "binarized_mnist" else pool

        def row(i: int) -> Any:
            labels = [(i * 7 + i // classes) % classes for classes in self._labels.values()]
            if as_supervised:
                return (pool[i % len(pool)], *(ops.convert_to_tensor(n, dtype="int64") for n in labels[:1]))
            named = zip(self._labels, labels, strict=True)
            return {"image": pool[i % len(pool)], **{name: ops.convert_to_tensor(n, dtype="int64") for name, n in named}}

        rows = dataset(lambda: map(row, range(count)), count)
        return rows if batch_size is None else next(iter(rows.batch(count))) if batch_size == -1 else rows.batch(batch_size)


def modules(note: Callable[[str], None]) -> Mapping[str, ModuleType]:
    """The package, to be imported by the script alone. What it lacks is named."""
    made = ModuleType(NAME)

    def load(name: str, split: Any = None, *, batch_size: int | None = None, as_supervised: bool = False, **more: Any) -> Any:
        builder = _Builder(name, note)
        given = builder.as_dataset(split, batch_size, as_supervised)
        return (given, builder.info) if more.get("with_info") else given

    def as_numpy(dataset: Any) -> Any:
        keras: Any = importlib.import_module("keras")
        rows = getattr(dataset, "as_numpy_iterator", None)
        return rows() if rows is not None else keras.tree.map_structure(keras.ops.convert_to_numpy, dataset)

    def missing(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise ModuleNotFoundError(f"{NAME}.{attribute} is not stood in for: install {NAME}", name=NAME)

    splits = SimpleNamespace(TRAIN="train", TEST="test", VALIDATION="validation", ALL="all")
    made.__dict__.update(
        __path__=[], load=load, builder=lambda name, **_: _Builder(name, note), as_numpy=as_numpy, Split=splits,
        list_builders=lambda: sorted(_SETS), disable_progress_bar=lambda: None, enable_progress_bar=lambda: None, __getattr__=missing,
    )  # fmt: skip
    return {NAME: made}
