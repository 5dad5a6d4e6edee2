"""Files of public data sets, by their names: made up with the shapes, types and ranges that their own pages state."""

from __future__ import annotations

import gzip
import importlib
import pickle
import re
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from vaelint.late import dataclass
from vaelint.observe.data.pictures import drawn

_DISTINCT = 256
_WORDS = ("the", "of", "a", "company", "said", "in", "shares", "<unk>", "N", "rose", "market", "year", "to", "for", "new", "old", "bank")


def _numpy() -> Any:
    import numpy

    return numpy


def _images(count: int, size: int = 28) -> Any:
    """`count` grey images (N, H, W) of 8-bit values; few of them are drawn, and come again."""
    pool = drawn(min(count, _DISTINCT), size, size, 1, seed=count)[:, 0].numpy()
    return pool[_numpy().arange(count) % len(pool)]


def _labels(count: int, classes: int = 10) -> Any:
    return _numpy().arange(count) * 7 % classes


def _dsprites(file: Any) -> str:
    np, count = _numpy(), 4096
    sizes = np.array([1, 3, 6, 40, 32, 32])
    classes = np.stack([np.arange(count) * (k + 1) % n for k, n in enumerate(sizes)], axis=1)
    metadata = np.array({"latents_sizes": sizes, "latents_names": ("color", "shape", "scale", "orientation", "posX", "posY")}, dtype=object)
    values = classes / np.maximum(sizes - 1, 1)
    images = (_images(count, 64) > 96).astype(np.uint8)
    np.savez(file, imgs=images, latents_classes=classes, latents_values=values, metadata=metadata)
    return f"{count} images of 64x64, of 0 and 1"


def _mnist_npz(file: Any) -> str:
    _numpy().savez(file, x_train=_images(60000), y_train=_labels(60000), x_test=_images(10000), y_test=_labels(10000))
    return "60000 and 10000 images of 28x28"


def _mnist_pickle(file: Any) -> str:
    np = _numpy()
    parts = tuple((_images(n).reshape(n, 784).astype(np.float32) / 255, _labels(n)) for n in (5000, 1000, 1000))
    file.write(gzip.compress(pickle.dumps(parts, protocol=2), 1))
    return "5000, 1000 and 1000 images of 784 numbers from 0 to 1"


def _binarised(file: Any) -> str:
    rows = (_images(1000).reshape(1000, 784) > 96).astype(int)
    file.write("\n".join(" ".join(map(str, row)) for row in rows.tolist()).encode() + b"\n")
    return "1000 images of 784 numbers, 0 or 1"


def _idx(file: Any, *, images: bool, train: bool, packed: bool) -> str:
    count = 60000 if train else 10000
    values = _images(count) if images else _labels(count).astype("uint8")
    head = struct.pack(">IIII", 2051, count, 28, 28) if images else struct.pack(">II", 2049, count)
    data = head + values.tobytes()
    file.write(gzip.compress(data, 1) if packed else data)
    return f"{count} images of 28x28" if images else f"{count} labels from 0 to 9"


def _rows(file: Any) -> str:
    count = 2000
    values = _images(count).reshape(count, 784).tolist()
    lines = [",".join(["label", *(f"pixel{i}" for i in range(784))])]
    lines += [",".join(map(str, [label, *row])) for label, row in zip(_labels(count).tolist(), values, strict=True)]
    file.write("\n".join(lines).encode() + b"\n")
    return f"{count} rows of a label and 784 pixels"


def _frey(file: Any) -> str:
    savemat = importlib.import_module("scipy.io").savemat
    pool = drawn(_DISTINCT, 28, 20, 1, seed=1965)[:, 0].flatten(1).numpy()
    savemat(file, {"ff": pool[_numpy().arange(1965) % len(pool)].T})
    return "1965 images of 28x20"


def _omniglot(file: Any) -> str:
    savemat = importlib.import_module("scipy.io").savemat
    np = _numpy()
    parts = {name: (_images(n).reshape(n, 784).T > 96).astype(np.float64) for name, n in (("data", 24345), ("testdata", 8070))}
    targets = {name: np.eye(50)[_labels(n, 50)].T for name, n in (("target", 24345), ("testtarget", 8070))}
    savemat(file, {**parts, **targets, "targetchar": _labels(24345, 55)[None], "testtargetchar": _labels(8070, 55)[None]})
    return "24345 and 8070 images of 28x28"


