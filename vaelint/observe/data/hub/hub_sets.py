"""What `datasets.load_dataset` brings from the hub: made up where that is not possible. Files of the script's own are read as they are.

Well-known sets have their shapes, as their pages state them; of others the columns that the script's files name, by what they are called.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vaelint.observe.data.after_import import Change
from vaelint.observe.data.known import KNOWN
from vaelint.observe.data.made_tables import LABEL, WORDS, named_columns
from vaelint.observe.data.pictures import as_picture, drawn
from vaelint.observe.data.public_files import molecule, sentence
from vaelint.observe.data.stood_in import instead_of, where_absent
from vaelint.observe.data.unknown.wishes import Wishes

_SETS = {
    "mnist": ("MNIST", "label"), "fashion_mnist": ("FashionMNIST", "label"), "fashion-mnist": ("FashionMNIST", "label"),
    "cifar10": ("CIFAR10", "label"), "cifar100": ("CIFAR100", "fine_label"), "svhn": ("SVHN", "label"), "celeba": ("CelebA", "celeb_id"),
    "celeba-faces": ("CelebA", ""),
}  # fmt: skip
_TEXTS = {"wikitext": "text", "ptb_text_only": "sentence", "imdb": "text", "ag_news": "text", "yelp_polarity": "text", "snli": "premise"}
_ROWS = 512  # that are made up: each is an object of its own
_LINES = 4000  # where they hold no images
_SIZE = 64  # of images that no page tells of
_IMAGE = re.compile(r"^(?:image|img|picture|photo|jpg|jpeg|png|pixel_?values?)s?$|_(?:image|img)$", re.IGNORECASE)
_MOLECULE = re.compile(r"smiles", re.IGNORECASE)

Columns = dict[str, list[Any]]


def hub_sets(note: Callable[[str], None], data: str, wishes: Wishes) -> dict[str, Change]:
    """What changes when `datasets` is imported. `wishes`: the text of the script's files, and the columns that an earlier run lacked."""

    def changed(module: Any) -> None:
        def made(path: str, name: Any = None, *_: Any, split: Any = None, streaming: bool = False, **__: Any) -> Any:
            columns, images, said = _columns(path, wishes)
            note(instead_of(f"the hub's {path}", f"{len(next(iter(columns.values())))} {said}"))
            features = _features(module, columns, images)
            splits = {k: module.Dataset.from_dict(columns, **features) for k in ("train", "validation", "test")}
            splits = {k: v.to_iterable_dataset() for k, v in splits.items()} if streaming else splits
            if split is None:
                return (module.IterableDatasetDict if streaming else module.DatasetDict)(splits)
            return splits.get(re.split(r"[\[+]", str(split))[0], splits["train"])

        if hasattr(module, "load_dataset"):  # else a package of the repository has that name
            module.load_dataset = _of_files(module.load_dataset, where_absent(module.load_dataset, made, data))

    return {"datasets": changed}


def _of_files(original: Callable[..., Any], of_hub: Callable[..., Any]) -> Callable[..., Any]:
    """Files of one's own are loaded as they are, past the library's cache, where nothing may be written."""

    def load(path: str, *args: Any, **kwargs: Any) -> Any:
        told = "/" not in path and (kwargs.get("data_files") is not None or kwargs.get("data_dir") is not None)
        if not told and not Path(path).exists():
            return of_hub(path, *args, **kwargs)
        return original(path, *args, **{**kwargs, "cache_dir": tempfile.mkdtemp()})

    return load


def _columns(path: str, wishes: Wishes) -> tuple[Columns, list[str], str]:
    """The columns of a set, which of them hold images, and what that is in words. Raises FileNotFoundError where nothing tells."""
    short = path.rpartition("/")[2].lower()
    if short in _SETS:
        name, label = _SETS[short]
        known, key = KNOWN[name], "img" if short.startswith("cifar") else "image"
        columns: Columns = {key: _pictures(known.channels, known.height, known.width)}
        if label:
            columns[label] = _labels(max(len(known.classes), 1))
        return columns, [key], f"images of {known.channels}x{known.height}x{known.width}"
    if short in _TEXTS:
        return {_TEXTS[short]: [sentence(i) for i in range(_LINES)], "label": _labels(2, _LINES)}, [], "texts"
    columns = _unknown(wishes)
    if not columns:
        raise FileNotFoundError(2, "the hub cannot be reached, and this data set is not known", path)
    wishes.tables = True  # a column that is not among them is asked for by the error
    images = [name for name in columns if _IMAGE.search(name)]
    return columns, images, f"rows of {', '.join(columns)}"


def _unknown(wishes: Wishes) -> Columns:
    """Columns that are called as columns of data sets are, and those that were asked for."""
    named = list(dict.fromkeys([*named_columns(wishes.code()), *wishes.columns]))
    rows = _ROWS if any(_IMAGE.search(name) for name in named) else _LINES
    columns: Columns = {}
    for name in named:
        if _IMAGE.search(name):
            columns[name] = _pictures(3, _SIZE, _SIZE)
        elif _MOLECULE.search(name):
            columns[name] = [molecule(i) for i in range(rows)]
        elif WORDS.search(name) or name in wishes.words:
            columns[name] = [sentence(i) for i in range(rows)]
        elif LABEL.search(name):
            columns[name] = _labels(10, rows)
        elif name in wishes.columns:
            columns[name] = torch.rand(rows, generator=torch.Generator().manual_seed(len(name))).tolist()
    return columns


def _features(module: Any, columns: Columns, images: list[str]) -> dict[str, Any]:
    if not images:
        return {}
    other = {k: module.Value({str: "string", float: "float32"}.get(type(v[0]), "int64")) for k, v in columns.items() if k not in images}
    return {"features": module.Features({**{k: module.Image() for k in images}, **other})}


def _pictures(channels: int, height: int, width: int) -> list[Any]:
    return [as_picture(image) for image in drawn(_ROWS, channels=channels, height=height, width=width, seed=_ROWS)]


def _labels(classes: int, rows: int = _ROWS) -> list[int]:
    return [i * 7 % classes for i in range(rows)]
