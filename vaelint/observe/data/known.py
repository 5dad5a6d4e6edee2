"""Public data sets: how many, how large, how labelled. Sizes as their own pages state them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_STL = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


@dataclass(frozen=True)
class Images:
    """A data set of images. `counts` by split; `kept`: how `data` is laid out; `labels`: the attribute that holds the labels."""

    counts: Mapping[str, int]
    height: int
    width: int
    channels: int
    classes: tuple[str, ...]
    kept: str = "HWC"  # "HW": a tensor (N, H, W); "HWC", "CHW": an array
    labels: str = "targets"
    attributes: int = 0  # binary attributes in the place of a class


_MNIST = {"train": 60000, "test": 10000}
_TEN = tuple(f"{i} - {name}" for i, name in enumerate(_DIGITS))

KNOWN = {
    "MNIST": Images(_MNIST, 28, 28, 1, _TEN, "HW"),
    "QMNIST": Images(_MNIST, 28, 28, 1, _TEN, "HW"),
    "FashionMNIST": Images(_MNIST, 28, 28, 1, _CLOTHES, "HW"),
    "KMNIST": Images(_MNIST, 28, 28, 1, ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"), "HW"),
    "CIFAR10": Images({"train": 50000, "test": 10000}, 32, 32, 3, _CIFAR),
    "CIFAR100": Images({"train": 50000, "test": 10000}, 32, 32, 3, tuple(f"class {i}" for i in range(100))),
    "SVHN": Images({"train": 73257, "test": 26032, "extra": 531131}, 32, 32, 3, _DIGITS, "CHW", "labels"),
    "STL10": Images({"train": 5000, "test": 8000, "unlabeled": 100000, "train+unlabeled": 105000}, 96, 96, 3, _STL, "CHW", "labels"),
    "CelebA": Images({"train": 162770, "valid": 19867, "test": 19962, "all": 202599}, 218, 178, 3, (), attributes=40),
    "Omniglot": Images({"train": 19280, "test": 13180}, 105, 105, 1, tuple(f"character {i}" for i in range(964))),
}

EMNIST = {
    "byclass": ({"train": 697932, "test": 116323}, 62),
    "bymerge": ({"train": 697932, "test": 116323}, 47),
    "balanced": ({"train": 112800, "test": 18800}, 47),
    "letters": ({"train": 124800, "test": 20800}, 27),
    "digits": ({"train": 240000, "test": 40000}, 10),
    "mnist": (_MNIST, 10),
}


def emnist(split: str) -> Images:
    """EMNIST has a size for each of its splits."""
    counts, classes = EMNIST[split]
    return Images(counts, 28, 28, 1, tuple(str(i) for i in range(classes)), "HW")