def _caltech(file: Any) -> str:
    savemat = importlib.import_module("scipy.io").savemat
    np, counts = _numpy(), {"train": 4100, "val": 2264, "test": 2307}
    images = {f"{k}_data": (_images(n).reshape(n, 784) > 96).astype(np.uint8) for k, n in counts.items()}
    savemat(file, images | {f"{k}_labels": _labels(n, 101)[:, None] + 1 for k, n in counts.items()})
    return "4100, 2264 and 2307 images of 28x28, of 0 and 1"


def sentence(number: int) -> str:
    """A made-up sentence of 5 to 22 words; another one for each number."""
    return " ".join(_WORDS[(number * 5 + j * j + j) % len(_WORDS)] for j in range(5 + number % 18))


def _sentences(file: Any) -> str:
    lines = [sentence(i) for i in range(2000)]
    file.write(("\n ".join(["", *lines]) + " \n").encode())
    return "2000 sentences"


def molecule(number: int) -> str:
    """A made-up molecule as SMILES; another one for most numbers."""
    parts = ("C", "CC", "O", "N", "C(=O)", "c1ccccc1", "S", "CN", "C#N", "F")
    return "".join(parts[(number * 3 + j * (number % 7 + 1)) % len(parts)] for j in range(3 + number % 9))


def _molecules(file: Any) -> str:
    texts = [molecule(i) for i in range(1000)]
    rows = [f"{text},{i % 50 / 10 - 1:.2f},{i % 90 / 100:.2f},{1 + i % 60 / 10:.2f}" for i, text in enumerate(texts)]
    file.write(("smiles,logP,qed,SAS\n" + "\n".join(rows) + "\n").encode())
    return "1000 molecules with logP, qed and SAS"


@dataclass(frozen=True)
class PublicFile:
    """A file that many repositories read: the pattern of its name, what it is, and what writes one, into an open file."""

    pattern: str
    what: str
    write: Callable[[Any], str]


def _ubyte(what: str, *, images: bool, train: bool) -> list[PublicFile]:
    kind = "images.idx3" if images else "labels.idx1"
    stem = rf"{'train' if train else 't10k'}-{kind.replace('.', '[-.]')}-ubyte"
    return [
        PublicFile(stem + end, what, partial(_idx, images=images, train=train, packed=packed))
        for end, packed in (("", False), (r"\.gz", True))
    ]


FILES = (
    PublicFile(r"dsprites.*\.npz", "dSprites", _dsprites),
    PublicFile(r"mnist\.npz", "MNIST", _mnist_npz),
    PublicFile(r"mnist\.pkl\.gz", "MNIST", _mnist_pickle),
    PublicFile(r"binarized_mnist_(train|valid|test)\.amat", "binarised MNIST", _binarised),
    PublicFile(r"(fashion[-_])?mnist_(train|test)\.csv", "MNIST", _rows),
    PublicFile(r"frey_?rawface\.mat", "Frey faces", _frey),
    PublicFile(r"chardata\.mat", "Omniglot", _omniglot),
    PublicFile(r"caltech101_silhouettes_28_split1\.mat", "Caltech 101 silhouettes", _caltech),
    PublicFile(r"(ptb|wiki)\.(train|valid|test)\.(txt|tokens|raw)", "a corpus of sentences", _sentences),
    PublicFile(r"250k_rndm_zinc_drugs_clean_3\.csv", "ZINC", _molecules),
    *_ubyte("MNIST", images=True, train=True), *_ubyte("MNIST", images=True, train=False),
    *_ubyte("MNIST", images=False, train=True), *_ubyte("MNIST", images=False, train=False),
)  # fmt: skip


def public_file(name: str) -> PublicFile | None:
    """What is known of a file's name."""
    return next((f for f in FILES if re.fullmatch(f.pattern, name, re.IGNORECASE)), None)
