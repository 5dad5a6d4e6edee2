"""Data sets that scikit-learn, Keras, Hugging Face, torchaudio and Pyro download: made up where that is not possible.

Sizes, types and ranges as the libraries' own pages state them.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch

from vaelint.observe.data import tensorflow_sets, torchaudio
from vaelint.observe.data.after_import import Change, changed_when_imported
from vaelint.observe.data.graphs.graph_sets import graph_sets
from vaelint.observe.data.graphs.graph_stand_in import graph_modules
from vaelint.observe.data.hub.hub_sets import hub_sets
from vaelint.observe.data.images import pillow
from vaelint.observe.data.pictures import drawn
from vaelint.observe.data.stand_ins import stood_in
from vaelint.observe.data.stood_in import instead_of, where_absent
from vaelint.observe.data.unknown.wishes import Wishes

Note = Callable[[str], None]

_DISTINCT = 256


def _numpy() -> Any:
    return importlib.import_module("numpy")


def _images(count: int, height: int, width: int, channels: int) -> Any:
    """8-bit images (N, H, W) or (N, H, W, C)."""
    pool = drawn(min(count, _DISTINCT), height, width, channels, seed=count).permute(0, 2, 3, 1).numpy()
    pool = pool[..., 0] if channels == 1 else pool
    return pool[_numpy().arange(count) % len(pool)]


def _labels(count: int, classes: int) -> Any:
    return _numpy().arange(count) * 7 % classes


def _sentences(count: int) -> list[str]:
    words = ("the film was", "a story", "of people", "who said", "that it", "is good", "is not", "in town", "and then", "left", "again")
    return [" ".join(words[(i * 3 + j * j) % len(words)] for j in range(4 + i % 9)) + "." for i in range(count)]


# --- Keras ---------------------------------------------------------------------------------------------------------------

_KERAS = {
    "mnist": (60000, 10000, 28, 28, 1, 10), "fashion_mnist": (60000, 10000, 28, 28, 1, 10), "cifar10": (50000, 10000, 32, 32, 3, 10),
    "cifar100": (50000, 10000, 32, 32, 3, 100),
}  # fmt: skip


def _keras_set(name: str, note: Note) -> Callable[..., Any]:
    train, test, height, width, channels, classes = _KERAS[name]

    def load_data(*_: Any, **__: Any) -> Any:
        note(instead_of(f"Keras' {name}", f"{train} and {test} images of {height}x{width}{f'x{channels}' * (channels > 1)}"))
        labels = [_labels(n, classes).astype("uint8") for n in (train, test)]
        labels = [y[:, None] for y in labels] if channels > 1 else labels
        return tuple((_images(n, height, width, channels), y) for n, y in zip((train, test), labels, strict=True))

    return load_data


def _keras(note: Note, data: str, prefix: str) -> dict[str, Change]:
    def change(name: str) -> Change:
        def changed(module: Any) -> None:
            module.load_data = where_absent(module.load_data, _keras_set(name, note), data)

        return changed

    return {f"{prefix}.{name}": change(name) for name in _KERAS}


def _keras_stand_in(top: str, note: Note) -> dict[str, ModuleType]:
    """The data sets of a Keras that is not installed, below `top`. Anything else of it is named."""

    def module(name: str, names: dict[str, Any]) -> ModuleType:
        made = ModuleType(name)
        made.__dict__.update(names, __path__=[])

        def missing(attribute: str) -> Any:
            if attribute.startswith("__"):
                raise AttributeError(attribute)
            raise ModuleNotFoundError(
                f"{name}.{attribute} is not stood in for: install {top.partition('.')[0]}", name=top.partition(".")[0]
            )

        made.__getattr__ = missing  # type: ignore[method-assign]
        return made

    sets = {name: module(f"{top}.datasets.{name}", {"load_data": _keras_set(name, note)}) for name in _KERAS}
    datasets = module(f"{top}.datasets", dict(sets))
    made = {
        f"{top}.datasets": datasets,
        **{f"{top}.datasets.{name}": m for name, m in sets.items()},
        top: module(top, {"datasets": datasets}),
    }
    if "." in top:
        first, _, last = top.partition(".")
        made[first] = module(first, {last: made[top]})
    return made


# --- scikit-learn --------------------------------------------------------------------------------------------------------


def _openml(note: Note, module: Any) -> Callable[..., Any]:
    def fetch(name: Any = None, *_: Any, return_X_y: bool = False, **__: Any) -> Any:  # noqa: N803 - the library's own name
        if "mnist" not in str(name).lower():
            raise FileNotFoundError(2, "OpenML cannot be reached, and this data set is not known", str(name))
        note(instead_of(f"OpenML's {name}", "70000 images of 784 numbers from 0 to 255"))
        x, y = _images(70000, 28, 28, 1).reshape(70000, 784).astype("float64"), _labels(70000, 10).astype(str).astype(object)
        return (x, y) if return_X_y else module.Bunch(data=x, target=y)

    return fetch


def _bunch(note: Note, module: Any, what: str, make: Callable[[], dict[str, Any]]) -> Callable[..., Any]:
    def fetch(*_: Any, return_X_y: bool = False, **__: Any) -> Any:  # noqa: N803 - the library's own name
        parts = what.split(": ", 1)
        note(instead_of(parts[0], parts[-1], f"made-up data instead of {what}"))
        held = make()
        return (held["data"], held["target"]) if return_X_y else module.Bunch(**held)

    return fetch


def _faces() -> dict[str, Any]:
    images = _images(400, 64, 64, 1).astype("float32") / 255
    return {"images": images, "data": images.reshape(400, -1), "target": _numpy().arange(400) // 10}


def _people() -> dict[str, Any]:
    images = _images(13233, 62, 47, 1).astype("float32") / 255
    return {
        "images": images,
        "data": images.reshape(13233, -1),
        "target": _labels(13233, 5749),
        "target_names": _numpy().arange(5749).astype(str),
    }


def _houses() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(8)
    return {
        "data": torch.rand(20640, 8, generator=generator).double().numpy() * 10,
        "target": torch.rand(20640, generator=generator).double().numpy() * 5,
    }


def _news() -> dict[str, Any]:
    return {"data": _sentences(11314), "target": _labels(11314, 20), "target_names": [f"group {i}" for i in range(20)]}


def _sklearn(note: Note, data: str) -> dict[str, Change]:
    sets: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
        "fetch_olivetti_faces": ("the Olivetti faces: 400 images of 64x64", _faces),
        "fetch_lfw_people": ("Labeled Faces in the Wild: 13233 images of 62x47", _people),
        "fetch_california_housing": ("California housing: 20640 rows of 8", _houses),
        "fetch_20newsgroups": ("20 newsgroups: 11314 texts", _news),
    }

    def changed(module: Any) -> None:
        utils = importlib.import_module("sklearn.utils")
        module.fetch_openml = where_absent(module.fetch_openml, _openml(note, utils), data)
        for name, (what, make) in sets.items():
            setattr(module, name, where_absent(getattr(module, name), _bunch(note, utils, what, make), data))

    return {"sklearn.datasets": changed}


# --- Pyro ----------------------------------------------------------------------------------------------------------------

_CHORALES, _NOTES = {"train": 229, "valid": 76, "test": 77}, 88  # J. S. Bach's, as Boulanger-Lewandowski et al. (2012) split them


def _pyro(note: Note, data: str) -> dict[str, Change]:
    def made(dataset: Any, *_: Any, **__: Any) -> Any:
        note(f"made-up data instead of {getattr(dataset, 'name', dataset)}: sequences of 0 and 1 for {_NOTES} keys")
        generator, found = torch.Generator().manual_seed(0), {}
        for split, count in _CHORALES.items():
            lengths = 8 + torch.arange(count) * 7 % 17
            held = torch.arange(int(lengths.max()))[None, :, None] < lengths[:, None, None]
            played = torch.rand(count, int(lengths.max()), _NOTES, generator=generator) < 0.05
            found[split] = {"sequence_lengths": lengths, "sequences": (played & held).float()}
        return found

    def digits(*_: Any, **__: Any) -> Any:
        note("made-up data instead of Pyro's multi_mnist: 2000 images of 50x50 with up to two digits")
        return _images(2000, 50, 50, 1), [[*range(i % 3)] for i in range(2000)]

    def music(module: Any) -> None:
        module.load_data = where_absent(module.load_data, made, data)

    def images(module: Any) -> None:
        module.load = digits  # its own takes minutes to paste them together

    return {"pyro.contrib.examples.polyphonic_data_loader": music, "pyro.contrib.examples.multi_mnist": images}


# --- together ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def library_data(data: str, note: Note, own: Callable[[str], bool] = lambda file: True, wishes: Wishes | None = None) -> Iterator[None]:
    """Within the block these libraries' data sets are made up where they are not there (`auto`), or always (`made-up`).

    Those of a Keras that is not installed are there for the files that are the script's `own`. `wishes`: what is known of unknown sets.
    """
    if data == "real":
        yield
        return
    changes: dict[str, Change] = {**_sklearn(note, data), **torchaudio.changes(note, data), **graph_sets(note, data)}
    changes |= hub_sets(note, data, wishes or Wishes())
    changes |= _pyro(note, data)
    absent: dict[str, ModuleType] = {}
    for top, prefix in (("keras", "keras"), ("tensorflow", "tensorflow.keras")):
        if top not in sys.modules and importlib.util.find_spec(top) is None:
            absent.update(_keras_stand_in(prefix, note))
    if "tensorflow" in absent and "keras" not in absent and importlib.util.find_spec(tensorflow_sets.NAME) is None:
        absent.update(tensorflow_sets.modules(note))
    absent |= torchaudio.stand_in(note) if "torchaudio" not in sys.modules and importlib.util.find_spec("torchaudio") is None else {}
    images = pillow.stand_in() if "PIL" not in sys.modules and importlib.util.find_spec("PIL") is None else {}
    graphs = "torch_geometric" not in sys.modules and importlib.util.find_spec("torch_geometric") is None
    changes |= _keras(note, data, "keras.datasets") if "keras" not in absent else {}
    changes |= _keras(note, data, "keras.src.datasets") if "keras" not in absent else {}
    with (
        changed_when_imported(changes),
        stood_in(absent, own),
        stood_in(graph_modules(note) if graphs else {}, own, note),
        stood_in(images, own, note),
    ):
        yield
